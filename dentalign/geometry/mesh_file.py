"""Mesh files (STL, PLY, OBJ): reading, rewriting without free text, and hashing.

The extension of the file's name, in upper or lower case, gives the format. PLY and OBJ are parsed here
because trimesh reads a wrong mesh, without an error, from an ASCII PLY that ends early and from an OBJ with
an index 0. It also stops at a bad token with numpy before 2.3, and refuses a binary PLY with both triangles
and quadrilaterals. Colours, textures and materials are not read.
"""

import re
from array import array
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from dentalign.errors import ToothDefect
from dentalign.files.hashing import sha256
from dentalign.geometry import stl
from dentalign.geometry.file_kinds import UTF8_BOM, refuse_other
from dentalign.geometry.rigid import Array

KINDS = ("stl", "ply", "obj")
MOST_FACES = 2_000_000  # of a PLY or OBJ: scans have some 300,000; 64 MB have room for 16 million

_PLY_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8", "int64": "i8", "uint64": "u8",
}  # fmt: skip

Surface = tuple[Array, NDArray[np.int64]]  # vertices (V, 3); faces (F, 3)
_Property = tuple[str, str, str]  # of a PLY: name, type, and of a list the type of its length, else ""


def kind_of(name: str) -> str:
    """Extension of a file's name in lower case, without the dot; one of `KINDS` for a mesh."""
    return name.rpartition(".")[2].lower()


def read(data: bytes, *, file: str, tooth: int) -> Surface:
    """Read a mesh; polygons become triangles.

    data    : the file's bytes
    file    : name, path or URL; its extension gives the format
    tooth   : FDI number, for errors
    returns : vertices (V, 3) float64 in the file's unit, frame and order; equal vertices are not merged, and
              some may belong to no face. Faces (F, 3), F >= 1; their vertices are finite
    raises  : ToothDefect where the file is not of this format, ends early, contradicts itself, or has no face
    """
    kind = kind_of(file)
    if kind == "stl":
        triangles = stl.read_triangles(data, file=file, tooth=tooth)
        return triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3)

    def defect(code: str, seen: str) -> ToothDefect:
        return ToothDefect(code, seen, "export the mesh again", file=file, tooth=tooth)

    if kind not in KINDS:
        raise defect("not_a_mesh", "the extension is not .stl, .ply or .obj")
    if not data:
        raise defect("empty_mesh", "the file is empty")
    refuse_other(data, kind, file=file, tooth=tooth)
    try:
        vertices, corners = _read_obj(data) if kind == "obj" else _read_ply(data)
    except EOFError as error:
        raise defect("truncated_mesh", f"the file ends before {error}") from None
    except BufferError as error:
        raise defect("contradictory_mesh", str(error)) from None
    except MemoryError as error:
        raise defect("malformed_mesh", str(error)) from None
    except (ValueError, LookupError, OverflowError) as error:
        seen = f"not readable as {kind.upper()} ({type(error).__name__})"
        if re.search(rb"(?m)^(v\s+)?[-+]?\d*,\d+\s", data):
            seen = f"decimal commas, such as 1,5 for 1.5; {kind.upper()} has decimal points"
        raise defect("malformed_mesh", seen) from None
    if not len(corners):
        raise defect("empty_mesh", "the file holds no face")
    if not ((corners >= 0) & (corners < len(vertices)) & (corners == np.floor(corners))).all():
        raise defect("malformed_mesh", f"a face has a vertex that is none of the file's {len(vertices)}")
    faces = corners.astype(np.int64)
    if not np.isfinite(vertices[faces]).all():
        raise defect("mesh_not_finite", "a coordinate is NaN or infinite")
    return vertices, faces


def read_triangles(data: bytes, *, file: str, tooth: int) -> Array:
    """Read a mesh as the corners of its triangles, (F, 3, 3) float64; arguments and errors as for `read`."""
    vertices, faces = read(data, file=file, tooth=tooth)
    return vertices[faces]


def without_text(data: bytes, *, file: str, tooth: int) -> bytes:
    """Rewrite a mesh file in its format without free text, such as header, names and comments.

    The triangles of a binary STL keep their bytes, those of an ASCII STL their digits. Coordinates of a PLY
    or OBJ are written exactly as they are read (float64). Arguments and errors as for `read`.
    """
    kind = kind_of(file)
    if kind == "stl":
        return stl.without_text(data, file=file, tooth=tooth)
    vertices, faces = read(data, file=file, tooth=tooth)
    return _obj(vertices, faces) if kind == "obj" else _ply(vertices, faces)


def mesh_sha256(data: bytes, *, file: str) -> str:
    """SHA-256, hexadecimal, of a mesh without the free text of its file; of all bytes if it is no mesh."""
    if kind_of(file) == "stl":
        return stl.mesh_sha256(data)
    try:
        return sha256(read_triangles(data, file=file, tooth=0).astype("<f8").tobytes())
    except ToothDefect:
        return sha256(data)


