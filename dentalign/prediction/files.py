"""Files of a prediction: case document with the treatment stages, table, picture, meshes and report."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from dentalign.cases import case_document, exported_points, slots
from dentalign.clinical import tables
from dentalign.files import atomic, csv_table
from dentalign.geometry import movement, occlusion, stl
from dentalign.geometry.rigid import Array, apply
from dentalign.mouth import T1, T2
from dentalign.planning import order_of_work, outcome, staging
from dentalign.planning.staging import Predict, StagedPlan
from dentalign.prediction import clinical_states, planned_document
from dentalign.prediction.predictor import Prediction
from dentalign.reports.scene import Scene, SceneTooth
from dentalign.teeth import ARCHES
from dentalign.validation.metrics import add_mm

Moved = Literal["none", "stl", "glb"]

COLOUR_BY = ("movement_mm", "turn_deg")

_NOT_ALWAYS = ("apex_mm", "expected_add_mm", "add_mm_90", "rigidity_residual_mm", "solver_mm", "add_mm")
COLUMNS = ("fdi", "fate", *movement.COLUMNS, *_NOT_ALWAYS)  # of the table of teeth


@dataclass(frozen=True)
class OutputOptions:
    """Options of `write`: what to write beside case document and table.

    every_stage : True to write also the treatment stages between T1 and T2, in document and moved crowns
    moved       : crowns at each treatment stage: "none", "stl" (a file per tooth) or "glb" (a file per stage)
    looks       : True to write picture and HTML report
    limits      : largest step of a tooth from one treatment stage to the next
    """

    every_stage: bool = False
    moved: Moved = "none"
    looks: bool = True
    limits: Predict = field(default_factory=Predict)


def staged(prediction: Prediction, wanted: OutputOptions) -> StagedPlan | None:
    """Plan the treatment stages of a prediction; None if they are not wanted."""
    if not wanted.every_stage:
        return None
    mouth = prediction.case.mouth
    crowns = {
        slot: stl.merged(prediction.case.crowns[slot]) for slot in np.flatnonzero(prediction.mask).tolist()
    }
    return staging.plan(
        mouth.pose[T1], prediction.pose, prediction.mask, mouth.points, crowns, wanted.limits,
        held=prediction.fixed, fields=prediction.fields,
    )  # fmt: skip


def write(
    out: str | Path,
    prediction: Prediction,
    wanted: OutputOptions,
    plan: StagedPlan | None = None,
    others: Sequence[Prediction] = (),
) -> list[Path]:
    """Write the files of a prediction below a folder, which may hold those of other cases.

    others : further proposals for the case; the report shows them, too. Their files are below
             proposals/2, proposals/3, ... in the same layout

    json/<case_id>.json      case document with T1, the treatment stages in between if wanted, and T2
    movement/<case_id>.csv   a row per tooth, see `table`
    clinical/<case_id>.json  clinical measures at T1, predicted T2 and, if the input has a plan, of the plan
    clinical/<case_id>.csv   the same as a table
    picture/<case_id>.png    T1, predicted T2 and, if the input has a plan, its T2
    staging/<case_id>.csv    with treatment stages: a row per stage and tooth, see `order_of_work.rows`
    report/<case_id>.html    the same in 3D
    moved/<case_id>/         crowns, head frame, mm: stage-000/<FDI>.stl (T1) and so on, or stage-000.glb

    Each file appears when it is complete. Files of an earlier prediction of the case are removed. Of the
    input, only allow-listed fields are written.

    plan    : treatment stages, if they are planned already; see `staged`
    returns : paths of the files, the case document first; of the moved crowns, the path of their folder
    """
    folder, case = Path(out), prediction.case
    plan = plan or staged(prediction, wanted)
    after = plan.poses if plan else prediction.pose[None]
    document = planned_document.with_stages(
        case.document, [in_the_file_s_frame(prediction, poses) for poses in after]
    )
    remove(folder, case.case_id)
    files = [folder / "json" / f"{case.case_id}.json", folder / "movement" / f"{case.case_id}.csv"]
    measured = clinical_states.states(case, (prediction.pose, prediction.mask))
    plain = case_document.as_exported(document)
    atomic.write_text(files[0], json.dumps(plain, allow_nan=False, indent=1) + "\n")
    atomic.write_text(files[1], _csv(table(prediction)))
    files += tables.write(folder / "clinical", case.case_id, measured)
    if prediction.wishes:
        files.append(folder / "prescription" / f"{case.case_id}.csv")
        atomic.write_text(files[-1], outcome.csv_text(prediction.wishes))
    warnings, order = prediction.warnings, None
    if plan:
        found = order_of_work.steps(case.mouth.pose[T1], plan, prediction.mask, case.mouth.points)
        files.append(folder / "staging" / f"{case.case_id}.csv")
        csv_table.write(files[-1], order_of_work.COLUMNS, order_of_work.rows(found, case.mouth.fdi))
        warnings += tuple(
            f"No path without a collision was found: {seen}."
            for *_, seen in order_of_work.collisions(plan, case.mouth.fdi)
        )
    if wanted.moved != "none":
        moved = folder / "moved" / case.case_id
        with atomic.replacing(moved) as part:
            part.mkdir()
            _write_moved(part, prediction, after, wanted.moved)
        files.append(moved)
    if wanted.looks:
        # Matplotlib and the viewer are heavy: a night's batch of poses does without.
        from dentalign.prediction import picture, staging_chart
        from dentalign.reports import occlusion_picture, page

        names = ("picture/{}.png", "occlusion/{}.png", "report/{}.html")
        files += [folder / name.format(case.case_id) for name in names]
        shown = scene(prediction, after[:-1], others)
        picture.write(files[-3], shown)
        occlusion_picture.write(files[-2], shown, f"Occlusal contacts: {case.case_id}", most_faces=1000)
        if plan:
            order = page.OrderOfWork(
                staging_chart.chart(case, plan, found),
                order_of_work.in_words(found, plan, case.mouth.fdi),
                order_of_work.enamel_to_remove(plan, case.mouth.fdi),
            )
        clinical = page.ClinicalTable(
            tuple(tables.TIMES[time] for time in measured), tables.report_rows(measured, case.mouth)
        )
        page.write_case(files[-1], shown, warnings, clinical, order)
    for rank, other in enumerate(others, start=2):
        write(folder / "proposals" / str(rank), other, wanted)
    return files


def remove(out: str | Path, case_id: str) -> None:
    """Remove the files of an earlier prediction of a case below a folder, see `write`."""
    for folder in (Path(out) / "proposals").glob("[0-9]*"):
        remove(folder, case_id)
    shutil.rmtree(Path(out) / "moved" / case_id, ignore_errors=True)
    for name in (
        "json/{}.json",
        "movement/{}.csv",
        "clinical/{}.json",
        "clinical/{}.csv",
        "picture/{}.png",
        "report/{}.html",
        "occlusion/{}.png",
        "prescription/{}.csv",
        "staging/{}.csv",
    ):
        (Path(out) / name.format(case_id)).unlink(missing_ok=True)


def in_the_file_s_frame(prediction: Prediction, poses: Array) -> dict[int, Array]:
    """Convert the poses of one treatment stage to the tooth-local axes of the input file.

    poses   : (32, 4, 4), our tooth-local -> head, mm
    returns : FDI -> (4, 4), mm, of the teeth that are not extracted; teeth without a usable mesh are added,
              with their pose of the file
    """
    case = prediction.case
    turned = slots.turned(poses, case.buccal_axis)
    placed = {int(case.mouth.fdi[slot]): turned[slot] for slot in np.flatnonzero(prediction.mask)}
    return placed | dict(prediction.unmoved)


def table(prediction: Prediction) -> list[dict[str, object]]:
    """Make the table of the teeth at T1, a row per tooth in slot order.

    `fate` is one of predicted; fixed; extracted; not_learnt: too rare in training, left in place; unmoved:
    without a usable mesh, in the last rows and without figures. The figures are those of
    `movement.movement` and, in mm:

    apex_mm              : distance that the root apex travels, if the export gives the apex (`fetch.keep`)
    expected_add_mm      : error that the model expects
    add_mm_90            : bound of the error, which 90 of 100 teeth keep; empty where it is unknown
    rigidity_residual_mm : RMS distance of the decoded points from the rigid tooth, for a model that expects
                           none
    solver_mm            : mean distance of the tooth's points from those of the network's answer
    add_mm               : mean distance of the tooth's points from those at T2 of the input's plan, if any
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
    """Figures of the tooth in a slot, see `table`: name -> value; {} if it is extracted."""
    case = prediction.case
    if not prediction.mask[slot]:
        return {}
    local = case.mouth.points[slot].astype(np.float64)
    found = movement.movement(
        int(case.mouth.fdi[slot]), case.mouth.pose[T1, slot], prediction.pose[slot], local
    )
    apex = float(exported_points.apex_travel_mm(case.mouth, prediction.pose)[slot])
    if np.isfinite(apex):
        found["apex_mm"] = apex
    if prediction.expected_add_mm is None:
        found["rigidity_residual_mm"] = float(prediction.rigidity_residual_mm[slot])
    elif np.isfinite(prediction.expected_add_mm[slot]):
        found["expected_add_mm"] = float(prediction.expected_add_mm[slot])
    if prediction.add_mm_90 is not None and np.isfinite(prediction.add_mm_90[slot]):
        found["add_mm_90"] = float(prediction.add_mm_90[slot])
    if prediction.wishes:
        network = apply(prediction.network_pose[slot], local)
        found["solver_mm"] = float(add_mm(apply(prediction.pose[slot], local)[None], network[None])[0])
    if case.mouth.present[T2, slot]:
        there, planned = apply(prediction.pose[slot], local), apply(case.mouth.pose[T2, slot], local)
        found["add_mm"] = float(add_mm(there[None], planned[None])[0])
    return found


