"""Joining of all shards into one file, and of their lists of what was left out into one list."""

import heapq
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from dentalign.cases.left_out import LeftOut, Totals, dropped_teeth, excluded_cases, from_list
from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import DentalignError, NothingUsable
from dentalign.mouth import T1
from dentalign.running.progress import track


def account(shards: Sequence[str | Path], names: Sequence[str]) -> tuple[Totals, list[LeftOut]]:
    """Count the cases and teeth of all shards; returns the totals, and the entries left out, sorted.

    raises : DentalignError where a shard is missing or extra
    """
    with ExitStack() as stack:
        stores = [stack.enter_context(MouthStore(path)) for path in shards]
        mouth_store.require_shards(stores, names)
        lines = sorted(line for store in stores for line in from_list(store.record("left_out")))
        listed = [store.record("listed") for store in stores]
        totals = Totals(
            cases_listed=sum(each["cases"] for each in listed),
            cases_used=sum(len(store) for store in stores),
            cases_excluded=len(excluded_cases(lines)),
            teeth_listed=sum(each["teeth"] for each in listed),
            teeth_used=sum(int(store.present()[:, T1].sum()) for store in stores),
            teeth_dropped=len(dropped_teeth(lines)),
        )
        return totals, lines


def concatenate(shards: Sequence[str | Path], names: Sequence[str], out: str | Path) -> int:
    """Join shards into one file, with rows sorted by case id; returns the number of cases.

    shards : the files, exactly one for each name
    names  : `shards` of params.yaml
    raises : DentalignError where a shard is missing or extra, or two shards come from different encoders;
             NothingUsable where no shard holds a case
    """
    with ExitStack() as stack:
        stores = [stack.enter_context(MouthStore(path)) for path in shards]
        mouth_store.require_shards(stores, names)
        encoders = {str(store.attributes["encoder_sha256"]) for store in stores}
        if len(encoders) > 1:
            raise DentalignError("the shards come from different encoders: run encode_latents_sharded again")
        if not any(len(store) for store in stores):
            raise NothingUsable("no shard holds a case: see reports/left_out.csv for the reasons")
        order = heapq.merge(*(_ids(store, number) for number, store in enumerate(stores)))
        total = sum(len(store) for store in stores)
        attributes = {"encoder_sha256": encoders.pop(), "shards": json.dumps(sorted(names))}
        with mouth_store.create(out, stores[0].layout, attributes) as writer:
            for _, number, index in track(order, "joining", total):
                writer.append(stores[number].mouth(index))
        return total


def _ids(store: MouthStore, number: int) -> Iterator[tuple[str, int, int]]:
    return ((case_id, number, index) for index, case_id in enumerate(store.case_ids))
