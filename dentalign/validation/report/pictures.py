"""Scenes of test cases for the 3D report, and PNG pictures of three cases and of charts."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dentalign.dataset.mouth_store import MouthStore
from dentalign.geometry.movement import movement
from dentalign.geometry.rigid import Array
from dentalign.geometry.sampling import triangulation
from dentalign.mouth import T1, T2, Mouth
from dentalign.reports import mouth_picture
from dentalign.reports.scene import Scene, SceneTooth
from dentalign.teeth import SLOTS
from dentalign.validation.measurement import Validation, mean
from dentalign.validation.report import charts

STATES = (("t1", "T1"), ("predicted", "predicted T2"), ("t2", "true T2"))
COLOUR_BY = ("add_mm", "rotation_error_deg", "predicted_movement_mm", "planned_movement_mm")


def write_pictures(folder: Path, found: Validation, latents: str | Path, train_log: Path | None) -> None:
    """Write best.png, median.png, worst.png, accuracy.png, per_slot.png and, with curves, loss.png.

    latents   : latents file of the validation; the teeth are read from it
    train_log : DVCLive's folder of the training; None, or a folder without `loss.tsv`: no loss.png
    """
    folder.mkdir(parents=True, exist_ok=True)
    with MouthStore(latents) as store:
        for name, number in chosen_cases(found).items():
            _write_case(folder / f"{name}.png", found, number, scene(found, store, number))
    for chart in (charts.accuracy_chart(found), charts.slot_chart(found), charts.training_chart(train_log)):
        if chart is not None:
            chart.write_png(folder)


def chosen_cases(found: Validation) -> dict[str, int]:
    """Choose the best, median and worst test case by mean ADD: name -> index of the case in `found`."""
    add = mean(found.figures["model"]["add_mm"], 1)
    ranked = np.argsort(add, kind="stable")[: int(np.isfinite(add).sum())]  # NaN, no measured tooth, is last
    chosen = {"best": ranked[0], "median": ranked[(len(ranked) - 1) // 2], "worst": ranked[-1]}
    return {name: int(number) for name, number in chosen.items()}


def _write_case(path: Path, found: Validation, number: int, shown: Scene) -> None:
    slots = np.flatnonzero(found.measured[number])
    add, still = (found.figures[method]["add_mm"][number, slots] for method in ("model", "identity"))
    subtitle = (
        f"add_mm {add.mean():.3f} over {len(add)} teeth, worst tooth {SLOTS[slots[add.argmax()]]} at "
        f"{add.max():.2f} mm; without movement {still.mean():.3f}"
    )
    if extracted := [str(tooth.fdi) for tooth in shown.teeth if set(tooth.poses) == {"t1"}]:
        subtitle += f", extracted: {', '.join(extracted)}"
    title = f"{path.stem.capitalize()} test case: {shown.case_id}"
    mouth_picture.write(path, shown, title, subtitle, ("predicted", "add_mm"))


def scene(found: Validation, store: MouthStore, number: int) -> Scene:
    """Make the scene of a test case; the surfaces are made from points, as the latents file has no meshes.

    store  : the latents file of the validation, open
    number : index of the case in `found`
    """
    mouth = store.mouth(int(found.rows[number]), latents=False)
    slots = np.flatnonzero(mouth.present.any(0)).tolist()
    teeth = tuple(_tooth(found, mouth, number, slot) for slot in slots)
    colour_by = COLOUR_BY if found.measured[number].any() else ()
    return Scene(mouth.case_id, STATES, teeth, colour_by, _notes(mouth))


def _tooth(found: Validation, mouth: Mouth, number: int, slot: int) -> SceneTooth:
    fdi, points = _fdi(mouth, slot), mouth.points[slot]
    poses = {
        key: mouth.pose[stage, slot] for key, stage in (("t1", T1), ("t2", T2)) if mouth.present[stage, slot]
    }
    figures: dict[str, float] = {}
    if found.measured[number, slot]:
        poses["predicted"] = found.predicted[number, slot]
        for metric in ("add_mm", "translation_error_mm", "rotation_error_deg"):
            figures[metric] = float(found.figures["model"][metric][number, slot])
        for key, name in (("predicted", "predicted"), ("t2", "planned")):
            moved = movement(fdi, poses["t1"], poses[key], points)
            figures[f"{name}_movement_mm"] = moved["movement_mm"]
            figures[f"{name}_rotation_deg"] = moved["turn_deg"]
    return SceneTooth(fdi, *smooth_surface(points), poses, figures)


def smooth_surface(points: Array, iterations: int = 1) -> tuple[Array, NDArray[np.int64]]:
    """Closed surface through ordered points (P, 3), subdivided for display; not for measuring.

    Each iteration makes four triangles of each triangle and rounds the surface (Loop 1987, "Smooth
    subdivision surfaces based on triangles").

    returns : vertices (V, 3), in the unit of `points`, and faces (4^iterations (2 P - 4), 3), outward winding
    """
    from trimesh.remesh import subdivide_loop

    closed = np.asarray(points, np.float64), triangulation(len(points)).astype(np.int64)
    smooth: tuple[Array, NDArray[np.int64]] = subdivide_loop(*closed, iterations)
    return smooth


def _notes(mouth: Mouth) -> tuple[str, ...]:
    """Sentences on the teeth that are not shown, or not measured."""
    t1, t2 = mouth.present
    sentences = {
        "Extracted in the plan, at T1 only: {}.": t1 & ~t2,
        "At T2 only, neither predicted nor measured: {}.": t2 & ~t1,
        "Left out because of a defect: {}.": mouth.dropped & ~(t1 | t2),
    }
    return tuple(
        text.format(", ".join(str(_fdi(mouth, int(slot))) for slot in np.flatnonzero(teeth)))
        for text, teeth in sentences.items()
        if teeth.any()
    )


def _fdi(mouth: Mouth, slot: int) -> int:
    """The FDI number in the case's file; in a slot without one that of the permanent tooth."""
    return int(mouth.fdi[slot]) or SLOTS[slot]
