"""Test cases as scenes of a report: T1, predicted and true T2, and what the validation found per tooth."""

import numpy as np

from dentalign.dataset.mouth_store import MouthStore
from dentalign.geometry.movement import movement
from dentalign.mouth import T1, T2, Mouth
from dentalign.reports.scene import Scene, SceneTooth
from dentalign.teeth import SLOTS
from dentalign.validation.measurement import Validation
from dentalign.validation.report.pictures import smoothed

STATES = (("t1", "T1"), ("predicted", "predicted T2"), ("t2", "true T2"))
COLOUR_BY = ("add_mm", "rotation_error_deg", "predicted_movement_mm", "planned_movement_mm")


def scene(found: Validation, store: MouthStore, number: int) -> Scene:
    """The scene of one test case.

    The surface is the smoothed one through the tooth's points: the latents file has no meshes.

    found  : what `validate` found
    store  : the latents file it was made on
    number : of the case among the test cases, with at least one tooth at both T1 and T2
    """
    mouth = store.mouth(int(found.rows[number]), latents=False)
    here = np.flatnonzero(found.case == number)
    index_of = {int(found.slot[index]): int(index) for index in here}
    teeth = [
        _tooth(found, mouth, number, int(slot), index_of.get(int(slot)))
        for slot in np.flatnonzero(mouth.present.any(0))
    ]
    measured = any(tooth.figures for tooth in teeth)
    return Scene(mouth.case_id, STATES, tuple(teeth), COLOUR_BY if measured else (), _notes(mouth))


def _tooth(found: Validation, mouth: Mouth, number: int, slot: int, index: int | None) -> SceneTooth:
    """The tooth in a slot; `index` is its place among the measured teeth, None where it is not measured."""
    vertices, faces = smoothed(mouth.points[slot])
    poses = {
        key: mouth.pose[stage, slot] for key, stage in (("t1", T1), ("t2", T2)) if mouth.present[stage, slot]
    }
    figures: dict[str, float] = {}
    if index is not None:
        poses["predicted"] = found.predicted[number, slot]
        fdi, points = _number(mouth, slot), mouth.points[slot]
        model = found.figures["model"]
        figures = {
            name: float(model[name][index])
            for name in ("add_mm", "translation_error_mm", "rotation_error_deg")
        }
        for key, name in (("predicted", "predicted"), ("t2", "planned")):
            moved = movement(fdi, poses["t1"], poses[key], points)
            figures |= {f"{name}_{figure}": moved[figure] for figure in ("movement_mm", "turn_deg")}
    return SceneTooth(_number(mouth, slot), vertices, faces, poses, figures)


def _notes(mouth: Mouth) -> tuple[str, ...]:
    """What is not to be seen, or not measured, in words."""
    t1, t2 = mouth.present
    said = {
        "Extracted in the plan, at T1 only: {}.": t1 & ~t2,
        "At T2 only, neither predicted nor measured: {}.": t2 & ~t1,
        "Left out because of a defect: {}.": mouth.dropped & ~(t1 | t2),
    }
    return tuple(
        text.format(", ".join(str(_number(mouth, int(slot))) for slot in np.flatnonzero(which)))
        for text, which in said.items()
        if which.any()
    )


def _number(mouth: Mouth, slot: int) -> int:
    """The FDI number as it stood in the file; a slot without one has its permanent tooth's."""
    return int(mouth.fdi[slot]) or SLOTS[slot]
