"""Case JSONs and mesh files -> one manifest per shard, with the pose of every tooth at T1 and T2."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from dentalign import atomic, case_document, case_list, params
from dentalign.case_source import Unreachable
from dentalign.errors import CaseDefect, DentalignError, NothingUsable, ToothDefect
from dentalign.left_out import LeftOut, from_list
from dentalign.locks import exclusive
from dentalign.manifest import CaseEntry, DroppedTooth, Manifest, ToothEntry, path_of
from dentalign.mesh_store import MeshStore
from dentalign.positioner import (
    Placement,
    in_our_frame,
    place,
    refuse_nothing_left,
    refuse_too_many_dropped,
)
from dentalign.progress import track
from dentalign.stage_poses import stage_poses

STAGE = "rigid_transforms"


@dataclass(frozen=True)
class Summary:
    """Cases in the manifests, cases excluded by this stage, teeth dropped from the cases used."""

    cases: int
    excluded: int
    dropped_teeth: int


@dataclass
class _Made:
    """What became of one case."""

    entry: CaseEntry | None = None
    lines: list[LeftOut] = field(default_factory=list)
    meshes: int = 0
    unreachable: list[Unreachable] = field(default_factory=list)


def make_manifests(
    json_dir: str | Path,
    cases: str | Path,
    left_out: str | Path | None,
    out: str | Path,
    *,
    source: params.Source,
    fetch: params.Fetch,
    limits: params.Limits,
    shards: Sequence[str],
) -> Summary:
    """Write `<out>/<shard>.json` for every shard, an empty one too.

    json_dir : sanitised cases `<case_id>.json`
    cases    : CSV `case_id,split`
    left_out : JSON list of what earlier stages left out, passed on to the shards; None if there is none
    out      : directory, replaced as a whole
    raises   : NothingUsable if no case is left; DentalignError if an input of the stage cannot be read or
               the store of meshes fails for more than fetch.max_failed_share of the meshes
    """
    splits = case_list.read_splits(cases)
    lines = _earlier(left_out)
    with MeshStore(source.meshes, limits, fetch, source.pseudonym_map) as meshes:
        maker = _CaseMaker(Path(json_dir), meshes, source, limits)
        pool = ThreadPoolExecutor(fetch.concurrency, thread_name_prefix="meshes")
        try:
            results = pool.map(lambda item: maker(*item), sorted(splits.items()))
            made = list(track(results, "poses and meshes", total=len(splits)))
        except BaseException:
            meshes.close()  # wakes what waits for a retry, so that Ctrl-C does not
            raise
        finally:
            pool.shutdown(cancel_futures=True)
    _stop_if_store_fails(made, fetch.max_failed_share, source.meshes)

    here = [line for one in made for line in one.lines]
    entries = [one.entry for one in made if one.entry is not None]
    if not entries:
        first = "; ".join(f"case {line.case_id}: {line.seen} [{line.file}]" for line in sorted(here)[:3])
        raise NothingUsable(f"{cases}: no case is usable{'; first: ' if first else ''}{first}")
    with exclusive(out), atomic.replacing(out) as part:
        part.mkdir()
        for shard in shards:
            Manifest(
                shard,
                tuple(entry for entry in entries if case_list.shard_of(entry.case_id, shards) == shard),
                tuple(line for line in lines + here if case_list.shard_of(line.case_id, shards) == shard),
            ).save(path_of(part, shard))
    return Summary(
        cases=len(entries),
        excluded=sum(line.whole_case for line in here),
        dropped_teeth=sum(len(entry.dropped) for entry in entries),
    )


class _CaseMaker:
    """Makes the entry of one case; safe to use from several threads."""

    def __init__(self, json_dir: Path, meshes: MeshStore, source: params.Source, limits: params.Limits):
        self._json_dir, self._meshes, self._limits = json_dir, meshes, limits
        self._buccal_axis = source.buccal_axis

    def __call__(self, case_id: str, split: str) -> _Made:
        made = _Made()
        file = str(self._json_dir / f"{case_id}.json")
        try:
            document = case_document.read(file, case_id)
            poses = stage_poses(document, file)
            # A case that is excluded still says which of its teeth were at fault.
            made.lines += [LeftOut.of(case_id, STAGE, defect) for defect in poses.defects.values()]
            placement = place(poses, self._limits.max_dropped_teeth, file)
            made.lines += [LeftOut.of(case_id, STAGE, defect) for defect in placement.listed]
            made.entry = self._with_meshes(case_id, split, placement, file, made)
        except CaseDefect as defect:
            made.lines.append(LeftOut.of(case_id, STAGE, defect))
        return made

    def _with_meshes(
        self, case_id: str, split: str, placement: Placement, file: str, made: _Made
    ) -> CaseEntry:
        t1_pose = in_our_frame(placement.t1_pose, self._buccal_axis)
        t2_pose = in_our_frame(placement.t2_pose, self._buccal_axis)
        t1_mask, t2_mask = placement.t1_mask.copy(), placement.t2_mask.copy()
        dropped = dict(placement.dropped)
        mesh_defects = 0
        teeth = []
        for slot in placement.t1_mask.nonzero()[0].tolist():
            fdi = int(placement.fdi[slot])
            name = self._meshes.name(case_id, fdi)
            try:
                digest = self._hash(name, fdi, made)
            except ToothDefect as defect:
                made.lines.append(LeftOut.of(case_id, STAGE, defect))
                t1_mask[slot] = t2_mask[slot] = False
                dropped[slot] = fdi
                mesh_defects += 1
                continue
            t2 = t2_pose[slot] if t2_mask[slot] else None
            teeth.append(ToothEntry(slot, fdi, name, digest, t1_pose[slot], t2))
        refuse_too_many_dropped(len(placement.defects) + mesh_defects, self._limits.max_dropped_teeth, file)
        refuse_nothing_left(t1_mask, t2_mask, file)
        return CaseEntry(
            case_id, split, tuple(teeth), tuple(DroppedTooth(slot, dropped[slot]) for slot in sorted(dropped))
        )

    def _hash(self, name: str, fdi: int, made: _Made) -> str:
        made.meshes += 1
        try:
            return self._meshes.refresh(name)
        except CaseDefect as defect:
            if isinstance(defect, Unreachable) and defect.code != "not_found":
                made.unreachable.append(defect)
            if defect.code == "not_found":
                seen, mend = "the mesh is missing", "export the mesh, or take the tooth out of the case"
                raise ToothDefect(
                    "missing_mesh", seen, mend, file=self._meshes.location(name), tooth=fdi
                ) from defect
            raise ToothDefect(
                f"mesh_{defect.code}", defect.seen, defect.mend, file=defect.file, tooth=fdi
            ) from defect


def _earlier(path: str | Path | None) -> list[LeftOut]:
    if path is None:
        return []
    try:
        return from_list(json.loads(Path(path).read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise DentalignError(f"{path}: no list of what was left out ({type(error).__name__})") from error


def _stop_if_store_fails(made: Sequence[_Made], share: float, location: str) -> None:
    """A store that is down must not pass for cases without meshes."""
    failures = [failure for one in made for failure in one.unreachable]
    if len(failures) > share * sum(one.meshes for one in made):
        raise DentalignError(
            f"{location}: {len(failures)} meshes could not be had, "
            f"more than fetch.max_failed_share = {share:g}; first: {failures[0]}"
        )
