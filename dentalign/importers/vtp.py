"""Read VTK PolyData files (XML, `.vtp`): points, polygons, and the values of points and polygons.

Arrays may be text (`ascii`), inline (`binary`, base64) or appended (base64 or raw), uncompressed or
compressed with zlib, VTK's default. Not supported: other compressors, triangle strips, several pieces, and
the older format `.vtk`. Format: VTK User's Guide, "VTK XML File Formats".
"""

import base64
import re
import zlib
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from dentalign.geometry.rigid import Array

MAX_MB = 512.0  # of one array, unpacked
_TYPES = {
    f"{kind}{8 * size}": f"{kind[0].lower()}{size}" for kind in ("Int", "UInt") for size in (1, 2, 4, 8)
}
_TYPES |= {"Float32": "f4", "Float64": "f8"}
_HEADS = {"UInt32": 4, "UInt64": 8}
_ZLIB = "vtkZLibDataCompressor"


@dataclass(frozen=True)
class PolyData:
    """Triangles of a file, and values of their vertices and faces.

    vertices    : (V, 3) float64, in the file's unit
    faces       : (F, 3) int64; a polygon with more than three corners becomes a fan of triangles
    of_vertices : name of an array -> its values (V, ...)
    of_faces    : name of an array -> its values (F, ...)
    """

    vertices: Array
    faces: NDArray[np.int64]
    of_vertices: dict[str, NDArray[np.generic]]
    of_faces: dict[str, NDArray[np.generic]]


def read(data: bytes) -> PolyData:
    """Read the bytes of a file; the text of a ValueError names the fault."""
    xml, appended = _split(data)
    if b"<!DOCTYPE" in xml or b"<!ENTITY" in xml:
        raise ValueError("it has a document type declaration, which no VTP file needs")
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML at line {error.position[0]}") from None
    if root.tag != "VTKFile" or root.get("type") != "PolyData":
        raise ValueError("not a VTK file of PolyData")
    pieces = root.findall("PolyData/Piece")
    if len(pieces) != 1:
        raise ValueError(f"{len(pieces)} pieces; only files with one piece are supported")
    arrays = _Arrays(root, appended)
    piece = pieces[0]
    counts = {
        name: int(piece.get(f"NumberOf{name}", "0"))
        for name in ("Points", "Verts", "Lines", "Strips", "Polys")
    }
    if counts["Strips"]:
        raise ValueError("triangle strips are not supported; write triangles")
    vertices = arrays.values(piece.find("Points/DataArray"), counts["Points"]).astype(np.float64)
    corners = {array.get("Name"): arrays.values(array) for array in piece.findall("Polys/DataArray")}
    if vertices.ndim != 2 or vertices.shape[1] != 3 or not {"connectivity", "offsets"} <= corners.keys():
        raise ValueError("points or polygons are missing")
    faces, polygon = _fans(corners["connectivity"].astype(np.int64), corners["offsets"].astype(np.int64))
    if len(faces) and not 0 <= faces.min() <= faces.max() < len(vertices):
        raise ValueError("a polygon refers to a point that does not exist")
    cells = sum(counts[name] for name in ("Verts", "Lines", "Polys"))
    first = counts["Verts"] + counts["Lines"]
    return PolyData(
        vertices,
        faces,
        _named(arrays, piece, "PointData", counts["Points"]),
        {name: values[first + polygon] for name, values in _named(arrays, piece, "CellData", cells).items()},
    )


def _split(data: bytes) -> tuple[bytes, bytes]:
    """Part a file into XML and the appended data, which need not be text."""
    if not (tag := re.search(rb"<AppendedData[^>]*>\s*_", data)):
        return data, b""
    end = data.rfind(b"</AppendedData>")
    if end < tag.end():
        raise ValueError("the file ends within its appended data")
    return data[: tag.end() - 1] + data[end:], data[tag.end() : end]


