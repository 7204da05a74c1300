"""Case JSONs and mesh files -> one manifest per shard, with the pose of every tooth at T1 and T2."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dentalign.cases import case_list
from dentalign.cases.left_out import LeftOut, excluded_cases, from_list
from dentalign.cases.manifests import Manifest, path_of
from dentalign.cases.reading import make_cases, stop_if_store_fails
from dentalign.cases.settings import Fetch, Limits, Source
from dentalign.cases.sources.meshes import MeshStore
from dentalign.errors import DentalignError, NothingUsable
from dentalign.files import atomic
from dentalign.running.locks import exclusive


@dataclass(frozen=True)
class ManifestCounts:
    """Cases in the manifests, cases excluded by this stage, teeth dropped from the cases used."""

    cases: int
    excluded: int
    dropped_teeth: int


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
    """Write `<out>/<shard>.json` for every shard, an empty one too.

    json_dir : sanitised cases `<case_id>.json`
    cases    : CSV `case_id,split`
    left_out : JSON, every row of the case list and what fetch_json left out, passed on to the shards; None
               if there is none
    out      : directory, replaced as a whole
    raises   : NothingUsable if no case is left; DentalignError if an input of the stage cannot be read or
               the store of meshes fails for more than fetch.max_failed_share of the meshes
    """
    splits = case_list.read_splits(cases)
    listed, lines_before = (list(splits), []) if left_out is None else read_listed(left_out)
    shard_of = cache(lambda case_id: case_list.shard_of(case_id, shards))
    with exclusive(out), MeshStore(source.meshes, limits, fetch) as meshes:
        made = make_cases(json_dir, splits, meshes, source=source, fetch=fetch, limits=limits)
        stop_if_store_fails(made, fetch.max_failed_share, source.meshes)
        entries = [one.entry for one in made if one.entry is not None]
        lines = [line for one in made for line in one.lines]
        if not entries:
            raise NothingUsable(f"{cases}: no case is usable{_first_reasons(lines)}")
        with atomic.replacing(out) as folder:
            folder.mkdir()
            for shard in shards:
                Manifest(
                    shard,
                    tuple(entry for entry in entries if shard_of(entry.case_id) == shard),
                    tuple(line for line in lines_before + lines if shard_of(line.case_id) == shard),
                    sum(shard_of(row) == shard for row in listed),
                ).save(path_of(folder, shard))
    return ManifestCounts(
        cases=len(entries),
        excluded=len(excluded_cases(lines)),
        dropped_teeth=sum(len(entry.dropped) for entry in entries),
    )


def _first_reasons(lines: Sequence[LeftOut]) -> str:
    text = "; ".join(
        f"case {line.case_id}: {line.seen} ({line.mend}) [{line.file}]" for line in sorted(lines)[:3]
    )
    return f"; first: {text}" if text else ""


def read_listed(path: str | Path) -> tuple[list[str], list[LeftOut]]:
    """Read what fetch_json wrote: every row of the case list by its id, and what was left out of it.

    raises: DentalignError if the file is none of that
    """
    try:
        record = json.loads(Path(path).read_bytes())
        return [str(row) for row in record["listed"]], from_list(record["left_out"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DentalignError(f"{path}: no list of what was left out ({type(error).__name__})") from error
