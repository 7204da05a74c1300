"""STL meshes, binary or ASCII: reading as triangles, writing, and their digest."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dentalign.errors import ToothDefect
from dentalign.files.hashing import sha256
from dentalign.geometry.rigid import unit

_HEADER_BYTES = 84
_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_FIX = "export the mesh again"


def read_triangles(data: bytes, *, file: str, tooth: int) -> NDArray[np.float64]:
    """Read the corners of the triangles of an STL file.

    data    : the file's bytes
    file    : path or URL for errors
    tooth   : FDI number, for errors
    returns : (F, 3, 3) float64 in the file's unit and frame; F >= 1, all finite
    raises  : ToothDefect where there is no triangle, the file ends early, or a coordinate is not finite
    """

    def defect(code: str, seen: str) -> ToothDefect:
        return ToothDefect(code, seen, _FIX, file=file, tooth=tooth)

    if not data:
        raise defect("empty_mesh", "the file is empty")
    if not _has_promised_size(data) and data[:64].lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise defect("not_a_mesh", "a web page; check the address of the meshes, or the token")
    if _is_ascii(data):
        triangles = _ascii(data, defect)
    else:
        if len(data) < _HEADER_BYTES:
            raise defect("truncated_mesh", f"the file ends after {len(data)} bytes, within its header")
        count = int.from_bytes(data[80:84], "little")
        held = (len(data) - _HEADER_BYTES) // _FACET.itemsize
        if count > held:
            raise defect("truncated_mesh", f"the header promises {count} triangles, the file holds {held}")
        triangles = np.frombuffer(data, _FACET, count, _HEADER_BYTES)["corners"].astype(np.float64)
    if not len(triangles):
        raise defect("empty_mesh", "the file holds no triangle")
    if not np.isfinite(triangles).all():
        raise defect("mesh_not_finite", "a coordinate is NaN or infinite")
    return triangles


def _has_promised_size(data: bytes) -> bool:
    """True for a whole binary file, whatever text its header holds."""
    promised = int.from_bytes(data[80:_HEADER_BYTES], "little")
    return len(data) == _HEADER_BYTES + _FACET.itemsize * promised


def _is_ascii(data: bytes) -> bool:
    """True for text that begins with "solid"; a binary file may, too, but has the size that it promises."""
    if _has_promised_size(data):
        return False
    start = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith(b"solid") and b"\0" not in data[:4096]


def _ascii(data: bytes, defect: Any) -> NDArray[np.float64]:
    import trimesh

    lower = data.removeprefix(b"\xef\xbb\xbf").lower()
    if lower.rfind(b"endsolid") < lower.rfind(b"facet"):  # the parser would take a truncated file
        raise defect("truncated_mesh", "the file ends before its line 'endsolid'")
    try:
        # Names may be in any encoding: guessing it, the parser would find other numbers in the same bytes.
        plain = lower.decode("ascii", errors="replace").replace("\ufffd", "?").encode("ascii")
        mesh = trimesh.load_mesh(io.BytesIO(plain), file_type="stl_ascii", process=False)
        return np.asarray(mesh.triangles, dtype=np.float64).reshape(-1, 3, 3)
    except Exception as error:  # noqa: BLE001  any failure of the parser is a defect of this file
        raise defect("malformed_mesh", f"not readable as ASCII STL ({type(error).__name__})") from None


def merged(triangles: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Merge equal corners of triangles (F, 3, 3): vertices (V, 3) and faces (F, 3)."""
    vertices, index = np.unique(triangles.reshape(-1, 3), axis=0, return_inverse=True)
    return vertices, index.reshape(-1, 3).astype(np.int64)


def without_text(data: bytes) -> bytes:
    """Remove an STL file's free text: the header, or the name after "solid".

    Exporters put patients' names there, and times. Data too short to be a mesh are returned unchanged.
    """
    if len(data) < _HEADER_BYTES:
        return data
    if not _is_ascii(data):
        return bytes(80) + data[80:]
    # Some files have no line breaks: keep what follows the name.
    return re.sub(rb"(?im)^([ \t]*(?:end)?solid)\b(?:(?!facet|vertex|solid)[^\r\n])*", rb"\1 ", data)


def mesh_sha256(data: bytes) -> str:
    """SHA-256, hexadecimal, of a mesh file without its free text: another header is the same mesh."""
    return sha256(without_text(data))


def as_binary(vertices: NDArray[Any], faces: NDArray[Any], header: bytes = b"") -> bytes:
    """Format a mesh as binary STL, normals from the winding.

    vertices, faces : (V, 3) float mm, (F, 3) int
    header          : up to 80 bytes
    """
    corners = np.asarray(vertices, dtype=np.float32)[faces]
    facets = np.zeros(len(faces), _FACET)
    facets["corners"] = corners
    facets["normal"] = unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    return header.ljust(80, b"\0")[:80] + len(faces).to_bytes(4, "little") + facets.tobytes()


def write_binary(path: str | Path, vertices: NDArray[Any], faces: NDArray[Any]) -> None:
    """Write a binary STL, see `as_binary`."""
    Path(path).write_bytes(as_binary(vertices, faces))