def _fans(
    connectivity: NDArray[np.int64], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Triangles (F, 3) of polygons, and the polygon (F,) that each is of."""
    sizes = np.diff(offsets, prepend=0)
    if (sizes < 0).any() or (len(offsets) and offsets[-1] > len(connectivity)):
        raise ValueError("the offsets of the polygons are damaged")
    per_polygon = np.maximum(sizes - 2, 0)
    polygon = np.repeat(np.arange(len(sizes)), per_polygon)
    start = (offsets - sizes)[polygon]
    step = np.arange(len(polygon)) - np.repeat(np.cumsum(per_polygon) - per_polygon, per_polygon)
    return connectivity[np.stack([start, start + step + 1, start + step + 2], axis=1)], polygon


def _named(
    arrays: "_Arrays", piece: ElementTree.Element, section: str, count: int
) -> dict[str, NDArray[np.generic]]:
    found = piece.findall(f"{section}/DataArray")
    return {
        array.get("Name", ""): arrays.values(array, count) for array in found if array.get("type") in _TYPES
    }


class _Arrays:
    """Decoder of the arrays of one file."""

    def __init__(self, root: ElementTree.Element, appended: bytes):
        if root.get("compressor", _ZLIB) != _ZLIB:
            raise ValueError(f"the compressor is not {_ZLIB}")
        self._zlib = "compressor" in root.attrib
        self._order = ">" if root.get("byte_order") == "BigEndian" else "<"
        if root.get("header_type", "UInt32") not in _HEADS:
            raise ValueError("the headers of its arrays are of a type that is not read")
        self._head = _HEADS[root.get("header_type", "UInt32")]
        section = root.find("AppendedData")
        self._raw = section is not None and section.get("encoding") == "raw"
        self._appended = appended

    def values(self, array: ElementTree.Element | None, count: int | None = None) -> NDArray[np.generic]:
        """Values of an array, (N,) or (N, components); raises ValueError if there are not `count` rows."""
        if array is None or array.get("type") not in _TYPES:
            raise ValueError("an array is missing, or of a type that is not read")
        dtype = np.dtype(self._order + _TYPES[array.get("type", "")])
        if array.get("format", "ascii") == "ascii":
            flat = np.array((array.text or "").split(), dtype=np.float64).astype(dtype)
        else:
            data = self._binary(array)
            if len(data) % dtype.itemsize:
                raise ValueError("an array ends within a number")
            flat = np.frombuffer(data, dtype)
        components = max(int(array.get("NumberOfComponents", "1")), 1)
        if len(flat) % components or (count is not None and len(flat) != count * components):
            raise ValueError(
                f"array {array.get('Name', '')!r} has {len(flat)} numbers, not {count} x {components}"
            )
        return flat.reshape(-1, components) if components > 1 else flat

    def _binary(self, array: ElementTree.Element) -> bytes:
        """Bytes of an array that is not text: a header with lengths, then the data."""
        appended = array.get("format") == "appended"
        text = (
            self._appended[int(array.get("offset", "0")) :]
            if appended
            else b"".join((array.text or "").encode().split())
        )
        raw = appended and self._raw
        if not self._zlib:
            (size,), rest = self._header(text, 1, raw)
            if raw or text[: len(text) - len(rest)].endswith(b"="):
                return _take(rest, size, raw)[0]
            return _take(text, self._head + size, raw)[0][self._head :]  # header and data encoded as one
        (blocks, _, _), _ = self._header(text, 3, raw)
        lengths, rest = self._header(text, 3 + blocks, raw)
        packed, size = _take(rest, sum(lengths[3:]), raw)[0], lengths[1]
        if blocks * size > MAX_MB * 1e6:
            raise ValueError(f"an array of more than {MAX_MB:g} MB")
        parts, start = [], 0
        for length in lengths[3:]:
            unpacker = zlib.decompressobj()
            try:
                parts.append(unpacker.decompress(packed[start : start + length], size))
            except zlib.error:
                raise ValueError("compressed data are damaged") from None
            start += length
        return b"".join(parts)

    def _header(self, text: bytes, numbers: int, raw: bool) -> tuple[list[int], bytes]:
        """Whole numbers at the start of an array's data, and what follows them."""
        head, rest = _take(text, numbers * self._head, raw)
        values = np.frombuffer(head, f"{self._order}u{self._head}").astype(object)
        if values.sum() > MAX_MB * 1e6:
            raise ValueError(f"an array of more than {MAX_MB:g} MB")
        return values.tolist(), rest


def _take(text: bytes, size: int, raw: bool) -> tuple[bytes, bytes]:
    """First `size` bytes of data, decoded, and the text after them; raises ValueError if it ends before."""
    length = size if raw else (size + 2) // 3 * 4
    data = text[:length] if raw else base64.b64decode(text[:length])[:size]
    if len(data) < size:
        raise ValueError("the file ends within an array")
    return data, text[length:]