def _not_learnt(prediction: Prediction, slot: int) -> bool:
    expected = prediction.expected_add_mm
    return expected is not None and bool(np.isnan(expected[slot]))


def scene(prediction: Prediction, between: Array, others: Sequence[Prediction] = ()) -> Scene:
    """Make the scene of the 3D report.

    between : (K, 32, 4, 4), poses at the treatment stages between T1 and T2, tooth-local -> head, mm
    others  : further proposals for the case
    """
    case = prediction.case
    has_plan = case.has_plan
    steps = [(f"stage-{k:03d}", f"stage {k}") for k in range(1, len(between) + 1)]
    proposals = [(f"proposal-{rank}", f"proposal {rank}") for rank in range(2, 2 + len(others))]
    states = [("t1", "T1"), *steps, ("predicted", "predicted T2"), *proposals]
    states += [("t2", "T2 of the file")] * has_plan
    apart = occlusion.antagonist_mm(apply(prediction.pose, case.mouth.points), prediction.mask)
    teeth = []
    for slot in np.flatnonzero(case.mouth.present[T1]).tolist():
        poses = {"t1": case.mouth.pose[T1, slot]}
        if prediction.mask[slot]:
            poses |= {key: step[slot] for (key, _), step in zip(steps, between, strict=True)}
            poses["predicted"] = prediction.pose[slot]
            poses |= {key: other.pose[slot] for (key, _), other in zip(proposals, others, strict=True)}
        if case.mouth.present[T2, slot]:
            poses["t2"] = case.mouth.pose[T2, slot]
        vertices, faces = stl.merged(case.crowns[slot])
        shown = figures(prediction, slot)
        if np.isfinite(apart[slot]):
            shown["antagonist_mm"] = float(apart[slot])
        teeth.append(SceneTooth(int(case.mouth.fdi[slot]), vertices, faces, poses, shown))
    doubt = "rigidity_residual_mm" if prediction.expected_add_mm is None else "expected_add_mm"
    opposed = ["antagonist_mm"] if np.isfinite(apart).any() else []
    colour_by = (*COLOUR_BY, doubt, *opposed, *(["add_mm"] if has_plan else []))
    notes = (*prediction.notes, *(_difference(prediction, k, other) for k, other in enumerate(others, 2)))
    return Scene(case.case_id, tuple(states), tuple(teeth), colour_by, notes)


def _difference(first: Prediction, rank: int, other: Prediction) -> str:
    """Sentence on how a proposal differs from the first one: on average, and the arches as wholes."""
    points, mask = first.case.mouth.points.astype(np.float64), first.mask
    one, two = (apply(plan.pose[mask], points[mask]) for plan in (first, other))
    shift = (two - one).mean(1)
    arches = []
    for name, of_arch in ARCHES.items():
        here = np.isin(np.flatnonzero(mask), of_arch)
        back = float(shift[here, 1].mean()) if here.any() else 0.0
        if abs(back) >= 0.05:
            arches.append(f"{name} arch {abs(back):.1f} mm further {'back' if back > 0 else 'forward'}")
    apart = float(add_mm(two, one).mean())
    return (
        f"Proposal {rank} differs by {apart:.1f} mm on average"
        + "".join(f"; {part}" for part in arches)
        + "."
    )


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
    names = [name for name in COLUMNS if name not in _NOT_ALWAYS or any(name in row for row in rows)]
    return csv_table.text(
        names,
        [{name: f"{v:.4f}" if isinstance(v, float) else v for name, v in row.items()} for row in rows],
    )
