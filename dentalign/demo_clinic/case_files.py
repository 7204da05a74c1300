"""Case documents as a planning system exports them, and defects for some cases."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from dentalign import teeth
from dentalign.demo_clinic.treatment_plan import Poses
from dentalign.geometry.rigid import Array

Document = dict[str, Any]

RELATIVE = "RelativeToothTransforms"
# Fields in which a document may have its tooth poses, and the share of cases with each.
SPELLINGS = (RELATIVE, "ToothTransforms", "RelativeToothTransformsHead")
SPELLING_SHARES = (0.65, 0.20, 0.15)


def document(case_id: str, number: int, t1: Poses, t2: Poses, rng: np.random.Generator) -> Document:
    """Make the JSON document of a case.

    number : running number of the patient, part of the made-up name
    t1, t2 : FDI -> pose (4, 4), tooth-local -> head, mm; a tooth of t1 that is not in t2 is only in the first
             treatment stage
    """
    stages = int(rng.integers(5, 26))
    spelling = SPELLINGS[int(rng.choice(3, p=SPELLING_SHARES))]
    jaws_on_top, jaws_per_stage = ((True, True), (True, False), (False, True))[int(rng.integers(3))]
    one_past = rng.random() < 0.25
    jaws = {upper: _jaw_pose(rng) for upper in (True, False)}
    tracks = {}
    for fdi in sorted(t1):
        rotations, translations = _track(t1[fdi], t2.get(fdi), stages)
        if spelling == RELATIVE:
            jaw, offset = jaws[teeth.is_upper(fdi)]
            rotations, translations = jaw.inv() * rotations, jaw.inv().apply(translations - offset)
        tracks[fdi] = rotations.as_quat(), translations
    upper, lower = (_transform(jaws[k][0].as_quat(), jaws[k][1]) for k in (True, False))
    jaw_poses = {"MaxillaryTransform": upper, "MandibularTransform": lower} if jaws_per_stage else {}
    staging = [
        {
            "Stage": k,
            **jaw_poses,
            spelling: {str(f): _transform(q[k], t[k]) for f, (q, t) in tracks.items() if k < len(q)},
        }
        for k in range(stages)
    ]
    return {
        "CaseID": case_id,
        "PatientName": f"TEST^PATIENT {number:04d}",
        "PatientBirthDate": f"{int(rng.integers(1980, 2012))}-01-01",
        "Doctor": f"TEST^DOCTOR {int(rng.integers(1, 6))}",
        "Comment": "made-up case of the dentalign demo clinic",
        "T2Stage": str(stages if one_past else stages - 1),
        "maxillaRelativeTransform": upper if jaws_on_top else {},
        "mandibularRelativeTransform": lower if jaws_on_top else {},
        "Staging": staging,
    }


def write_json(path: Path, case: Document) -> None:
    """Write a document as a JSON file."""
    path.write_text(json.dumps(case, separators=(",", ":")), encoding="utf-8")


def tooth_poses(stage: Mapping[str, Any]) -> dict[str, Any]:
    """Tooth poses of a treatment stage, from the field that has them; the dict itself, not a copy."""
    poses: dict[str, Any] = next(stage[key] for key in SPELLINGS if key in stage)
    return poses


def _track(first: Array, last: Array | None, stages: int) -> tuple[Rotation, Array]:
    """Rotations and translations of a tooth, one per stage: slerp and lerp; one stage if extracted."""
    if last is None:
        return Rotation.from_matrix(first[None, :3, :3]), first[None, :3, 3]
    share = np.linspace(0, 1, stages)
    ends = Rotation.from_matrix(np.stack([first[:3, :3], last[:3, :3]]))
    return Slerp([0.0, 1.0], ends)(share), first[:3, 3] + share[:, None] * (last[:3, 3] - first[:3, 3])


def _jaw_pose(rng: np.random.Generator) -> tuple[Rotation, Array]:
    """Jaw -> head: nearly the head's axes, its origin off the arch's centroid."""
    rotation = Rotation.from_rotvec(rng.normal(0, np.radians(1.0), 3))
    return rotation, np.array([0.0, 20.0, 0.0]) + rng.normal(0, 1, 3)


def _transform(xyzw: Array, translation: Array) -> dict[str, dict[str, float]]:
    return {
        "translation": dict(zip("xyz", (round(float(v), 6) for v in translation), strict=True)),
        "rotation": dict(zip("xyzw", (round(float(v), 6) for v in xyzw), strict=True)),
    }


def _truncate(file: Path, parts: int) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // parts])


def _zero_quaternion(json_file: Path, meshes: Path, case: Document) -> None:
    for stage in case["Staging"]:
        tooth_poses(stage)["16"]["rotation"] = dict.fromkeys("xyzw", 0.0)
    write_json(json_file, case)


def _two_teeth_in_one_slot(json_file: Path, meshes: Path, case: Document) -> None:
    for stage in case["Staging"]:
        tooth_poses(stage)["55"] = tooth_poses(stage)["15"]
    (meshes / "55.stl").write_bytes((meshes / "15.stl").read_bytes())
    write_json(json_file, case)


# Defect -> function that makes it, given the JSON file, the mesh folder and the good document of a case that
# has all 28 teeth. They show a new user how dentalign reports what it leaves out.
DEFECTS: dict[str, Callable[[Path, Path, Document], None]] = {
    "JSON truncated": lambda file, meshes, case: _truncate(file, 2),
    "T2Stage beyond the last stage": lambda file, meshes, case: write_json(
        file, case | {"T2Stage": str(len(case["Staging"]) + 3)}
    ),
    "zero quaternion of tooth 16": _zero_quaternion,
    "mesh of tooth 46 missing": lambda file, meshes, case: (meshes / "46.stl").unlink(),
    "mesh of tooth 26 truncated": lambda file, meshes, case: _truncate(meshes / "26.stl", 3),
    "15 and 55 in one slot": _two_teeth_in_one_slot,
}
