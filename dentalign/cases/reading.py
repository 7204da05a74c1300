"""A case's JSON and meshes -> its entry of the manifest, with the pose of every tooth at T1 and T2."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dentalign.cases import case_document, frame_check
from dentalign.cases.left_out import LeftOut
from dentalign.cases.manifests import CaseEntry, DroppedTooth, ToothEntry
from dentalign.cases.poses import stage_poses
from dentalign.cases.settings import Fetch, Limits, Source
from dentalign.cases.slots import Placement, in_our_frame, place, refuse_nothing_left, refuse_too_many_dropped
from dentalign.cases.sources.base import Unreachable
from dentalign.cases.sources.meshes import MeshStore
from dentalign.errors import CaseDefect, DentalignError, ToothDefect
from dentalign.geometry.arch_fit import find_arches
from dentalign.running.progress import track

STAGE = "rigid_transforms"
_UNREADABLE = ("not_found", "unreadable", "mesh_unreadable")  # a mesh that is not there is "missing_mesh"


@dataclass
class MadeCase:
    """What became of one case."""

    case_id: str
    entry: CaseEntry | None = None
    lines: list[LeftOut] = field(default_factory=list)
    meshes: int = 0
    unreachable: list[Unreachable] = field(default_factory=list)

    @property
    def for_now(self) -> bool:
        """Whether a file could not be read, which may be otherwise next time without any change of it."""
        return bool(self.unreachable) or any(line.code in _UNREADABLE for line in self.lines)


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
    with MeshStore(source.meshes, limits, fetch, source.pseudonym_map) as meshes:
        made = make_cases(json_dir, splits, meshes, source=source, fetch=fetch, limits=limits)
    stop_if_store_fails(made, 0, fetch.max_failed_share, source.meshes)
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
    with _mapping(meshes, fetch.concurrency) as mapped:
        return list(track(mapped(lambda case: maker(*case), cases), "poses and meshes", total=len(cases)))


@contextmanager
def _mapping(meshes: MeshStore, concurrency: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map`, in threads where meshes come from afar; those of a folder are read one after the other.

    There threads that wait for each other between short computations cost half as much again.
    """
    if meshes.is_local:
        yield map
        return
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="meshes")
    try:
        yield pool.map
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
        try:
            document = case_document.read(file, case_id, ends_only=True)
            poses = stage_poses(document, file)
            # A case that is excluded still says which of its teeth were at fault.
            made.lines += [LeftOut.of(case_id, STAGE, defect) for defect in poses.defects.values()]
            placement = place(poses, self._limits.max_dropped_teeth, file)
            made.lines += [LeftOut.of(case_id, STAGE, defect) for defect in placement.listed]
            teeth_at_t1 = len(poses.t1) + len(poses.defects)
            made.entry = self._with_meshes(case_id, split, placement, teeth_at_t1, file, made)
        except CaseDefect as defect:
            made.lines.append(LeftOut.of(case_id, STAGE, defect))
        return made

    def _with_meshes(
        self, case_id: str, split: str, placement: Placement, teeth_at_t1: int, file: str, made: MadeCase
    ) -> CaseEntry:
        t1_pose = in_our_frame(placement.t1_pose, self._buccal_axis)
        t2_pose = in_our_frame(placement.t2_pose, self._buccal_axis)
        t1_mask, t2_mask = placement.t1_mask.copy(), placement.t2_mask.copy()
        dropped = dict(placement.dropped)
        lost = len(placement.defects)
        teeth = []
        arches = find_arches(t1_pose, np.flatnonzero(t1_mask))
        far = frame_check.far_off(t2_pose, t2_mask, self._limits)
        far |= frame_check.far_off(t1_pose, t1_mask, self._limits, arches)
        for slot, away_mm in far.items():
            stray = frame_check.stray(int(placement.fdi[slot]), away_mm, file)
            made.lines.append(LeftOut.of(case_id, STAGE, stray))
            t1_mask[slot] = t2_mask[slot] = False
            dropped[slot] = int(placement.fdi[slot])
            lost += 1
        refuse_too_many_dropped(lost, self._limits.max_dropped_teeth, file)
        problems = frame_check.problems(
            t1_pose, t1_mask, file=file, limits=self._limits, arches=None if far else arches
        )
        if problems:  # a case in a wrong frame would teach the model a mouth that does not exist
            made.lines += [LeftOut.of(case_id, STAGE, problem) for problem in problems[1:]]
            raise problems[0]
        for slot in np.flatnonzero(t1_mask).tolist():
            fdi = int(placement.fdi[slot])
            name = self._meshes.name(case_id, fdi)
            try:
                digest = self._hash(name, fdi, made)
            except ToothDefect as defect:
                made.lines.append(LeftOut.of(case_id, STAGE, defect))
                t1_mask[slot] = t2_mask[slot] = False
                dropped[slot] = fdi
                lost += 1
                continue
            t2 = t2_pose[slot] if t2_mask[slot] else None
            teeth.append(ToothEntry(slot, fdi, name, digest, t1_pose[slot], t2))
        refuse_too_many_dropped(lost, self._limits.max_dropped_teeth, file)
        refuse_nothing_left(t1_mask, t2_mask, file)
        return CaseEntry(
            case_id,
            split,
            tuple(teeth),
            tuple(DroppedTooth(slot, dropped[slot]) for slot in sorted(dropped)),
            teeth_at_t1,
        )

    def _hash(self, name: str, fdi: int, made: MadeCase) -> str:
        made.meshes += 1
        try:
            return self._meshes.refresh(name)
        except CaseDefect as defect:
            if isinstance(defect, Unreachable) and defect.code != "not_found":
                made.unreachable.append(defect)
            raise self._meshes.tooth_defect(defect, name, fdi) from defect


def stop_if_store_fails(made: Sequence[MadeCase], others: int, share: float, location: str) -> None:
    """A store that is down must not pass for cases without meshes.

    others : meshes that were not asked for again
    """
    failures = [failure for one in made for failure in one.unreachable]
    if len(failures) > share * (others + sum(one.meshes for one in made)):
        raise DentalignError(
            f"{location}: {len(failures)} meshes could not be had, "
            f"more than fetch.max_failed_share = {share:g}; first: {failures[0]}"
        )
