"""Files of a prediction: the case with its new stages, tables, pictures, meshes, a report."""

import csv
import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from dentalign.cases import case_document, slots
from dentalign.files import atomic
from dentalign.geometry import movement, stl
from dentalign.geometry.rigid import Array, apply
from dentalign.mouth import T1, T2
from dentalign.prediction import planned_document, staging
from dentalign.prediction.predictor import Prediction
from dentalign.prediction.staging import Predict
from dentalign.reports.scene import Scene, SceneTooth
from dentalign.validation.metrics import add_mm

Moved = Literal["none", "stl", "glb"]

COLOUR_BY = ("movement_mm", "turn_deg")


@dataclass(frozen=True)
class OutputOptions:
    """Options of what to write beside the case and its table.

    every_stage : the stages between T1 and T2, too, in the case and among the moved meshes
    moved       : the crowns at each stage, as STL per tooth or one GLB per stage
    looks       : picture and HTML report
    limits      : how far a stage may go
    """

    every_stage: bool = False
    moved: Moved = "none"
    looks: bool = True
    limits: Predict = field(default_factory=Predict)


def write(out: str | Path, prediction: Prediction, wanted: OutputOptions) -> list[Path]:
    """Write a prediction below a folder that may hold other cases; returns the files, the case first.

    json/<case_id>.json      the case with T1, the stages in between if wanted, and T2
    movement/<case_id>.csv   a row per tooth, see `table`
    picture/<case_id>.png    T1, predicted T2 and, where the case came with a plan, that
    report/<case_id>.html    the same in 3D
    moved/<case_id>/         stage-000 (T1) and on: <FDI>.stl in folders, or stage-NNN.glb; head, mm

    Each file appears when it is complete; of an earlier prediction of the case none stays. Nothing but
    allow-listed fields of the input goes into them.
    """
    folder, case = Path(out), prediction.case
    after = staging.stages(
        case.mouth.pose[T1], prediction.pose, prediction.mask, case.mouth.points, wanted.limits
    )
    if not wanted.every_stage:
        after = after[-1:]
    document = planned_document.with_stages(
        case.document, [in_the_file_s_frame(prediction, poses) for poses in after]
    )
    for name in (f"moved/{case.case_id}", f"picture/{case.case_id}.png", f"report/{case.case_id}.html"):
        _remove(folder / name)
    files = [folder / "json" / f"{case.case_id}.json", folder / "movement" / f"{case.case_id}.csv"]
    plain = case_document.as_exported(document)
    atomic.write_text(files[0], json.dumps(plain, allow_nan=False, indent=1) + "\n")
    atomic.write_text(files[1], _csv(table(prediction)))
    if wanted.moved != "none":
        moved = folder / "moved" / case.case_id
        with atomic.replacing(moved) as part:
            part.mkdir()
            _write_moved(part, prediction, after, wanted.moved)
        files.append(moved)
    if wanted.looks:
        # Matplotlib and the viewer are heavy: a night's batch of poses does without.
        from dentalign.prediction import picture
        from dentalign.reports import page

        files += [folder / "picture" / f"{case.case_id}.png", folder / "report" / f"{case.case_id}.html"]
        shown = scene(prediction, after[:-1])
        picture.write(files[-2], shown)
        page.write_case(files[-1], shown, prediction.warnings)
    return files


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def in_the_file_s_frame(prediction: Prediction, poses: Array) -> dict[int, Array]:
    """Poses (4, 4) by FDI number in the frame of the file, of every tooth that stands there.

    poses : (32, 4, 4) in our frame
    """
    case = prediction.case
    turned = slots.turned(poses, case.buccal_axis)
    placed = {int(case.mouth.fdi[slot]): turned[slot] for slot in np.flatnonzero(prediction.mask)}
    return placed | dict(prediction.unmoved)


def table(prediction: Prediction) -> list[dict[str, object]]:
    """Table with a row per tooth of T1, in slot order: its fate and its movement (`movement.movement`).

    `not_learnt` are teeth that the model has seen too few of to move. Last come those without a usable
    mesh, `unmoved`, without figures.

    `expected_add_mm` says how far off the model expects the tooth to be; where it does not say,
    `rigidity_residual_mm` says how far the decoded tooth was from a rigid one. With a plan in the file,
    `add_mm` is the mean distance of the tooth's points from where that has them.
    """
    case, rows = prediction.case, []
    for slot in np.flatnonzero(case.mouth.present[T1]).tolist():
        fate = "extracted"
        if prediction.mask[slot]:
            fate = "fixed" if prediction.fixed[slot] else "predicted"
            if not prediction.fixed[slot] and _not_learnt(prediction, slot):
                fate = "not_learnt"
        row: dict[str, object] = {"fdi": int(case.mouth.fdi[slot]), "fate": fate}
        rows.append(row | figures(prediction, slot))
    return rows + [{"fdi": fdi, "fate": "unmoved"} for fdi in sorted(prediction.unmoved)]