def _read_obj(data: bytes) -> tuple[Array, Array]:
    """Vertices (V, 3) and corners (F, 3) of an OBJ, counted from 0; -1 for an index that is none."""
    coordinates, corners = array("d"), array("d")
    text = re.sub(rb"\\(\r\n|\r|\n)", b" ", data.removeprefix(UTF8_BOM)).replace(b"\r", b"\n")
    for line in BytesIO(text):
        match line.partition(b"#")[0].split():
            case [b"v", x, y, z, *_]:
                coordinates.extend((float(x), float(y), float(z)))
            case [b"f", *words]:
                # From 1; or negative, back from the vertices so far.
                indices = [int(word.partition(b"/")[0]) for word in words]
                so_far = len(coordinates) // 3
                corners.extend(_fan([one - 1 if one >= 0 else max(so_far + one, -1) for one in indices]))
                _check_count(len(corners) // 3, MOST_FACES)
            case [b"v", *_]:
                raise ValueError("a vertex of less than three coordinates")
    return np.array(coordinates).reshape(-1, 3), np.array(corners).reshape(-1, 3)


def _read_ply(data: bytes) -> tuple[Array, Array]:
    """Vertices (V, 3) and corners (F, 3) of a PLY, in the order of the file."""
    header_end = re.search(rb"\bend_header[ \t]*(?:\r\n|\n|\r)", data)
    if header_end is None:
        raise EOFError("its line 'end_header'")
    order, elements = _ply_header(data[: header_end.start()].decode("latin-1"))
    body = _PlyBody(data[header_end.end() :], order)
    vertices = corners = np.zeros((0, 3))
    for element, count, properties in elements:
        if any(length for _, _, length in properties):
            polygons = _ply_polygons(body, count, properties, element == "face")
            corners = polygons if element == "face" else corners
            continue
        table = body.table([kind for _, kind, _ in properties], count)
        if element == "vertex":
            names = [name for name, _, _ in properties]
            vertices = table[:, [names.index(axis) for axis in "xyz"]]
    if not body.is_read:
        raise BufferError("the file holds more data than its header counts")
    return vertices, corners


def _ply_header(text: str) -> tuple[str, list[tuple[str, int, list[_Property]]]]:
    """Byte order, "" for text, and name, count and properties of each element."""
    order: str | None = None
    elements: list[tuple[str, int, list[_Property]]] = []
    for line in text.splitlines():
        match line.split():
            case ["format", form, *_]:
                order = _PLY_ORDERS[form]
            case ["element", name, count]:
                elements.append((name, int(count), []))
            case ["property", "list", length, kind, name]:
                elements[-1][2].append((name, _PLY_TYPES[kind], _PLY_TYPES[length]))
            case ["property", kind, name]:
                elements[-1][2].append((name, _PLY_TYPES[kind], ""))
    if order is None:
        raise ValueError("no line 'format'")
    return order, elements


class _PlyBody:
    """Numbers of a PLY file in turn: text, or binary of the byte order "<" or ">".

    at : index of the next number of a text, or offset of the next byte
    """

    def __init__(self, body: bytes, order: str):
        self.at, self._order, self._body = 0, order, body
        words = () if order else re.finditer(rb"\S+", body)
        self._numbers = np.fromiter((float(word[0]) for word in words), np.float64)

    def table(self, types: Sequence[str], count: int) -> Array:
        """Read the next `count` rows of numbers of these types, (count, columns); raises EOFError."""
        if not types or count < 0:
            raise ValueError("an element without properties, or a negative count")
        _check_count(count, 3 * MOST_FACES)
        row = np.dtype([(str(column), self._order + kind) for column, kind in enumerate(types)])
        size = count * (row.itemsize if self._order else len(types))
        if self.at + size > len(self._body if self._order else self._numbers):
            raise EOFError(f"the last of {count} expected rows")
        start, self.at = self.at, self.at + size
        if not self._order:
            return self._numbers[start : self.at].reshape(count, len(types))
        rows = np.frombuffer(self._body, row, count, start)
        with np.errstate(invalid="ignore"):  # NaN is refused later, without numpy's warning
            return np.stack([rows[str(column)].astype(np.float64) for column in range(len(types))], axis=1)

    @property
    def is_read(self) -> bool:
        """True if nothing is left, or fill bytes."""
        return not self._body[self.at :].strip(b"\0\r\n") if self._order else self.at == len(self._numbers)


def _ply_polygons(body: _PlyBody, count: int, properties: Sequence[_Property], faces: bool) -> Array:
    """Corners (F, 3) of the triangles of polygons; lists of another element than `faces` are passed over."""
    _check_count(count, MOST_FACES)
    lists = [name for name, _, length in properties if length]
    wanted = next((name for name in ("vertex_indices", "vertex_index") if name in lists), lists[0])
    # Nearly always triangles: read as such if every list turns out to have three entries.
    start = body.at
    columns: dict[str, int] = {}
    types: list[str] = []
    for name, kind, length in properties:
        columns[name] = len(types)
        types += [length, kind, kind, kind] if length else [kind]
    try:
        table = body.table(types, count)
        if (table[:, [columns[name] for name in lists]] == 3).all():
            return table[:, columns[wanted] + 1 : columns[wanted] + 4]
    except EOFError:
        pass
    body.at = start
    corners = array("d")
    for _ in range(count):
        for name, kind, length in properties:
            size = int(body.table([length], 1)[0, 0]) if length else 1
            entries = body.table([kind], size)
            if faces and name == wanted:
                corners.extend(_fan(entries[:, 0].tolist()))
                _check_count(len(corners) // 3, MOST_FACES)
    return np.array(corners).reshape(-1, 3)


def _fan(polygon: Sequence[float]) -> list[float]:
    """Corners of the triangles of a polygon, one triangle after the other."""
    if len(polygon) < 3:
        raise ValueError("a face of less than three corners")
    _check_count(len(polygon), MOST_FACES)
    return [corner for two in range(2, len(polygon)) for corner in (polygon[0], *polygon[two - 1 : two + 1])]


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise MemoryError(f"{count} faces, corners or vertices, more than {most}")


def _obj(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> bytes:
    lines = [f"v {x!r} {y!r} {z!r}" for x, y, z in vertices.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (faces + 1).tolist()]
    return "\n".join([*lines, ""]).encode("ascii")


def _ply(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> bytes:
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
        "property double x\nproperty double y\nproperty double z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.zeros(len(faces), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
    rows["count"], rows["corners"] = 3, faces
    return header.encode("ascii") + vertices.astype("<f8").tobytes() + rows.tobytes()
