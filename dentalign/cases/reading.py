"""JSON and meshes of a case -> Mouth: the one reading path of stages, check, predict and importers.

`read_poses` is the part that needs no mesh (stage rigid_transforms), `read_crowns` in `crowns` the other
(stage sample_clouds); `read_case` is both. What cannot be used is named in `Findings`: a tooth is dropped, or
CaseDefect excludes the case.
"""

from collections.abc import Collection, Sequence

import numpy as np

from dentalign.cases import frame_check, plan_check
from dentalign.cases.case_document import CaseDocument
from dentalign.cases.crowns import Sampler, read_crowns
from dentalign.cases.findings import Findings
from dentalign.cases.poses import stage_poses
from dentalign.cases.settings import BuccalAxis, Limits
from dentalign.cases.slots import in_our_frame, place, without_rivals
from dentalign.cases.sources.meshes import MeshStore
from dentalign.errors import CaseDefect, ToothDefect
from dentalign.geometry import stl
from dentalign.geometry.arch_fit import find_arches
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2, Mouth


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
    """Read the teeth of a case into their slots, in our frames, without points; T1 and T2 are verified.

    file   : path or URL of the document, for the errors
    plan   : if False T2 is not looked at: the mouth is that before treatment
    leaving: FDI numbers of teeth that are to be extracted: a rival in the same slot stays
    raises : CaseDefect where the case cannot be used
    """
    if not plan:  # a first stage that is called T2 is no plan
        document = document.model_copy(update={"t2_stage": None})
    poses = without_rivals(stage_poses(document, file, require_t2=plan), file, leaving)
    findings.add(*poses.defects.values())  # first: an excluded case, too, says which teeth were at fault
    findings.teeth_at_t1 = len(poses.t1) + len(poses.defects)
    mouth = place(poses)
    findings.refuse_what_is_left(mouth, limits, file, plan=plan)
    findings.add(*(_t2_only(number, file) for number in poses.t2_only))
    mouth = in_our_frame(mouth, buccal_axis)
    stages = (T1, T2) if plan else (T1,)
    arches = [find_arches(mouth.pose[stage], np.flatnonzero(mouth.present[stage])) for stage in stages]
    far: dict[int, float] = {}
    for stage in reversed(stages):
        far |= frame_check.far_off(mouth.pose[stage], mouth.present[stage], limits, arches[stage])
    if far:
        findings.add(*(frame_check.stray(int(mouth.fdi[slot]), mm, file) for slot, mm in far.items()))
        mouth = mouth.dropping(far)
        findings.refuse_what_is_left(mouth, limits, file, plan=plan)
        arches = [find_arches(mouth.pose[stage], np.flatnonzero(mouth.present[stage])) for stage in stages]
    # A case in a wrong frame would teach the model a mouth that does not exist.
    for stage in stages:
        wrong = frame_check.problems(
            mouth.pose[stage], mouth.present[stage], file=file, limits=limits, arches=arches[stage]
        )
        if stage == T2:
            wrong = [CaseDefect(one.code, f"at T2: {one.seen}", one.fix, file=file) for one in wrong]
        _refuse(wrong, findings)
    odd: dict[int, ToothDefect] = {}
    if plan:
        movements = plan_check.arch_movements(mouth, arches)
        _refuse(plan_check.problems(mouth, movements, limits, file), findings)
        odd = plan_check.odd_teeth(mouth, movements, limits, file)
    for stage in stages:
        turned = frame_check.turned(mouth.pose[stage], mouth.present[stage], limits, arches[stage])
        for slot, angle in turned.items():
            odd.setdefault(slot, frame_check.turned_tooth(int(mouth.fdi[slot]), angle, file))
    findings.add(*odd.values())
    mouth = mouth.dropping(odd)
    findings.refuse_what_is_left(mouth, limits, file, plan=plan)
    return mouth


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
    flat    : the store holds the crowns of this case alone, as `<FDI>.stl`
    returns : the mouth; slot -> triangles (F, 3, 3) of its crown, tooth-local mm, the exporter's frame
    """
    mouth = read_poses(
        document, file, sampler.buccal_axis, sampler.limits, findings, plan=plan, leaving=leaving
    )
    crowns: dict[int, Array] = {}

    def read_mesh(slot: int) -> tuple[Array, str]:
        fdi = int(mouth.fdi[slot])
        name = f"{fdi}.stl" if flat else meshes.name(findings.case_id, fdi)
        try:
            meshes.refresh(name)  # checks the size, and fetches what is remote
            data = meshes.mesh_path(name).read_bytes()
        except CaseDefect as defect:
            raise meshes.tooth_defect(defect, name, fdi) from defect
        crowns[slot] = stl.read_triangles(data, file=meshes.location(name), tooth=fdi)
        return crowns[slot], meshes.location(name)

    mouth = read_crowns(mouth, read_mesh, sampler, findings, plan=plan)
    return mouth, {slot: crowns[slot] for slot in np.flatnonzero(mouth.present[T1]).tolist()}


def _refuse(wrong: Sequence[CaseDefect], findings: Findings) -> None:
    """Exclude the case for the first of its problems and list the others; raises CaseDefect."""
    if wrong:
        findings.add(*wrong[1:])
        raise wrong[0]


def _t2_only(fdi: int, file: str) -> ToothDefect:
    seen, fix = "the tooth stands at T2 only", "nothing, if it erupts later; it is neither input nor label"
    return ToothDefect("t2_only", seen, fix, file=file, tooth=fdi)
