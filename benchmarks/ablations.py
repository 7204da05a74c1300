"""Gain of each part of a model's training: one part left away at a time, by `dvc exp run`.

In a clone of its own, with the cases in params.yaml and `dvc repro` done once:

    python benchmarks/ablations.py fc --seeds 0 1 2
    python benchmarks/ablations.py attention --epochs 300 --rows base "no jitter"

A part that is a parameter is set with `-S`; one that is code is changed in the working copy while its
experiment runs (DVC keeps the change with the experiment) and put back. An experiment that is there already
is not run again. The table comes from `dvc exp show`.
"""

import argparse
import csv
import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Edit:
    """A change of the code: what stands exactly once in a file, and what takes its place."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Row:
    """One line of the table: what is left away, as parameters below train.<model> or as code."""

    name: str
    settings: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()


_FC, _FC_NETWORK = "dentalign/alignment/fc/training.py", "dentalign/alignment/fc/network.py"
_ATTENTION, _POSES = "dentalign/alignment/attention/training.py", "dentalign/alignment/attention/model.py"

ROWS = {
    "fc": (
        Row("base"),
        Row("no moved copies", ("augmentation.copies=2",)),
        Row("no moved or mirrored copies", ("augmentation.copies=1",)),
        Row("no jitter", ("jitter=0",)),
        Row("no tooth dropout", ("tooth_dropout=0",)),
        Row("no dropout", ("dropout=0",)),
        Row("no averaging of weights", ("ema_decay=0",)),
        Row("constant rate", ("decay_steps=1000000000",)),
        Row("no weight decay", ("weight_decay=0",)),
        Row(
            "no normalisation",
            edits=(
                Edit(_FC, "(variance + SMALLEST_SPREAD_OUT**2).sqrt()", "0 * variance + 1"),
                Edit(_FC, "(spread + SMALLEST_SPREAD_IN**2).sqrt()", "0 * spread + 1"),
            ),
        ),
        Row("all components seen and changed", ("movements=32",)),
        Row("no mouths on the way", ("midway=0",)),
        Row(
            "motion of the whole mouth not removed",
            edits=(Edit(_FC_NETWORK, "for _ in range(_ROUNDS):", "for _ in range(0):"),),
        ),
        Row(
            "no linear paths",
            edits=(Edit(_FC_NETWORK, "(self.head(x) + linear)", "self.head(x)"),),
        ),
        Row(
            "squared distance",
            edits=(Edit(_FC, "((distance + LOG_ERROR_SHARE", "((square + LOG_ERROR_SHARE"),),
        ),
        Row(
            "points in no order",
            edits=(Edit("dentalign/cases/crowns.py", "return sampling.order(points)", "return points"),),
        ),
    ),
    "attention": (
        Row("base"),
        Row("no mouths on the way, one prediction", ("midway=0",)),
        Row("one prediction", edits=(Edit(_POSES, "if not self.midway:", "if self.midway is not None:"),)),
        Row("no contacts", ("contact=0",)),
        Row("no jitter", ("jitter_mm=0", "jitter_deg=0")),
        Row("no resizing", ("resize=0",)),
        Row("no tooth dropout", ("tooth_dropout=0",)),
        Row("no dropout", ("dropout=0",)),
        Row("no averaging of weights", ("ema_decay=0",)),
        Row("constant rate", ("decay_steps=1000000000",)),
        Row(
            "no mirror images",
            edits=(
                Edit(_ATTENTION, "generator=generator) < 0.5", "generator=generator) < 0.0"),
                Edit(
                    _POSES,
                    "self.mirror_averaged(moved, present, stays, told.turned(turned))",
                    "self.network(moved, present, stays, told.turned(turned))",
                ),
            ),
        ),
    ),
}


@contextmanager
def edited(edits: tuple[Edit, ...]) -> Iterator[None]:
    """The working copy with these changes; put back in the end."""
    before = {edit.file: (ROOT / edit.file).read_bytes().decode() for edit in edits}
    after = dict(before)
    for edit in edits:
        if after[edit.file].count(edit.old) != 1:
            raise ValueError(f"{edit.file}: not exactly once: {edit.old}")
        after[edit.file] = after[edit.file].replace(edit.old, edit.new)
    try:
        for file, text in after.items():
            (ROOT / file).write_bytes(text.encode())
        yield
    finally:
        for file, text in before.items():
            (ROOT / file).write_bytes(text.encode())


def dvc(*arguments: str) -> str:
    """Run `dvc` and return its output; ends the program if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"dvc {' '.join(arguments)}\n{done.stdout}{done.stderr}")
    return done.stdout


def shown() -> dict[str, dict[str, str]]:
    """The finished experiments of this commit by name, as `dvc exp show` has them."""
    rows = csv.DictReader(io.StringIO(dvc("exp", "show", "--csv")))
    # One that runs, or was killed, is shown as well: with the figures of the commit that it began from.
    # Without any experiment the column is not there.
    return {row["Experiment"]: row for row in rows if row.get("State", "") in ("", "Success")}


def _column(row: dict[str, str], name: str) -> str:
    """Column of a table in which a name may be led by its file."""
    return next(value for key, value in row.items() if key == name or key.endswith(f":{name}"))


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--rows", nargs="+", help="names of the rows; default: all")
    given = parser.parse_args()
    if unknown := set(given.rows or ()) - {row.name for row in ROWS[given.model]}:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    rows = [row for row in ROWS[given.model] if given.rows is None or row.name in (*given.rows, "base")]
    names = {
        (row.name, seed): f"{given.model}-{row.name.replace(' ', '-').replace(',', '')}-{given.epochs}-{seed}"
        for row in rows
        for seed in given.seeds
    }
    table = shown()
    for seed in given.seeds:
        for row in rows:
            name = names[row.name, seed]
            if name in table:
                continue
            settings = [f"train.{given.model}.{setting}" for setting in row.settings]
            settings += [f"train.model={given.model}", f"train.epochs={given.epochs}", f"train.seed={seed}"]
            with edited(row.edits):
                dvc("exp", "run", "--temp", "-n", name, *(part for s in settings for part in ("-S", s)))
            table = shown()
            print(f"{name}: add_mm {_column(table[name], 'model.add_mm')}", file=sys.stderr, flush=True)
    print("| left away | `add_mm` | of the whole | over no movement |\n|---|---|---|---|")
    whole = 0.0
    for row in rows:
        found = [table[names[row.name, seed]] for seed in given.seeds]
        add = [float(_column(one, "model.add_mm")) for one in found]
        ratio = np.mean([float(_column(one, "add_vs_identity")) for one in found])
        whole = whole or float(np.mean(add))
        each = ", ".join(f"{value:.3f}" for value in add)
        name = "nothing" if row.name == "base" else row.name
        print(f"| {name} | {each} | {np.mean(add) / whole:.2f} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
