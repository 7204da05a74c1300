"""A new patient for a prediction: a case JSON and a folder of crowns, read and checked."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dentalign.cases import case_document, frame_check
from dentalign.cases.case_document import CaseDocument
from dentalign.cases.case_list import check_id
from dentalign.cases.left_out import LeftOut
from dentalign.cases.poses import stage_poses, t2_position
from dentalign.cases.settings import BuccalAxis, Fetch
from dentalign.cases.slots import (
    in_our_frame,
    place,
    refuse_nothing_left,
    refuse_too_many_dropped,
    slot_of,
    to_our_frame,
)
from dentalign.cases.sources.folder import LocalSource
from dentalign.cases.sources.meshes import MeshStore
from dentalign.dataset.clouds import Sampler
from dentalign.errors import CaseDefect, Defect
from dentalign.geometry import stl
from dentalign.geometry.rigid import Array
from dentalign.teeth import SLOT_COUNT

STAGE = "predict"


@dataclass(frozen=True)
class NewCase:
    """A mouth at T1, in slots and in our tooth-local frame (buccal at +y); mm.

    case_id     : the stem of the file's name
    document    : the allow-listed fields of the JSON
    fdi         : (32,) int64, number as in the file, 0 where there is no tooth
    mask        : (32,) bool, teeth that can be predicted
    pose        : (32, 4, 4) float64, tooth-local -> head, identity where masked
    points      : (32, P, 3) float32, ordered
    crowns      : slot -> triangles (F, 3, 3) of the mesh
    t2_mask, t2_pose : a plan that came with the case: where it has which teeth; None without one
    planned_away : FDI numbers of teeth that the plan does without
    unmoved     : FDI number as in the file -> pose, of teeth that have a pose and no usable mesh
    left_out    : teeth that cannot be used, and why
    notes       : what else a reader should know
    buccal_axis : where buccal points in the frame of the file
    """

    case_id: str
    document: CaseDocument
    fdi: NDArray[np.int64]
    mask: NDArray[np.bool_]
    pose: Array
    points: NDArray[np.float32]
    crowns: Mapping[int, Array]
    t2_mask: NDArray[np.bool_] | None
    t2_pose: Array | None
    planned_away: frozenset[int]
    unmoved: Mapping[int, Array]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    buccal_axis: BuccalAxis


def read(
    json_file: str | Path,
    meshes: str | Path,
    sampler: Sampler,
    *,
    fetch: Fetch | None = None,
    flat: bool = True,
    lines: list[LeftOut] | None = None,
) -> NewCase:
    """Read a case of which nothing but T1 need be there.

    json_file : `<case_id>.json`
    meshes    : a folder with `<FDI>.stl`, or a store (folder or URL) with `<case_id>/<FDI>.stl`
    fetch     : time-outs and retries, where the store is a server
    flat      : whether it may be such a folder, which holds one patient's crowns
    lines     : is given the teeth that cannot be used, also where the case is refused
    raises    : CaseDefect where the case cannot be predicted: not readable, no usable tooth, too many
                defects, or a mouth that does not stand in the head frame; DentalignError without the folder
    """
    file, case_id = str(json_file), Path(json_file).stem
    check_id(case_id, file)
    own: list[LeftOut] = []
    try:
        return _read(file, case_id, meshes, sampler, fetch, flat, own)
    finally:
        if lines is not None:
            lines += own


def _read(
    file: str,
    case_id: str,
    meshes: str | Path,
    sampler: Sampler,
    fetch: Fetch | None,
    flat: bool,
    lines: list[LeftOut],
) -> NewCase:
    limits = sampler.limits
    local = LocalSource(Path(file).parent).path(Path(file).name)  # no pipe, and no link that leads out
    with open(local, "rb") as stream:
        data = stream.read(int(limits.max_json_mb * 1e6) + 1)
    document = case_document.parse(data, case_id, file, limits.max_json_mb)
    # A first stage that is called T2 is no plan; a broken plan is no reason not to make one.
    now = stage_poses(document.model_copy(update={"t2_stage": None}), file, require_t2=False)
    lines += [LeftOut.of(case_id, STAGE, defect) for defect in now.defects.values()]
    placement = place(now, limits.max_dropped_teeth, file)
    pose = in_our_frame(placement.t1_pose, sampler.buccal_axis)
    mask, unmoved = placement.t1_mask.copy(), {}
    for slot, away_mm in frame_check.far_off(pose, mask, limits).items():
        fdi = int(placement.fdi[slot])
        lines.append(LeftOut.of(case_id, STAGE, frame_check.stray(fdi, away_mm, file)))
        mask[slot], unmoved[fdi] = False, now.t1[fdi]
    refuse_too_many_dropped(len(lines), limits.max_dropped_teeth, file)
    if wrong := frame_check.problems(pose, mask, file=file, limits=limits):
        raise wrong[0]
    points = np.zeros((SLOT_COUNT, sampler.sample.points, 3), np.float32)
    crowns: dict[int, Array] = {}
    with MeshStore(str(meshes), limits, fetch) as store:
        for slot in np.flatnonzero(mask).tolist():
            fdi = int(placement.fdi[slot])
            name = _mesh_name(meshes, case_id, fdi, flat)
            try:
                triangles = _crown(store, name, fdi)
                points[slot] = sampler.points(triangles, store.location(name), fdi)
            except Defect as defect:
                ours = store.tooth_defect(defect, name, fdi) if isinstance(defect, CaseDefect) else defect
                lines.append(LeftOut.of(case_id, STAGE, ours))
                mask[slot], unmoved[fdi] = False, now.t1[fdi]
                continue
            crowns[slot] = triangles @ to_our_frame(sampler.buccal_axis).T
    refuse_too_many_dropped(len(lines), limits.max_dropped_teeth, file)
    refuse_nothing_left(mask, None, file)
    notes: list[str] = []
    plan = _plan(document, file, now.t1.keys(), notes, sampler.buccal_axis)
    return NewCase(
        case_id=case_id,
        document=document,
        fdi=np.where(mask, placement.fdi, 0),
        mask=mask,
        pose=np.where(mask[:, None, None], pose, np.eye(4)),
        points=points,
        crowns=crowns,
        t2_mask=None if plan is None else plan[0] & mask,
        t2_pose=None if plan is None else plan[1],
        planned_away=frozenset() if plan is None else plan[2],
        unmoved=unmoved,
        left_out=tuple(sorted(lines)),
        notes=tuple(notes),
        buccal_axis=sampler.buccal_axis,
    )


def _mesh_name(meshes: str | Path, case_id: str, fdi: int, flat: bool) -> str:
    """Name of a crown below `meshes`; a folder of one case's crowns needs no folder for the case."""
    local = "://" not in str(meshes) and Path(meshes).is_dir()
    flat = flat and local and not (Path(meshes) / case_id).is_dir()
    return f"{fdi}.stl" if flat else MeshStore.name(case_id, fdi)


