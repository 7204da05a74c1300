"""Case JSONs and mesh files -> one manifest per shard, with the pose of every tooth at T1 and T2."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from dentalign.cases import case_document, case_list, data_set_check
from dentalign.cases.findings import Findings
from dentalign.cases.left_out import LeftOut, dropped_teeth, excluded_cases, from_list
from dentalign.cases.manifests import Manifest, ManifestCase, path_of
from dentalign.cases.reading import read_poses
from dentalign.cases.settings import BuccalAxis, Fetch, Limits, Source
from dentalign.cases.sources.meshes import MeshStore, MeshUnreachable
from dentalign.errors import CaseDefect, DentalignError, NothingUsable, ToothDefect
from dentalign.files import atomic
from dentalign.mouth import T1, Mouth
from dentalign.running import pool as worker_pool
from dentalign.running.locks import exclusive
from dentalign.running.progress import track

STAGE = "rigid_transforms"
_FEW_CASES = 64  # below that a start of processes costs more than it saves


@dataclass(frozen=True)
class ManifestCounts:
    """Counts of one run of `make_manifests`.

    cases         : cases in the manifests
    excluded      : cases that the pipeline stage rigid_transforms excluded
    dropped_teeth : teeth that it dropped from the cases in the manifests
    warnings      : remarks on the data set as a whole
    """

    cases: int
    excluded: int
    dropped_teeth: int
    warnings: tuple[str, ...] = ()


def make_manifests(
    json_dir: str | Path,
    cases: str | Path,
    left_out: str | Path | None,
    out: str | Path,
    *,
    source: Source,
    fetch: Fetch,
    limits: Limits,
    shards: Sequence[str],
) -> ManifestCounts:
    """Write the manifest `<out>/<shard>.json` of every shard, also of one without cases.

    json_dir : sanitised cases `<case_id>.json`
    cases    : CSV `case_id,split`, perhaps with `planner`
    left_out : list of what fetch_json left out (JSON), to be copied into the manifests; None if there is none
    out      : directory, replaced as a whole
    shards   : names of all shards
    raises   : NothingUsable if no case is usable, or nothing can be learnt from the cases; DentalignError if
               an input cannot be read, or more than fetch.max_failed_share of the meshes could not be read
               or downloaded
    """
    splits, planners = case_list.read_splits(cases), case_list.read_planners(cases)
    listed, lines_before = (list(splits), []) if left_out is None else read_listed(left_out)
    shard_of = cache(lambda case_id: case_list.shard_of(case_id, shards))
    with exclusive(out):
        entries, lines = read_cases(json_dir, splits, planners, source=source, fetch=fetch, limits=limits)
        if not entries:
            raise NothingUsable(f"{cases}: no case is usable{_first_reasons(lines)}")
        remarks = data_set_check.remarks(
            [entry.mouth for entry in entries], [*lines_before, *lines], len(listed), limits
        )
        if pointless := [str(remark) for remark in remarks if remark.pointless]:
            raise NothingUsable(f"{cases}: nothing to learn from: {'; '.join(pointless)}")
        with atomic.replacing(out) as folder:
            folder.mkdir()
            for shard in shards:
                Manifest(
                    shard,
                    tuple(entry for entry in entries if shard_of(entry.mouth.case_id) == shard),
                    tuple(line for line in lines_before + lines if shard_of(line.case_id) == shard),
                    sum(shard_of(row) == shard for row in listed),
                    tuple(sorted(set(fetch.keep))),
                ).save(path_of(folder, shard))
    return ManifestCounts(
        cases=len(entries),
        excluded=len(excluded_cases(lines)),
        dropped_teeth=len(dropped_teeth(lines)),
        warnings=tuple(map(str, remarks)),
    )


def read_cases(
    json_dir: str | Path,
    splits: Mapping[str, str],
    planners: Mapping[str, str],
    *,
    source: Source,
    fetch: Fetch,
    limits: Limits,
) -> tuple[list[ManifestCase], list[LeftOut]]:
    """Read the poses of all cases and hash their meshes.

    json_dir : sanitised cases `<case_id>.json`
    splits   : case id -> split
    planners : case id -> code of the planner, of the cases with a known one
    returns  : usable cases, sorted by id; lines of what was left out
    raises   : DentalignError if over fetch.max_failed_share of the meshes could not be read or downloaded
    """
    cases = [(case_id, splits[case_id], planners.get(case_id, "")) for case_id in sorted(splits)]
    with MeshStore(source.meshes, limits, fetch) as meshes:
        reader = _Reader(Path(json_dir), meshes, source.buccal_axis, limits, tuple(fetch.keep))
        if meshes.is_local:
            workers = 1 if len(cases) < _FEW_CASES else 0
            results = worker_pool.starmap(reader, cases, "local", workers)
        else:
            results = worker_pool.starmap_threads(reader, cases, fetch.concurrency, meshes.close)
        with closing(results) as read:
            found = list(track(read, "poses and meshes", total=len(cases)))
    failures = [failure for one in found for failure in one.unreachable]
    if len(failures) > fetch.max_failed_share * sum(one.meshes for one in found):
        raise DentalignError(
            f"{source.meshes}: {len(failures)} meshes could not be read or downloaded, "
            f"more than the share fetch.max_failed_share = {fetch.max_failed_share:g}; first: {failures[0]}"
        )
    entries = [one.entry for one in found if one.entry is not None]
    return entries, [line for one in found for line in one.findings.lines]


@dataclass
class _ReadCase:
    """Case as far as this stage reads it: its entry if it can be used, and counts of meshes."""

    findings: Findings
    entry: ManifestCase | None = None
    meshes: int = 0
    unreachable: list[MeshUnreachable] = field(default_factory=list)


@dataclass(frozen=True)
class _Reader:
    """Reads one case; safe to use from several threads, and sent to processes."""

    json_dir: Path
    meshes: MeshStore
    buccal_axis: BuccalAxis
    limits: Limits
    keep: tuple[str, ...]

    def __call__(self, case_id: str, split: str, planner: str) -> _ReadCase:
        read = _ReadCase(Findings(case_id, STAGE))
        file = str(self.json_dir / f"{case_id}.json")
        try:
            document = case_document.read(file, case_id, ends_only=True, keep=self.keep)
            mouth = read_poses(document, file, self.buccal_axis, self.limits, read.findings)
            hashes = self._hashes(mouth, read)
            mouth = mouth.dropping(set(np.flatnonzero(mouth.present[T1]).tolist()) - hashes.keys())
            read.findings.refuse_what_is_left(mouth, self.limits, file)
            mouth = replace(mouth, case_id=case_id, split=split, planner=planner)
            read.entry = ManifestCase(mouth, hashes, read.findings.teeth_at_t1)
        except CaseDefect as defect:
            read.findings.add(defect)
        return read

    def _hashes(self, mouth: Mouth, read: _ReadCase) -> dict[int, str]:
        """SHA-256 of the mesh by slot, of the teeth that have one."""
        hashes = {}
        for slot in np.flatnonzero(mouth.present[T1]).tolist():
            fdi = int(mouth.fdi[slot])
            read.meshes += 1
            try:
                hashes[slot] = self.meshes.refresh(read.findings.case_id, fdi)
            except ToothDefect as defect:
                if isinstance(defect, MeshUnreachable):
                    read.unreachable.append(defect)
                read.findings.add(defect)
        return hashes


def _first_reasons(lines: Sequence[LeftOut]) -> str:
    text = "; ".join(
        f"case {line.case_id}: {line.seen} ({line.fix}) [{line.file}]" for line in sorted(lines)[:3]
    )
    return f"; first: {text}" if text else ""


def read_listed(path: str | Path) -> tuple[list[str], list[LeftOut]]:
    """Read the JSON file in which fetch_json listed what it left out.

    returns: all rows of the case list, usable or not, each as its case id ("line N" if the row is unusable);
             the lines of what was left out
    raises : DentalignError if the file is not such a list
    """
    try:
        record = json.loads(Path(path).read_bytes())
        return [str(row) for row in record["listed"]], from_list(record["left_out"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = type(error).__name__
        raise DentalignError(
            f"{path}: not a readable list of what was left out ({reason}); `dvc repro` makes it again"
        ) from error
