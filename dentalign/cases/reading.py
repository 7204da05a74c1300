"""JSON and meshes of a case -> Mouth, by the same code for pipeline stages, check, predict and importers.

`read_poses` needs no meshes (pipeline stage rigid_transforms). `crowns.read_crowns` reads the meshes
(pipeline stage sample_clouds). `read_case` does both. A tooth that cannot be used is dropped and listed in
`Findings`; a case that cannot be used raises CaseDefect.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from dentalign.cases import frame_check, plan_check
from dentalign.cases.case_document import CaseDocument
from dentalign.cases.crowns import Sampler, read_crowns
from dentalign.cases.exported_points import with_exported
from dentalign.cases.findings import Findings
from dentalign.cases.poses import stage_poses, t2_position
from dentalign.cases.settings import BuccalAxis, Limits
from dentalign.cases.slots import in_our_frame, place, without_rivals
from dentalign.cases.sources.meshes import MeshStore
from dentalign.errors import CaseDefect, ToothDefect
from dentalign.geometry import mesh_file
from dentalign.geometry.arch_fit import Arch, find_arches
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2, Mouth

MOST_INWARD = 0.9  # share of a mouth's teeth; single teeth of a malocclusion may be turned about themselves


def find_buccal_axis(
    document: CaseDocument, file: str, expected: BuccalAxis, leaving: Collection[int] = ()
) -> tuple[BuccalAxis, str]:
    """Find the buccal axis of the exporter's tooth-local frame by the teeth of a case at T1.

    file     : path or URL of the document, for the errors
    expected : axis to return, unless it points inwards in at least the share MOST_INWARD of the teeth whose
               arch can be fitted: then the opposite one
    leaving  : as for `read_poses`
    returns  : the axis; a text with what was seen if it is not `expected`, else ""
    raises   : CaseDefect if the case cannot be used
    """
    at_t1 = document.model_copy(update={"t2_stage": None})
    poses = without_rivals(stage_poses(at_t1, file, require_t2=False), file, leaving)
    mouth = in_our_frame(place(poses), expected)
    arches = find_arches(mouth.pose[T1], np.flatnonzero(mouth.present[T1]))
    cosines = frame_check.buccal_cosines(mouth.pose[T1], arches)
    inward = int((cosines < 0).sum())
    if inward < MOST_INWARD * max(1, len(cosines)):
        return expected, ""
    other: BuccalAxis = "+y" if expected == "-y" else "-y"
    return other, f"{inward} of {len(cosines)} teeth have buccal at {other}, not {expected}"


def read_poses(
    document: CaseDocument,
    file: str,
    buccal_axis: BuccalAxis,
    limits: Limits,
    findings: Findings,
    *,
    plan: bool = True,
    leaving: Collection[int] = (),
) -> Mouth:
    """Read the teeth of a case into their slots, in our frames, without points, and check T1 and T2.

    file     : path or URL of the document, for the errors
    findings : gets a line for each defect
    plan     : if False, T2 is ignored and the mouth has no teeth at T2
    leaving  : FDI numbers of teeth that will be extracted, see `without_rivals`
    raises   : CaseDefect if the case cannot be used
    """
    if not plan or not t2_position(document, file):  # a first stage that is called T2 is no plan
        document = document.model_copy(update={"t2_stage": None})
        if plan:  # what is wrong with T1 comes before that T2 is missing
            read_poses(document, file, buccal_axis, limits, findings, plan=False, leaving=leaving)
    poses = without_rivals(stage_poses(document, file, require_t2=plan), file, leaving)
    findings.add(*poses.defects.values())  # first: an excluded case, too, says which teeth were at fault
    findings.teeth_at_t1 = len(poses.t1) + len(poses.defects)
    mouth = place(poses)
    findings.refuse_what_is_left(mouth, limits, file, plan=plan)
    findings.add(*(_t2_only(number, file) for number in poses.t2_only))
    mouth = _verified(in_our_frame(mouth, buccal_axis), file, limits, findings, plan)
    return with_exported(mouth, document, file, buccal_axis, findings)


def read_case(
    document: CaseDocument,
    file: str,
    meshes: MeshStore,
    sampler: Sampler,
    findings: Findings,
    *,
    plan: bool = True,
    leaving: Collection[int] = (),
    flat: bool = False,
) -> tuple[Mouth, dict[int, Array]]:
    """Read a case: its mouth with points on the crowns, and the crowns themselves.

    plan, leaving, raises : as for `read_poses`
    flat    : if True, `meshes` has the crowns of this case only, without a folder named by the case id
    returns : the mouth; slot -> triangles (F, 3, 3) of its crown, mm, in the exporter's tooth-local frame
    """
    mouth = read_poses(
        document, file, sampler.buccal_axis, sampler.limits, findings, plan=plan, leaving=leaving
    )
    crowns: dict[int, Array] = {}

    def read_mesh(slot: int) -> tuple[Array, str]:
        fdi = int(mouth.fdi[slot])
        folder = "" if flat else findings.case_id
        meshes.refresh(folder, fdi)  # checks the size, and fetches what is remote
        path, file = meshes.mesh_path(folder, fdi)
        crowns[slot] = mesh_file.read_triangles(path.read_bytes(), file=file, tooth=fdi)
        return crowns[slot], file

    mouth = read_crowns(mouth, read_mesh, sampler, findings, plan=plan)
    return mouth, {slot: crowns[slot] for slot in np.flatnonzero(mouth.present[T1]).tolist()}


def _verified(mouth: Mouth, file: str, limits: Limits, findings: Findings, plan: bool) -> Mouth:
    """Check T1, T2 and T2 against T1; drops odd teeth, raises CaseDefect where the mouth as a whole is wrong.

    A case in a wrong frame, or with a T2 that is no plan, would teach the model what does not exist.
    """
    stages = (T1, T2) if plan else (T1,)
    arches = _arches(mouth, stages)
    far: dict[int, ToothDefect] = {}
    for stage in stages:
        away = frame_check.far_off(mouth.pose[stage], mouth.present[stage], limits, arches[stage])
        far = {slot: frame_check.stray(int(mouth.fdi[slot]), mm, file) for slot, mm in away.items()} | far
    if far:
        mouth = _without(far, mouth, file, limits, findings, plan)
        arches = _arches(mouth, stages)
    for stage in stages:
        wrong = frame_check.problems(
            mouth.pose[stage], mouth.present[stage], file=file, limits=limits, arches=arches[stage]
        )
        _refuse(wrong if stage == T1 else [_at_t2(one) for one in wrong], findings)
    odd: dict[int, ToothDefect] = {}
    if plan:
        movements = plan_check.arch_movements(mouth, arches)
        _refuse(plan_check.problems(mouth, movements, limits, file), findings)
        odd = plan_check.odd_teeth(mouth, movements, limits, file)
    for stage in stages:
        angles = frame_check.turned(mouth.pose[stage], mouth.present[stage], limits, arches[stage])
        for slot, angle in angles.items():
            odd.setdefault(slot, frame_check.turned_tooth(int(mouth.fdi[slot]), angle, file))
    return _without(odd, mouth, file, limits, findings, plan)


def _arches(mouth: Mouth, stages: Sequence[int]) -> list[list[Arch]]:
    return [find_arches(mouth.pose[stage], np.flatnonzero(mouth.present[stage])) for stage in stages]


def _without(
    odd: Mapping[int, ToothDefect], mouth: Mouth, file: str, limits: Limits, findings: Findings, plan: bool
) -> Mouth:
    """Drop and list teeth, by slot; raises CaseDefect if too few are left."""
    findings.add(*odd.values())
    mouth = mouth.dropping(odd)
    findings.refuse_what_is_left(mouth, limits, file, plan=plan)
    return mouth


def _refuse(wrong: Sequence[CaseDefect], findings: Findings) -> None:
    """Exclude the case for the first of its problems and list the others; raises CaseDefect."""
    if wrong:
        findings.add(*wrong[1:])
        raise wrong[0]


def _at_t2(one: CaseDefect) -> CaseDefect:
    fix = f"export T2 like T1, which is correct ({one.fix})"
    return CaseDefect(one.code, f"at T2: {one.seen}", fix, file=one.file)


def _t2_only(fdi: int, file: str) -> ToothDefect:
    seen, fix = "the tooth stands at T2 only", "nothing, if it erupts later; it is neither input nor label"
    return ToothDefect("t2_only", seen, fix, file=file, tooth=fdi)