def figures(prediction: Prediction, slot: int) -> dict[str, float]:
    """Figures of one tooth; empty if it is extracted."""
    case = prediction.case
    if not prediction.mask[slot]:
        return {}
    local = case.mouth.points[slot].astype(np.float64)
    found = movement.movement(
        int(case.mouth.fdi[slot]), case.mouth.pose[T1, slot], prediction.pose[slot], local
    )
    if prediction.expected_add_mm is None:
        found["rigidity_residual_mm"] = float(prediction.rigidity_residual_mm[slot])
    elif np.isfinite(prediction.expected_add_mm[slot]):
        found["expected_add_mm"] = float(prediction.expected_add_mm[slot])
    if case.mouth.present[T2, slot]:
        there, planned = apply(prediction.pose[slot], local), apply(case.mouth.pose[T2, slot], local)
        found["add_mm"] = float(add_mm(there[None], planned[None])[0])
    return found


def _not_learnt(prediction: Prediction, slot: int) -> bool:
    expected = prediction.expected_add_mm
    return expected is not None and bool(np.isnan(expected[slot]))


def scene(prediction: Prediction, between: Array) -> Scene:
    """Scene of the 3D report; `between` (K, 32, 4, 4) are the poses of the stages before T2."""
    case = prediction.case
    has_plan = case.has_plan
    steps = [(f"stage-{k:03d}", f"stage {k}") for k in range(1, len(between) + 1)]
    states = [("t1", "T1"), *steps, ("predicted", "predicted T2")] + [("t2", "T2 of the file")] * has_plan
    teeth = []
    for slot in np.flatnonzero(case.mouth.present[T1]).tolist():
        poses = {"t1": case.mouth.pose[T1, slot]}
        if prediction.mask[slot]:
            poses |= {key: step[slot] for (key, _), step in zip(steps, between, strict=True)}
            poses["predicted"] = prediction.pose[slot]
        if case.mouth.present[T2, slot]:
            poses["t2"] = case.mouth.pose[T2, slot]
        vertices, faces = stl.merged(case.crowns[slot])
        teeth.append(SceneTooth(int(case.mouth.fdi[slot]), vertices, faces, poses, figures(prediction, slot)))
    doubt = "rigidity_residual_mm" if prediction.expected_add_mm is None else "expected_add_mm"
    colour_by = (*COLOUR_BY, doubt, *(["add_mm"] if has_plan else []))
    return Scene(case.case_id, tuple(states), tuple(teeth), colour_by, prediction.notes)


def _write_moved(folder: Path, prediction: Prediction, after: Array, kind: Moved) -> None:
    case = prediction.case
    for number, poses in enumerate([case.mouth.pose[T1], *after]):
        there = case.mouth.present[T1] if number == 0 else prediction.mask
        crowns: Mapping[int, Array] = {
            int(case.mouth.fdi[slot]): apply(poses[slot], case.crowns[slot])
            for slot in np.flatnonzero(there).tolist()
        }
        if kind == "glb":
            (folder / f"stage-{number:03d}.glb").write_bytes(_glb(crowns))
            continue
        stage = folder / f"stage-{number:03d}"
        stage.mkdir()
        for fdi, triangles in crowns.items():
            vertices, faces = stl.merged(triangles)
            stl.write_binary(stage / f"{fdi}.stl", vertices, faces)


def _glb(crowns: Mapping[int, Array]) -> bytes:
    """Binary glTF with a node per tooth, named by its FDI number."""
    import trimesh

    mouth = trimesh.Scene()
    for fdi, triangles in sorted(crowns.items()):
        vertices, faces = stl.merged(triangles)
        mouth.add_geometry(trimesh.Trimesh(vertices, faces, process=False), str(fdi), geom_name=str(fdi))
    data: bytes = mouth.export(file_type="glb")
    return data


def _csv(rows: list[dict[str, object]]) -> str:
    extra = ["expected_add_mm", "rigidity_residual_mm", "add_mm"]
    names = ["fdi", "fate", *movement.COLUMNS, *[name for name in extra if any(name in row for row in rows)]]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, lineterminator="\n", restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{v:.4f}" if isinstance(v, float) else v for name, v in row.items()})
    return text.getvalue()
