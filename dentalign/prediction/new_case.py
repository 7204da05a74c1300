"""Read the case of a new patient for a prediction: a case JSON and a folder of crowns."""

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path

from dentalign.cases import case_document, slots
from dentalign.cases.case_document import CaseDocument
from dentalign.cases.case_list import check_id
from dentalign.cases.crowns import Sampler
from dentalign.cases.findings import Findings
from dentalign.cases.left_out import LeftOut
from dentalign.cases.poses import StagePoses, stage_poses, t2_position
from dentalign.cases.reading import find_buccal_axis, read_case
from dentalign.cases.settings import BuccalAxis, Fetch
from dentalign.cases.sources.folder import LocalSource
from dentalign.cases.sources.meshes import MeshStore
from dentalign.errors import CaseDefect
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2, Mouth

STAGE = "predict"


@dataclass(frozen=True)
class NewCase:
    """Case of a new patient: the mouth at T1, and the other content of its files.

    mouth       : at T1 the teeth that can be predicted; at T2 the poses that a plan in the file has for them
    document    : the allow-listed fields of the JSON
    crowns      : slot -> triangles (F, 3, 3) of the mesh, tooth-local, mm
    has_plan    : True if the file has a plan that can be read
    planned_away: FDI numbers of teeth that the plan extracts
    unmoved     : FDI number -> pose (4, 4), tooth-local axes of the file -> head, mm, for teeth that have a
                  pose but no usable mesh
    left_out    : lines of the teeth that cannot be used
    notes       : further sentences for the report
    buccal_axis : axis that points buccally in the tooth-local frame of the file
    turned      : finding, if `buccal_axis` is not the expected one; else ""
    """

    mouth: Mouth
    document: CaseDocument
    crowns: Mapping[int, Array]
    has_plan: bool
    planned_away: frozenset[int]
    unmoved: Mapping[int, Array]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    buccal_axis: BuccalAxis
    turned: str = ""

    @property
    def case_id(self) -> str:
        """Name of the JSON file without its ending."""
        return self.mouth.case_id


def read(
    json_file: str | Path,
    meshes: str | Path,
    sampler: Sampler,
    *,
    fetch: Fetch | None = None,
    extract: Collection[int] = (),
    flat: bool = True,
    find_axis: bool = True,
    lines: list[LeftOut] | None = None,
) -> NewCase:
    """Read a case at T1; a plan in its file is optional.

    json_file : `<case_id>.json`
    meshes    : a folder with `<FDI>.stl`, or a store (folder or URL) with `<case_id>/<FDI>.stl`
    sampler   : settings with which crowns become points
    fetch     : time-outs and retries for a store on a server, and what is kept of the export (`keep`)
    extract   : FDI numbers of teeth to extract, see `Predictor.predict_case`; if a primary tooth and its
                successor are in one slot, the one that is not extracted takes it
    flat      : True if `meshes` may hold `<FDI>.stl` of one patient directly
    find_axis : True to use the buccal axis opposite to the sampler's if nearly all teeth show it
    lines     : list to which the lines of unusable teeth are added, also if the case is refused
    raises    : CaseDefect if the case cannot be predicted: not readable, no usable tooth, too many defects,
                or a mouth that is not in the head frame; DentalignError if there is no folder `meshes`
    """
    file, case_id = str(json_file), Path(json_file).stem
    check_id(case_id, file)
    findings = Findings(case_id, STAGE)
    local = LocalSource(Path(file).parent).local_path(Path(file).name)  # no pipe, and no link that leads out
    try:
        keep = () if fetch is None else fetch.keep
        document = case_document.read(local, case_id, sampler.limits.max_json_mb, keep=keep)
        turned = ""
        if find_axis:
            axis, turned = find_buccal_axis(document, file, sampler.buccal_axis, extract)
            sampler = replace(sampler, buccal_axis=axis)
        with MeshStore(str(meshes), sampler.limits, fetch) as store:
            mouth, crowns = read_case(
                document, file, store, sampler, findings,
                plan=False, leaving=extract, flat=flat and _is_flat(meshes, case_id),
            )  # fmt: skip
    finally:
        if lines is not None:
            lines += findings.lines
    t1 = stage_poses(document.model_copy(update={"t2_stage": None}), file, require_t2=False).t1
    used = set(mouth.fdi[mouth.present[T1]].tolist())
    notes: list[str] = []
    plan = _plan(document, file, t1.keys(), notes)
    t2 = {} if plan is None or plan.t2 is None else plan.t2
    to_ours = slots.to_our_frame(sampler.buccal_axis).T
    return NewCase(
        mouth=replace(_with_plan(mouth, t2, sampler.buccal_axis), case_id=case_id),
        document=document,
        crowns={slot: crown @ to_ours for slot, crown in crowns.items()},
        has_plan=plan is not None,
        planned_away=frozenset() if plan is None else frozenset(plan.t1.keys() - t2.keys()),
        unmoved={fdi: pose for fdi, pose in t1.items() if fdi not in used},
        left_out=tuple(sorted(findings.lines)),
        notes=tuple(notes),
        buccal_axis=sampler.buccal_axis,
        turned=turned,
    )


def _is_flat(meshes: str | Path, case_id: str) -> bool:
    """True if a local folder has no folder for the case: it holds the crowns of one patient.

    raises: CaseDefect if that patient is another one, because the crowns of the case lie beside the folder
    """
    folder = Path(meshes)
    if "://" in str(meshes) or not folder.is_dir() or (folder / case_id).is_dir():
        return False
    own = folder.resolve().parent / case_id
    if own.is_dir() and own != folder.resolve():
        seen = f"{folder} is named as the crowns of {case_id}, and the folder {case_id} lies beside it"
        raise CaseDefect("crowns_of_another_case", seen, f"give --meshes {own}", file=str(folder))
    return True


def _plan(document: CaseDocument, file: str, good_at_t1: Set[int], notes: list[str]) -> StagePoses | None:
    """Read the plan in the file of the case; broken parts of it become notes."""
    try:
        if not t2_position(document, file):  # none, or the first stage itself
            return None
        both = stage_poses(document, file)
    except CaseDefect as defect:
        notes.append(f"The plan in the file is not read ({defect.seen}).")
        return None
    # A tooth whose pose in the plan is broken is not planned away.
    broken = {fdi: defect for fdi, defect in both.defects.items() if fdi in good_at_t1}
    notes += [f"The plan for tooth {fdi} is not read ({defect.seen})." for fdi, defect in broken.items()]
    return both


def _with_plan(mouth: Mouth, plan: Mapping[int, Array], axis: BuccalAxis) -> Mouth:
    present, pose = mouth.present.copy(), mouth.pose.copy()
    for fdi, matrix in plan.items():
        slot = slots.slot_of(fdi)
        present[T2, slot] = present[T1, slot]
        if present[T1, slot]:
            pose[T2, slot] = slots.turned(matrix, axis)
    return replace(mouth, present=present, pose=pose)
