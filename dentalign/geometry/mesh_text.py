"""Meshes written anew from their triangles, so that no header, name or comment is left in the file."""

import io

import numpy as np
from numpy.typing import NDArray

from dentalign.errors import ToothDefect
from dentalign.geometry import stl

_FIX = "export the mesh again"


def without_text(data: bytes, kind: str, *, file: str, tooth: int) -> bytes:
    """Return the same mesh without what an exporter writes for people, in the same format.

    A binary STL keeps the bytes of its triangles; numbers of other formats are written as exactly as they are
    read (float64). Colours and textures are dropped.

    kind        : "stl", "ply" or "obj"
    file, tooth : name of the file and FDI number, for an error
    raises      : ToothDefect where the data are no such mesh, or hold more than one
    """
    if kind == "stl":
        return _stl(data, file, tooth)
    import trimesh

    try:
        mesh = trimesh.load_mesh(io.BytesIO(data), file_type=kind, process=False)
        vertices, faces = np.asarray(mesh.vertices, "<f8"), np.asarray(mesh.faces, "<i4")
    except Exception as error:  # noqa: BLE001  whatever the parser trips over, it is this file's defect
        seen = f"not readable as {kind.upper()} ({type(error).__name__})"
        raise ToothDefect("malformed_mesh", seen, _FIX, file=file, tooth=tooth) from None
    if not len(faces) or not np.isfinite(vertices).all():
        seen = "no triangle, or a coordinate is NaN or infinite"
        raise ToothDefect("malformed_mesh", seen, _FIX, file=file, tooth=tooth)
    return _obj(vertices, faces) if kind == "obj" else _ply(vertices, faces)


def _stl(data: bytes, file: str, tooth: int) -> bytes:
    triangles = stl.read_triangles(data, file=file, tooth=tooth)
    plain = stl.without_text(data)
    if not plain.startswith(bytes(80)):  # ASCII, where text may stand between any two triangles
        lines = ["solid"]
        for corners in triangles.tolist():
            lines += ["facet normal 0 0 0", "outer loop"]
            lines += [f"vertex {x!r} {y!r} {z!r}" for x, y, z in corners]
            lines += ["endloop", "endfacet"]
        return "\n".join([*lines, "endsolid", ""]).encode("ascii")
    if len(plain) != 84 + 50 * len(triangles):
        seen = f"{len(plain)} bytes are more than the {len(triangles)} triangles that the header promises"
        raise ToothDefect("malformed_mesh", seen, _FIX, file=file, tooth=tooth)
    return plain


def _obj(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> bytes:
    lines = [f"v {x!r} {y!r} {z!r}" for x, y, z in vertices.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (faces + 1).tolist()]
    return "\n".join([*lines, ""]).encode("ascii")


def _ply(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> bytes:
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
        "property double x\nproperty double y\nproperty double z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.zeros(len(faces), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
    rows["count"], rows["corners"] = 3, faces
    return header.encode("ascii") + vertices.tobytes() + rows.tobytes()
