"""STL meshes, binary or ASCII: reading, writing, rewriting without free text, and hashing."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dentalign.errors import ToothDefect
from dentalign.files.hashing import sha256
from dentalign.geometry.file_kinds import UTF8_BOM, is_whole_binary_stl, refuse_other
from dentalign.geometry.rigid import unit

_HEADER_BYTES = 84
_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_FIX = "export the mesh again"

# ASCII STL in lower case. No quantifier gives back what it took, so that no text takes long.
_NUMBER = rb"((?:[-+]?(?:\d++\.?\d*+|\.\d++)(?:[ed][-+]?\d++)?|[-+]?(?:nan|inf(?:inity)?))(?!\S))"
_VERTEX = rb"\s++vertex" + 3 * (rb"\s++" + _NUMBER)
_ASCII_FACET = re.compile(
    rb"\bfacet(?:\s++normal(?:\s++(?!outer\b)\S++){0,3})?\s++outer\s++loop"
    + 3 * _VERTEX
    + rb"\s++endloop\s++endfacet\b"
)
_FACET_BEGINS = rb"\bfacet\s+(?:normal\s+(?:[-+.\d]|nan|outer\b)|outer\b)"
# A name may be any text up to the end of its line; of a file without line breaks, up to the first facet.
# Of "endsolid", too. Lazy: before Python 3.11.5 a possessive repeat of a group matches wrongly (gh-106052).
_NAME = re.compile(rb"solid\b[^\n]*?(?=" + _FACET_BEGINS + rb"|\n|\Z)")
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x19\x1b-\x1f]")
_KEYWORDS = re.compile(rb"\b(?:(outer)\s+loop|(endloop)|(endfacet))\b")
_DECIMAL_COMMA = re.compile(rb"\bvertex\s+(?:\S+\s+){0,2}?[-+]?\d*,\d")
_PLAIN_FACET = b"facet normal 0 0 0\nouter loop\n" + 3 * b"vertex %b %b %b\n" + b"endloop\nendfacet\n"

MakeDefect = Callable[[str, str], ToothDefect]


def read_triangles(data: bytes, *, file: str, tooth: int) -> NDArray[np.float64]:
    """Read the corners of the triangles of an STL file.

    data    : the file's bytes
    file    : path or URL, for errors
    tooth   : FDI number, for errors
    returns : (F, 3, 3) float64 in the file's unit and frame; F >= 1, all finite
    raises  : ToothDefect where the file is no STL, has no triangle, ends early or contradicts its own count,
              or where a coordinate is not a finite number
    """
    defect = _checked(data, file, tooth)
    if _is_ascii(data):
        numbers = map(float, _ascii_numbers(data, defect))
        triangles = np.fromiter(numbers, np.float64).reshape(-1, 3, 3)
    else:
        count = _binary_count(data, defect)
        with np.errstate(invalid="ignore"):  # NaN is refused below, without numpy's warning
            triangles = np.frombuffer(data, _FACET, count, _HEADER_BYTES)["corners"].astype(np.float64)
    if not len(triangles):
        raise defect("empty_mesh", "the file holds no triangle")
    if not np.isfinite(triangles).all():
        raise defect("mesh_not_finite", "a coordinate is NaN or infinite")
    return triangles


def _checked(data: bytes, file: str, tooth: int) -> MakeDefect:
    """Refuse what is empty or another kind of file; return what makes the defects of this one."""

    def defect(code: str, seen: str) -> ToothDefect:
        return ToothDefect(code, seen, _FIX, file=file, tooth=tooth)

    if not data:
        raise defect("empty_mesh", "the file is empty")
    refuse_other(data, "stl", file=file, tooth=tooth)
    return defect


def _is_ascii(data: bytes) -> bool:
    """True for text: a binary file has zeros in its count, or the size that it promises."""
    start = data[:1024].rstrip(b"\0")
    return bool(start) and not is_whole_binary_stl(data) and not _CONTROL.search(start)


def _binary_count(data: bytes, defect: MakeDefect) -> int:
    """Return the number of facets of a binary file, of which the size must not contradict it."""
    if len(data) < _HEADER_BYTES:
        raise defect("truncated_mesh", f"the file ends after {len(data)} bytes, within its header")
    count = int.from_bytes(data[80:_HEADER_BYTES], "little")
    held = (len(data) - _HEADER_BYTES) // _FACET.itemsize
    if count > held:
        raise defect("truncated_mesh", f"the header promises {count} triangles, the file holds {held}")
    if count < held and data[_HEADER_BYTES + count * _FACET.itemsize :].strip(b"\0"):
        seen = f"the header counts {count} triangles, the file has room for {held}"
        raise defect("contradictory_mesh", seen)
    return count


def _ascii_numbers(data: bytes, defect: MakeDefect) -> list[bytes]:
    """Return the nine coordinates of each facet of an ASCII file, as `float` takes them.

    Text that is no facet is passed over if it is a name, or stands before the first or behind the last solid.
    """
    text = data.removeprefix(UTF8_BOM).rstrip(b"\0").lower().replace(b"\r", b"\n")
    text = _NAME.sub(b"solid ", text)
    if b"solid" not in text and b"facet" not in text:
        raise defect("not_a_mesh", "not an STL: a text without a facet")
    parts = _ASCII_FACET.split(text)  # what stands between two facets, then nine numbers, and so on
    _, end, rest = parts[-1].rpartition(b"endsolid")
    if not end or re.search(rb"(?m)^\s*solid\b|" + _FACET_BEGINS, rest):
        raise defect("truncated_mesh", "the file ends before its line 'endsolid'")
    damaged = [place for place, between in enumerate(parts[::10], 1) if _KEYWORDS.search(between)]
    if damaged and _DECIMAL_COMMA.search(text):
        raise defect("malformed_mesh", "decimal commas, such as 1,5 for 1.5; STL has decimal points")
    if damaged:
        raise defect("malformed_mesh", f"facet {damaged[0]} is not three vertices of three numbers each")
    if b"\0" in text:
        raise defect("malformed_mesh", "zeros within the text: an ASCII and a binary file joined?")
    del parts[::10]
    return b" ".join(parts).replace(b"d", b"e").split()  # Fortran writes 1.5d+01


def merged(triangles: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Merge equal corners of triangles (F, 3, 3); returns vertices (V, 3) and faces (F, 3)."""
    vertices, index = np.unique(triangles.reshape(-1, 3), axis=0, return_inverse=True)
    return vertices, index.reshape(-1, 3).astype(np.int64)