def _crown(store: MeshStore, name: str, fdi: int) -> Array:
    store.refresh(name)  # checks the size, and fetches what is remote
    return stl.read_triangles(store.mesh_path(name).read_bytes(), file=store.location(name), tooth=fdi)


def _plan(
    document: CaseDocument, file: str, good_at_t1: Set[int], notes: list[str], axis: BuccalAxis
) -> tuple[NDArray[np.bool_], Array, frozenset[int]] | None:
    """Mask and poses (our frame) of the T2 that came with the case, and the teeth of T1 it does without."""
    try:
        if not t2_position(document, file):  # none, or the first stage itself
            return None
        both = stage_poses(document, file)
    except CaseDefect as defect:
        notes.append(f"The plan in the file is not read ({defect.seen}).")
        return None
    mask, pose = np.zeros(SLOT_COUNT, np.bool_), np.tile(np.eye(4), (SLOT_COUNT, 1, 1))
    there = both.t2 or {}
    for fdi, matrix in there.items():
        mask[slot_of(fdi)], pose[slot_of(fdi)] = True, matrix
    # A pose that the plan has and that is broken says nothing: that tooth is not planned away.
    broken = {fdi: defect for fdi, defect in both.defects.items() if fdi in good_at_t1}
    notes += [f"The plan for tooth {fdi} is not read ({defect.seen})." for fdi, defect in broken.items()]
    return mask, in_our_frame(pose, axis), frozenset(both.t1.keys() - there.keys())
