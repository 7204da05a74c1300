"""Cases broken on purpose, so that a new user sees how dentalign reports what it leaves out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dentalign.demo_clinic import export

Document = dict[str, Any]


def _poses(stage: dict[str, Any]) -> dict[str, Any]:
    return dict(next(stage[key] for key in export.SPELLINGS if key in stage))


def _ends_half_way(json_file: Path, meshes: Path, document: Document) -> None:
    data = json_file.read_bytes()
    json_file.write_bytes(data[: len(data) // 2])


def _t2_out_of_range(json_file: Path, meshes: Path, document: Document) -> None:
    document["T2Stage"] = str(len(document["Staging"]) + 3)
    json_file.write_text(export.json_text(document), encoding="utf-8")


def _zero_quaternion(json_file: Path, meshes: Path, document: Document) -> None:
    for stage in document["Staging"]:
        _poses(stage)["16"]["rotation"] = dict.fromkeys("xyzw", 0.0)
    json_file.write_text(export.json_text(document), encoding="utf-8")


def _mesh_missing(json_file: Path, meshes: Path, document: Document) -> None:
    (meshes / "46.stl").unlink()


def _mesh_cut_short(json_file: Path, meshes: Path, document: Document) -> None:
    data = (meshes / "26.stl").read_bytes()
    (meshes / "26.stl").write_bytes(data[: len(data) // 3])


def _two_teeth_in_one_slot(json_file: Path, meshes: Path, document: Document) -> None:
    for stage in document["Staging"]:
        spelling = next(key for key in export.SPELLINGS if key in stage)
        stage[spelling]["55"] = stage[spelling]["15"]
    (meshes / "55.stl").write_bytes((meshes / "15.stl").read_bytes())
    json_file.write_text(export.json_text(document), encoding="utf-8")


# What was done -> how. Each is given the JSON file, the mesh folder and the good document of a case that
# has all 28 teeth.
DEFECTS: dict[str, Callable[[Path, Path, Document], None]] = {
    "JSON ends half way": _ends_half_way,
    "T2Stage beyond the last stage": _t2_out_of_range,
    "zero quaternion of tooth 16": _zero_quaternion,
    "mesh of tooth 46 missing": _mesh_missing,
    "mesh of tooth 26 cut short": _mesh_cut_short,
    "15 and 55 in one slot": _two_teeth_in_one_slot,
}