def without_text(data: bytes, *, file: str = "", tooth: int = 0) -> bytes:
    """Rewrite an STL without free text: header, names, comments, and what follows the last triangle.

    Exporters write patients' names and times there. Binary triangles keep their bytes, ASCII ones their
    digits.

    raises : ToothDefect as `read_triangles`, except for coordinates that are NaN or infinite
    """
    defect = _checked(data, file, tooth)
    if not _is_ascii(data):
        end = _HEADER_BYTES + _binary_count(data, defect) * _FACET.itemsize
        return bytes(80) + data[80:end]
    numbers = _ascii_numbers(data, defect)
    facets = (_PLAIN_FACET % tuple(numbers[first : first + 9]) for first in range(0, len(numbers), 9))
    return b"".join([b"solid\n", *facets, b"endsolid\n"])


def mesh_sha256(data: bytes) -> str:
    """SHA-256, hexadecimal, of an STL `without_text`, so that headers and names make no difference.

    If the file is no readable STL, the hash of all its bytes, without an error: `read_triangles` raises it.
    """
    try:
        return sha256(without_text(data))
    except ToothDefect:
        return sha256(data)


def as_binary(vertices: NDArray[Any], faces: NDArray[Any], header: bytes = b"") -> bytes:
    """Format a mesh as binary STL, with normals from the winding of the faces.

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
