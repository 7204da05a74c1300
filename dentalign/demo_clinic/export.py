"""Cases as a planning system exports them: one JSON per case and one binary STL per crown."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from dentalign import teeth
from dentalign.demo_clinic.treatment_plan import Poses

Array = NDArray[np.float64]

RELATIVE, ABSOLUTE, ABSOLUTE_HEAD = (
    "RelativeToothTransforms",
    "ToothTransforms",
    "RelativeToothTransformsHead",
)
SPELLINGS = (RELATIVE, ABSOLUTE, ABSOLUTE_HEAD)
SPELLING_SHARES = (0.65, 0.20, 0.15)


def document(case_id: str, number: int, t1: Poses, t2: Poses, rng: np.random.Generator) -> dict[str, Any]:
    """The JSON document of a case.

    t1, t2 : FDI -> (4, 4) head poses; a tooth of t1 that is not in t2 is extracted after the first stage
    """
    stages = int(rng.integers(5, 26))
    spelling = SPELLINGS[int(rng.choice(3, p=SPELLING_SHARES))]
    jaws_on_top, jaws_per_stage = ((True, True), (True, False), (False, True))[int(rng.integers(3))]
    one_past = rng.random() < 0.25
    jaws = {upper: _jaw_pose(rng) for upper in (True, False)}
    tracks = {}
    for fdi in sorted(t1):
        rotations, shifts = _track(t1[fdi], t2.get(fdi), stages)
        if spelling == RELATIVE:
            jaw, offset = jaws[teeth.is_upper(fdi)]
            rotations, shifts = jaw.inv() * rotations, jaw.inv().apply(shifts - offset)
        tracks[fdi] = rotations.as_quat(), shifts
    upper, lower = (_transform(jaws[k][0].as_quat(), jaws[k][1]) for k in (True, False))
    staging: list[dict[str, Any]] = []
    for k in range(stages):
        stage: dict[str, Any] = {"Stage": k}
        if jaws_per_stage:
            stage |= {"MaxillaryTransform": upper, "MandibularTransform": lower}
        stage[spelling] = {str(f): _transform(q[k], t[k]) for f, (q, t) in tracks.items() if k < len(q)}
        staging.append(stage)
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


def json_text(case: Mapping[str, Any]) -> str:
    """A document as it is written."""
    return json.dumps(case, separators=(",", ":"))


def _track(first: Array, last: Array | None, stages: int) -> tuple[Rotation, Array]:
    """Rotations and translations of a tooth, one per stage: slerp and lerp; one stage if extracted."""
    if last is None:
        return Rotation.from_matrix(first[None, :3, :3]), first[None, :3, 3]
    share = np.linspace(0, 1, stages)
    ends = Rotation.from_matrix(np.stack([first[:3, :3], last[:3, :3]]))
    return Slerp([0.0, 1.0], ends)(share), first[:3, 3] + share[:, None] * (last[:3, 3] - first[:3, 3])


def _jaw_pose(rng: np.random.Generator) -> tuple[Rotation, Array]:
    """Jaw -> head: nearly the head's axes, its origin off the arch's middle."""
    return Rotation.from_rotvec(rng.normal(0, np.radians(1.0), 3)), np.array([0.0, 20.0, 0.0]) + rng.normal(
        0, 1, 3
    )


def _transform(xyzw: Array, translation: Array) -> dict[str, dict[str, float]]:
    return {
        "translation": dict(zip("xyz", (round(float(v), 6) for v in translation), strict=True)),
        "rotation": dict(zip("xyzw", (round(float(v), 6) for v in xyzw), strict=True)),
    }
