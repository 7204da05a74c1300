"""Read scans with a label for each vertex or face: OBJ or PLY with a JSON beside it, labelled PLY, VTP."""

import io
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from dentalign.errors import ParamError
from dentalign.geometry import mesh_file
from dentalign.geometry.rigid import Array
from dentalign.importers import vtp
from dentalign.importers.source_folder import MAX_SCAN_MB, SourceFolder
from dentalign.importers.vtp import PolyData

Faces = NDArray[np.int64]
Values = NDArray[np.generic]
SUFFIXES = (".obj", ".ply", ".vtp")
LARGEST_LABEL = 1000
_LABEL = re.compile("label|fdi|universal|tooth|teeth|segment|class|predictedid", re.IGNORECASE)
_COLOURS = ("red", "green", "blue")
_SHOWN = 20  # colours in a message


@dataclass(frozen=True)
class LabelledScan:
    """Surface with a label for each vertex or each face.

    vertices : (V, 3) mm, in the order of the file
    faces    : (F, 3), indices of vertices
    labels   : (V,) or (F,), the numbers in the file; for a colour 0xRRGGBB
    per_face : True if there is a label for each face, not for each vertex
    coloured : True if labels are colours
    """

    vertices: Array
    faces: Faces
    labels: NDArray[np.int64]
    per_face: bool = False
    coloured: bool = False


def read(source: SourceFolder, name: str) -> LabelledScan:
    """Read a scan and its labels, from the JSON of the same name beside it or from the scan itself.

    raises: CaseDefect if scan or labels are missing, damaged, or do not fit each other
    """
    mesh = _read_mesh(source, name)
    beside = f"{name.rpartition('.')[0]}.json"
    if source.has(beside) or name.lower().endswith(".obj"):
        counts = {len(mesh.faces): True, len(mesh.vertices): False}  # if both are equal: vertices
        labels = column(source, beside, labels_beside(source, beside), "labels", *counts)
        return LabelledScan(mesh.vertices, mesh.faces, labels, counts[len(labels)])
    for coloured in (False, True):
        for per_face, values in ((False, mesh.of_vertices), (True, mesh.of_faces)):
            found = _colours(values) if coloured else _labels(source, name, values)
            if found is not None:
                return LabelledScan(mesh.vertices, mesh.faces, found, per_face, coloured)
    raise source.defect("missing_file", beside, "no labels in the scan, and no JSON with labels beside it")


def labels_beside(source: SourceFolder, name: str) -> dict[str, Any]:
    """Read the JSON with the labels of a scan; raises CaseDefect if it is missing or damaged."""
    if source.has(name):
        return source.json_object(name)
    seen = "no JSON with labels beside the scan (labels of a test split may be published elsewhere)"
    raise source.defect("missing_file", name, seen)


def column(
    source: SourceFolder, name: str, values: Mapping[str, Any], key: str, *counts: int
) -> NDArray[np.int64]:
    """Get the labels (n,) under a key of the JSON that `labels_beside` read.

    counts : numbers of labels that fit the scan
    raises : CaseDefect if there is no list of that length with whole numbers from -1000 to 1000
    """
    labels = _whole_numbers(values.get(key)) if isinstance(values.get(key), list) else None
    if labels is None or len(labels) not in counts:
        wanted = " or ".join(map(str, counts))
        seen = f"'{key}' is no list of {wanted} whole numbers, one for each vertex or face of the scan"
        raise source.defect("damaged_labels", name, seen)
    return labels


def _whole_numbers(values: Any) -> NDArray[np.int64] | None:
    """Labels (n,) of plain values; None if one is no whole number of the size of a label."""
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if numbers.ndim != 1 or not (np.abs(numbers) <= LARGEST_LABEL).all() or (numbers % 1).any():  # nor NaN
        return None
    return numbers.astype(np.int64)


