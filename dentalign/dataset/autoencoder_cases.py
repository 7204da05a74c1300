"""Clouds that the tooth autoencoder is trained on: those of listed cases, in a file of their own.

The bytes of the file depend only on the listed cases. So a change of other cases does not require a new
training of the autoencoder, after which all cases would be encoded again.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import DentalignError, NothingUsable
from dentalign.files import csv_table


def extract(shards: Sequence[str | Path], case_list: str | Path, out: str | Path) -> tuple[int, list[str]]:
    """Write the clouds of the listed cases; returns their number, and the listed ids that are in no shard.

    case_list : CSV with a column case_id
    raises    : DentalignError where the list cannot be read or names a case outside the train split;
                NothingUsable where no listed case is in a shard
    """
    wanted = {row["case_id"]: line for line, row in csv_table.read(case_list, ["case_id"])}
    if "" in wanted:
        raise DentalignError(f"{case_list}: line {wanted['']} names no case; name one, or remove the line")
    with ExitStack() as stack:
        stores = [stack.enter_context(MouthStore(path)) for path in shards]
        found = sorted(
            (case_id, number, index)
            for number, store in enumerate(stores)
            for index, case_id in enumerate(store.case_ids)
            if case_id in wanted
        )
        outside = [case_id for case_id, number, index in found if stores[number].splits[index] != "train"]
        if outside:
            raise DentalignError(
                f"{case_list}: {', '.join(outside[:5])} ({len(outside)} in all) are not in the train split; "
                "the autoencoder must not be trained on validation or test cases: remove them from the list"
            )
        if not found:
            raise NothingUsable(
                f"{case_list}: none of its {len(wanted)} cases is in the data set; "
                "make a list of your own with `dentalign list SOURCE --autoencoder 64`"
            )
        with mouth_store.create(out, stores[0].layout, {}) as writer:
            for _, number, index in found:
                # The autoencoder learns shapes: a new planner of a case must not train it again.
                writer.append(replace(stores[number].mouth(index), planner=""))
    return len(found), sorted(wanted.keys() - {case_id for case_id, _, _ in found})
