"""JSON and meshes of a case -> Mouth: the one reading path of stages, check, predict and importers.

`read_poses` is the part that needs no mesh (stage rigid_transforms), `read_crowns` in `crowns` the other
(stage sample_clouds); `read_case` is both. What cannot be used is named in `Findings`: a tooth is dropped, or
CaseDefect excludes the case.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dentalign.cases import case_document, frame_check
from dentalign.cases.case_document import CaseDocument
from dentalign.cases.crowns import Sampler, read_crowns
from dentalign.cases.findings import Findings
from dentalign.cases.left_out import LeftOut
from dentalign.cases.manifests import CaseEntry, DroppedTooth, ToothEntry
from dentalign.cases.poses import stage_poses
from dentalign.cases.settings import BuccalAxis, Fetch, Limits, Source
from dentalign.cases.slots import in_our_frame, place
from dentalign.cases.sources.base import Unreachable
from dentalign.cases.sources.meshes import MeshStore
from dentalign.errors import CaseDefect, DentalignError, ToothDefect
from dentalign.geometry import stl
from dentalign.geometry.arch_fit import find_arches
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2, Mouth
from dentalign.running import engines
from dentalign.running.progress import track

STAGE = "rigid_transforms"
_FEW_CASES = 16  # that take less time than to start processes


def read_poses(
    document: CaseDocument,
    file: str,
    buccal_axis: BuccalAxis,
    limits: Limits,
    findings: Findings,
    *,
    plan: bool = True,
) -> Mouth:
    """Read the teeth of a case into their slots, in our frames, without points; T1 and T2 are verified.

    file   : path or URL of the document, for the errors
    plan   : if False T2 is not looked at: the mouth is that before treatment
    raises : CaseDefect where the case cannot be used
    """
    if not plan:  # a first stage that is called T2 is no plan
        document = document.model_copy(update={"t2_stage": None})
    poses = stage_poses(document, file, require_t2=plan)
    findings.add(*poses.defects.values())  # first: an excluded case, too, says which teeth were at fault
    findings.teeth_at_t1 = len(poses.t1) + len(poses.defects)
    mouth = place(poses, file)
    findings.refuse_what_is_left(mouth, limits, file, plan=plan)
    findings.add(*(_t2_only(number, file) for number in poses.t2_only))
    mouth = in_our_frame(mouth, buccal_axis)
    arches = find_arches(mouth.pose[T1], np.flatnonzero(mouth.present[T1]))
    far = frame_check.far_off(mouth.pose[T2], mouth.present[T2], limits) if plan else {}
    far |= frame_check.far_off(mouth.pose[T1], mouth.present[T1], limits, arches)
    findings.add(*(frame_check.stray(int(mouth.fdi[slot]), mm, file) for slot, mm in far.items()))
    mouth = mouth.dropping(far)
    findings.refuse_what_is_left(mouth, limits, file, plan=plan)
    # A case in a wrong frame would teach the model a mouth that does not exist.
    wrong = frame_check.problems(
        mouth.pose[T1], mouth.present[T1], file=file, limits=limits, arches=None if far else arches
    )
    if plan and not wrong:
        at_t2 = frame_check.problems(mouth.pose[T2], mouth.present[T2], file=file, limits=limits)
        wrong = [CaseDefect(one.code, f"at T2: {one.seen}", one.mend, file=file) for one in at_t2]
    if wrong:
        findings.add(*wrong[1:])
        raise wrong[0]
    return mouth


def read_case(
    document: CaseDocument,
    file: str,
    meshes: MeshStore,
    sampler: Sampler,
    findings: Findings,
    *,
    plan: bool = True,
    flat: bool = False,
) -> tuple[Mouth, dict[int, Array]]:
    """Read a case: its mouth with points on the crowns, and the crowns themselves.

    plan, raises : as for `read_poses`
    flat         : the store holds the crowns of this case alone, as `<FDI>.stl`
    returns      : the mouth; slot -> triangles (F, 3, 3) of its crown, tooth-local mm, the exporter's frame
    """
    mouth = read_poses(document, file, sampler.buccal_axis, sampler.limits, findings, plan=plan)
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


def _t2_only(fdi: int, file: str) -> ToothDefect:
    seen, mend = "the tooth stands at T2 only", "nothing, if it erupts later; it is neither input nor label"
    return ToothDefect("t2_only", seen, mend, file=file, tooth=fdi)


@dataclass
class MadeCase:
    """What became of one case."""

    case_id: str
    entry: CaseEntry | None = None
    lines: list[LeftOut] = field(default_factory=list)
    meshes: int = 0
    unreachable: list[Unreachable] = field(default_factory=list)


def read_cases(
    json_dir: str | Path,
    splits: Mapping[str, str],
    *,
    source: Source,
    fetch: Fetch,
    limits: Limits,
) -> tuple[list[CaseEntry], list[LeftOut]]:
    """The cases that can be used, sorted by id, and what was left out.

    json_dir : sanitised cases `<case_id>.json`
    splits   : case id -> split
    raises   : DentalignError if the store of meshes fails for more than fetch.max_failed_share of the meshes
    """
    with MeshStore(source.meshes, limits, fetch) as meshes:
        made = make_cases(json_dir, splits, meshes, source=source, fetch=fetch, limits=limits)
    stop_if_store_fails(made, fetch.max_failed_share, source.meshes)
    entries = [one.entry for one in made if one.entry is not None]
    return entries, [line for one in made for line in one.lines]


def make_cases(
    json_dir: str | Path,
    splits: Mapping[str, str],
    meshes: MeshStore,
    *,
    source: Source,
    fetch: Fetch,
    limits: Limits,
) -> list[MadeCase]:
    """What became of each case, sorted by id."""
    maker = _CaseMaker(Path(json_dir), meshes, source, limits)
    cases = sorted(splits.items())
    with _in_parallel(maker, cases, meshes, fetch.concurrency) as made:
        return list(track(made, "poses and meshes", total=len(cases)))


@contextmanager
def _in_parallel(
    maker: "_CaseMaker", cases: Sequence[tuple[str, str]], meshes: MeshStore, concurrency: int
) -> Iterator[Iterable[MadeCase]]:
    """Read the cases in processes of this machine; in threads where meshes come from afar."""
    if meshes.is_local:
        workers = 1 if len(cases) < _FEW_CASES else 0
        with closing(engines.in_order(maker, cases, "local", workers)) as made:
            yield made
        return
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="meshes")
    try:
        yield pool.map(lambda case: maker(*case), cases)
    except BaseException:
        meshes.close()  # wakes what waits for a retry, so that Ctrl-C does not
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _CaseMaker:
    """Makes the entry of one case; safe to use from several threads."""

    def __init__(self, json_dir: Path, meshes: MeshStore, source: Source, limits: Limits):
        self._json_dir, self._meshes, self._limits = json_dir, meshes, limits
        self._buccal_axis = source.buccal_axis

    def __call__(self, case_id: str, split: str) -> MadeCase:
        made = MadeCase(case_id)
        file = str(self._json_dir / f"{case_id}.json")
        findings = Findings(case_id, STAGE)
        try:
            document = case_document.read(file, case_id, ends_only=True)
            mouth = read_poses(document, file, self._buccal_axis, self._limits, findings)
            hashes = self._hashes(mouth, findings, made)
            mouth = mouth.dropping(set(np.flatnonzero(mouth.present[T1]).tolist()) - hashes.keys())
            findings.refuse_what_is_left(mouth, self._limits, file)
            made.entry = _entry(replace(mouth, case_id=case_id, split=split), hashes, findings.teeth_at_t1)
        except CaseDefect as defect:
            findings.add(defect)
        made.lines = findings.lines
        return made

    def _hashes(self, mouth: Mouth, findings: Findings, made: MadeCase) -> dict[int, str]:
        """Slot -> SHA-256 of the mesh, of the teeth that have one."""
        hashes = {}
        for slot in np.flatnonzero(mouth.present[T1]).tolist():
            fdi = int(mouth.fdi[slot])
            name = self._meshes.name(findings.case_id, fdi)
            made.meshes += 1
            try:
                hashes[slot] = self._meshes.refresh(name)
            except CaseDefect as defect:
                if isinstance(defect, Unreachable) and defect.code != "not_found":
                    made.unreachable.append(defect)
                findings.add(self._meshes.tooth_defect(defect, name, fdi))
        return hashes


def _entry(mouth: Mouth, hashes: dict[int, str], teeth_at_t1: int) -> CaseEntry:
    teeth = tuple(
        ToothEntry(
            slot,
            int(mouth.fdi[slot]),
            MeshStore.name(mouth.case_id, int(mouth.fdi[slot])),
            digest,
            mouth.pose[T1, slot],
            mouth.pose[T2, slot] if mouth.present[T2, slot] else None,
        )
        for slot, digest in hashes.items()
    )
    dropped = tuple(DroppedTooth(s, int(mouth.fdi[s])) for s in np.flatnonzero(mouth.dropped).tolist())
    return CaseEntry(mouth.case_id, mouth.split, teeth, dropped, teeth_at_t1)


def stop_if_store_fails(made: Sequence[MadeCase], share: float, location: str) -> None:
    """Raise where a store is down, so that it does not pass for cases without meshes."""
    failures = [failure for one in made for failure in one.unreachable]
    if len(failures) > share * sum(one.meshes for one in made):
        raise DentalignError(
            f"{location}: {len(failures)} meshes could not be had, "
            f"more than fetch.max_failed_share = {share:g}; first: {failures[0]}"
        )