def _read_mesh(source: SourceFolder, name: str) -> PolyData:
    """Read triangles with their values, vertices in the order of the file; raises CaseDefect."""
    if mesh_file.kind_of(name) != "vtp":
        vertices, faces = source.surface(name)
        is_ply = mesh_file.kind_of(name) == "ply"
        values = (
            _ply_values(source.read(name, MAX_SCAN_MB), len(vertices), len(faces)) if is_ply else ({}, {})
        )
        return PolyData(vertices, faces, *values)
    try:
        mesh = vtp.read(source.read(name, MAX_SCAN_MB))
    except ValueError as error:
        raise source.damaged_mesh(name, f"not readable as VTP ({error})") from None
    if not len(mesh.faces):
        raise source.damaged_mesh(name, "no faces")
    source.check_coordinates(name, mesh.vertices)
    return mesh


def _ply_values(data: bytes, vertices: int, faces: int) -> tuple[dict[str, Values], dict[str, Values]]:
    """Values of the vertices and of the faces of a PLY that `mesh_file` has read: colours, labels."""
    elements = trimesh.load_mesh(io.BytesIO(data), file_type="ply", process=False).metadata["_ply_raw"]
    return _properties(elements["vertex"]["data"], vertices), _properties(elements["face"]["data"], faces)


def _properties(data: Any, count: int) -> dict[str, Values]:
    """Properties of a PLY element that have one number in each of `count` rows."""
    names = data.dtype.names if isinstance(data, np.ndarray) else data.keys()
    found = {name: np.asarray(data[name]) for name in names or ()}
    return {
        name: values.reshape(-1)
        for name, values in found.items()
        if values.size == count and values.dtype.names is None
    }


def _labels(source: SourceFolder, name: str, values: Mapping[str, Values]) -> NDArray[np.int64] | None:
    """Labels among the values of vertices or faces; None if there are none."""
    columns = {key: numbers for key, one in values.items() if (numbers := _whole_numbers(one)) is not None}
    named = [key for key in columns if _LABEL.search(key)]
    if len(named) > 1:
        raise source.defect(
            "damaged_labels", name, f"{len(named)} arrays may be the labels: {', '.join(named)}"
        )
    return columns[named[0]] if named else None


def _colours(values: Mapping[str, Values]) -> NDArray[np.int64] | None:
    """Colours (n,) as numbers 0xRRGGBB; None if there are none."""
    channels = [values[name] for name in _COLOURS if name in values]
    wide = [
        one.T for one in values.values() if one.dtype == np.uint8 and one.ndim == 2 and one.shape[1] in (3, 4)
    ]
    if len(channels) < len(_COLOURS) and not wide:
        return None
    red, green, blue = (
        np.asarray(one, dtype=np.int64) for one in (channels if len(channels) == 3 else wide[0][:3])
    )
    return (red << 16) + (green << 8) + blue


def colour_names(labels: NDArray[np.int64]) -> str:
    """Text with the colours (n,), 0xRRGGBB, of a scan and how often each occurs, the most frequent first."""
    counts = Counter(labels.tolist()).most_common()
    more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    return ", ".join(f"#{colour:06x} ({count})" for colour, count in counts[:_SHOWN]) + more


def read_map(path: Path) -> dict[int, int]:
    """Read a JSON file from label or colour to tooth number, such as `{"3": 11, "#ff0000": 12}`.

    returns : label, or 0xRRGGBB of a colour -> tooth number, FDI or Universal
    raises  : ParamError if the file has no such content
    """
    try:
        values = json.loads(path.read_bytes().decode("utf-8-sig"))
        return {_label(key): int(value) for key, value in values.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        wanted = 'a JSON object from label or colour to tooth number, such as {"3": 11, "#ff0000": 12}'
        raise ParamError(f"{path}: not {wanted} ({type(error).__name__})") from None


def _label(key: str) -> int:
    return int(key.removeprefix("#"), 16 if key.startswith("#") else 10)
