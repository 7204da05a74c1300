"""Case JSONs and mesh files -> one manifest per shard, with the pose of every tooth at T1 and T2."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dentalign.cases import case_list, kept_manifests
from dentalign.cases.kept_manifests import Counts, KeptManifest
from dentalign.cases.left_out import LeftOut, excluded_cases, from_list, to_list
from dentalign.cases.manifests import Manifest, path_of
from dentalign.cases.reading import STAGE, MadeCase, make_cases, stop_if_store_fails
from dentalign.cases.settings import Fetch, Limits, Source
from dentalign.cases.sources.meshes import MeshStore
from dentalign.errors import DentalignError, NothingUsable
from dentalign.files import atomic
from dentalign.running.locks import exclusive


@dataclass(frozen=True)
class Summary:
    """Cases in the manifests, cases excluded by this stage, teeth dropped from the cases used.

    unchanged_shards : of which the manifest of the last run still held
    """

    cases: int
    excluded: int
    dropped_teeth: int
    unchanged_shards: int = 0


@dataclass
class _Shard:
    """What belongs to a shard: its cases, rows of the case list, what was left out before."""

    name: str
    splits: dict[str, str] = field(default_factory=dict)
    listed: int = 0
    lines: list[LeftOut] = field(default_factory=list)

    def key(self, json_dir: Path, meshes: MeshStore, settings: Mapping[str, Any]) -> str | None:
        """Of all that its manifest is made from; None where nothing tells that of the meshes."""
        cases = []
        for case_id, split in sorted(self.splits.items()):
            if (state := meshes.state(case_id)) is None:
                return None
            cases.append((case_id, split, _sha256(json_dir / f"{case_id}.json"), state))
        places = [str(json_dir), meshes.location("")]  # lines of what is left out name files
        return kept_manifests.key_of([self.name, self.listed, to_list(self.lines), cases, places, settings])

    def made(self, cases: Sequence[MadeCase]) -> tuple[Manifest, Counts]:
        """Its manifest, of what became of its cases."""
        entries = tuple(one.entry for one in cases if one.entry is not None)
        here = [line for one in cases for line in one.lines]
        counts = Counts(
            cases=len(entries),
            excluded=len(excluded_cases(here)),
            dropped_teeth=sum(len(entry.dropped) for entry in entries),
            meshes=sum(one.meshes for one in cases),
        )
        return Manifest(self.name, entries, (*self.lines, *here), self.listed), counts


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
) -> Summary:
    """Write `<out>/<shard>.json` for every shard, an empty one too.

    A shard of which nothing has changed since the last run, and whose meshes lie in a folder, is not made
    again (`kept_manifests`).

    json_dir : sanitised cases `<case_id>.json`
    cases    : CSV `case_id,split`
    left_out : JSON, what the list names and what fetch_json left out of it, passed on to the shards; None
               if there is none
    out      : directory, replaced as a whole
    raises   : NothingUsable if no case is left; DentalignError if an input of the stage cannot be read or
               the store of meshes fails for more than fetch.max_failed_share of the meshes
    """
    parts = _by_shard(cases, left_out, shards)
    settings = {"source": source.model_dump(mode="json"), "limits": limits.model_dump(mode="json")}
    with exclusive(out):
        with (
            MeshStore(source.meshes, limits, fetch, source.pseudonym_map) as meshes,
            atomic.replacing(out) as folder,
        ):
            folder.mkdir()
            keys = {part.name: part.key(Path(json_dir), meshes, settings) for part in parts}
            found = {name: kept_manifests.find(name, key) for name, key in keys.items() if key}
            unchanged = {name: kept for name, kept in found.items() if kept}
            anew = [part for part in parts if part.name not in unchanged]
            splits = {case_id: split for part in anew for case_id, split in part.splits.items()}
            made = make_cases(json_dir, splits, meshes, source=source, fetch=fetch, limits=limits)
            others = sum(kept.counts.meshes for kept in unchanged.values())
            stop_if_store_fails(made, others, fetch.max_failed_share, source.meshes)
            counts = {name: kept.counts for name, kept in unchanged.items()}
            for name, kept in unchanged.items():
                path_of(folder, name).write_bytes(kept.content)
            for part in anew:
                manifest, counts[part.name] = part.made([one for one in made if one.case_id in part.splits])
                manifest.save(path_of(folder, part.name))
            if not any(each.cases for each in counts.values()):
                raise NothingUsable(f"{cases}: no case is usable{_first_reasons(folder, shards)}")
        for_now = {one.case_id for one in made if one.for_now}
        to_keep = {
            part.name: KeptManifest(path_of(out, part.name).read_bytes(), key, counts[part.name])
            for part in anew
            if (key := keys[part.name]) and for_now.isdisjoint(part.splits)
        }
        kept_manifests.replace(to_keep, unchanged)
    return Summary(
        cases=sum(each.cases for each in counts.values()),
        excluded=sum(each.excluded for each in counts.values()),
        dropped_teeth=sum(each.dropped_teeth for each in counts.values()),
        unchanged_shards=len(unchanged),
    )


def _by_shard(cases: str | Path, left_out: str | Path | None, shards: Sequence[str]) -> list[_Shard]:
    splits = case_list.read_splits(cases)
    listed, lines = (list(splits), []) if left_out is None else read_listed(left_out)
    parts = {shard: _Shard(shard) for shard in shards}
    for case_id, split in splits.items():
        parts[case_list.shard_of(case_id, shards)].splits[case_id] = split
    for row in listed:
        parts[case_list.shard_of(row, shards)].listed += 1
    for line in lines:
        parts[case_list.shard_of(line.case_id, shards)].lines.append(line)
    return list(parts.values())


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None  # it is gone, or cannot be read: the manifest says so


def _first_reasons(folder: Path, shards: Sequence[str]) -> str:
    lines = [line for shard in shards for line in Manifest.load(path_of(folder, shard)).left_out]
    first = sorted(line for line in lines if line.stage == STAGE)[:3]
    text = "; ".join(f"case {line.case_id}: {line.seen} ({line.mend}) [{line.file}]" for line in first)
    return f"; first: {text}" if text else ""


def read_listed(path: str | Path) -> tuple[list[str], list[LeftOut]]:
    """What fetch_json wrote: every row of the case list by its id, and what was left out of it.

    raises: DentalignError if the file is none of that
    """
    try:
        record = json.loads(Path(path).read_bytes())
        return [str(row) for row in record["listed"]], from_list(record["left_out"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DentalignError(f"{path}: no list of what was left out ({type(error).__name__})") from error
