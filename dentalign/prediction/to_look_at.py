"""What of a prediction a person should see to, and why: single teeth, or the case as a whole."""

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dentalign import atomic
from dentalign.geometry.rigid import Array
from dentalign.networks.tooth_patterns import FEW_ALIKE, ToothPatterns
from dentalign.prediction.new_case import NewCase

Code = Literal["few_alike", "expected_error", "not_learnt"]


@dataclass(frozen=True)
class ToLookAt:
    """One line of the list.

    tooth : FDI number, "" where it is the case as a whole
    code  : few_alike: (nearly) no case of the training lacked and lost the same teeth; expected_error: the
            model expects to be far off; not_learnt: it has seen too few of these teeth to move this one
    seen  : the same in words, with the numbers
    """

    case_id: str
    tooth: str
    code: Code
    seen: str


def find(
    case: NewCase,
    stays: NDArray[np.bool_],
    moving: NDArray[np.intp],
    expected_mm: Array | None,
    patterns: ToothPatterns | None,
    above_mm: float,
) -> tuple[ToLookAt, ...]:
    """The case first, then its teeth by number.

    stays       : (32,) bool, teeth that are there at T2
    moving      : (M,) int, slots of those that are not fixed
    expected_mm : (M,), how far off the model expects them to be, not a number where it has not learnt the
                  slot; None where it never says
    patterns    : what the training cases lacked and lost; None where that is not known
    above_mm    : teeth expected to be further off are listed
    """
    looks: list[ToLookAt] = []
    if patterns is not None and patterns.mouths_alike(case.mask, stays) < FEW_ALIKE:
        what = patterns.pattern(case.mask, stays) or "no tooth absent or extracted"
        seen = (
            f"fewer than {FEW_ALIKE} of the {patterns.mouths} training cases are like it (slots: {what}; "
            "without a usable mesh is absent)"
        )
        looks.append(ToLookAt(case.case_id, "", "few_alike", seen))
    if expected_mm is None:
        return tuple(looks)
    for fdi, error in sorted(zip(case.fdi[moving].tolist(), expected_mm.tolist(), strict=True)):
        if np.isnan(error):
            seen = "too few of these in the training; it stays where it is"
            looks.append(ToLookAt(case.case_id, str(fdi), "not_learnt", seen))
        elif error > above_mm:
            seen = f"expected to be off by {error:.2f} mm"
            looks.append(ToLookAt(case.case_id, str(fdi), "expected_error", seen))
    return tuple(looks)


def in_words(looks: Iterable[ToLookAt], above_mm: float) -> list[str]:
    """A sentence for each reason."""
    kept = list(looks)
    notes = [f"To be looked at as a whole: {look.seen}." for look in kept if look.code == "few_alike"]
    told: tuple[tuple[Code, str], ...] = (
        ("expected_error", f"To be looked at, expected to be off by more than {above_mm:g} mm"),
        ("not_learnt", "Not moved, the model has seen too few of these"),
    )
    for code, words in told:
        if teeth := [look.tooth for look in kept if look.code == code]:
            notes.append(f"{words}: {', '.join(teeth)}.")
    return notes


def write_csv(path: str | Path, looks: Iterable[ToLookAt]) -> None:
    """Write the list for people, spreadsheets and programs; only its header where there is nothing."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, [field.name for field in fields(ToLookAt)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(look) for look in looks)
    atomic.write_text(path, text.getvalue())
