"""What of a prediction a person should see to, and why: single teeth, or the case as a whole."""

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dentalign.alignment.patterns import FEW_ALIKE, ToothPatterns
from dentalign.files import atomic
from dentalign.geometry import contacts, rigid
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1
from dentalign.prediction.new_case import NewCase

Code = Literal["few_alike", "overlap", "expected_error", "not_learnt"]


@dataclass(frozen=True)
class ToLookAt:
    """One line of the list.

    tooth : FDI number, "" where it is the case as a whole
    code  : few_alike: (nearly) no case of the training lacked and lost the same teeth; overlap: it stands in
            its neighbour; expected_error: the model expects to be far off; not_learnt: it has seen too few of
            these teeth to move this one
    seen  : the same in words, with the numbers
    """

    case_id: str
    tooth: str
    code: Code
    seen: str


@dataclass(frozen=True)
class Thresholds:
    """From when on a tooth is listed: expected to be further off, standing deeper in its neighbour; mm."""

    error_mm: float = 1.0
    overlap_mm: float = 0.5


def find(
    case: NewCase,
    stays: NDArray[np.bool_],
    pose: Array,
    moving: NDArray[np.intp],
    expected_mm: Array | None,
    patterns: ToothPatterns | None,
    thresholds: Thresholds,
) -> tuple[ToLookAt, ...]:
    """The case first, then its teeth by number.

    stays       : (32,) bool, teeth that are there at T2
    pose        : (32, 4, 4), predicted, tooth-local -> head, mm
    moving      : (M,) int, slots of those that are not fixed
    expected_mm : (M,), how far off the model expects them to be, not a number where it has not learnt the
                  slot; None where it never says
    patterns    : what the training cases lacked and lost; None where that is not known
    """
    looks: list[ToLookAt] = []
    if patterns is not None and patterns.mouths_alike(case.mouth.present[T1], stays) < FEW_ALIKE:
        what = patterns.pattern(case.mouth.present[T1], stays) or "no tooth absent or extracted"
        seen = (
            f"fewer than {FEW_ALIKE} of the {patterns.mouths} training cases are like it (slots: {what}; "
            "without a usable mesh is absent)"
        )
        looks.append(ToLookAt(case.case_id, "", "few_alike", seen))
    teeth = _overlaps(case, stays, pose, thresholds.overlap_mm)
    if expected_mm is not None:
        teeth += _doubts(case, moving, expected_mm, thresholds.error_mm)
    return (*looks, *sorted(teeth, key=lambda look: (int(look.tooth), look.code, look.seen)))


def _overlaps(case: NewCase, stays: NDArray[np.bool_], pose: Array, above_mm: float) -> list[ToLookAt]:
    """Both teeth of each pair of neighbours that stand too deep in each other, where they did not at T1."""
    pairs = contacts.neighbours(stays, stays)
    points = case.mouth.points.astype(np.float64)
    after, before = (
        contacts.contacts(rigid.apply(poses, points), pairs)[0] for poses in (pose, case.mouth.pose[T1])
    )
    looks = []
    deep = after > np.maximum(before, above_mm)
    for pair, depth in zip(pairs[deep], after[deep], strict=True):
        for tooth, other in (pair, pair[::-1]):
            seen = f"stands {depth:.2f} mm deep in {case.mouth.fdi[other]}"
            looks.append(ToLookAt(case.case_id, str(case.mouth.fdi[tooth]), "overlap", seen))
    return looks


def _doubts(case: NewCase, moving: NDArray[np.intp], expected_mm: Array, above_mm: float) -> list[ToLookAt]:
    looks = []
    for fdi, error in zip(case.mouth.fdi[moving].tolist(), expected_mm.tolist(), strict=True):
        if np.isnan(error):
            seen = "too few of these in the training; it stays where it is"
            looks.append(ToLookAt(case.case_id, str(fdi), "not_learnt", seen))
        elif error > above_mm:
            seen = f"expected to be off by {error:.2f} mm"
            looks.append(ToLookAt(case.case_id, str(fdi), "expected_error", seen))
    return looks


def in_words(looks: Iterable[ToLookAt], thresholds: Thresholds) -> list[str]:
    """A sentence for each reason."""
    kept = list(looks)
    notes = [f"To be looked at as a whole: {look.seen}." for look in kept if look.code == "few_alike"]
    told: tuple[tuple[Code, str], ...] = (
        ("overlap", f"To be looked at, in their neighbours by more than {thresholds.overlap_mm:g} mm"),
        ("expected_error", f"To be looked at, expected to be off by more than {thresholds.error_mm:g} mm"),
        ("not_learnt", "Not moved, the model has seen too few of these"),
    )
    for code, words in told:
        if teeth := dict.fromkeys(look.tooth for look in kept if look.code == code):
            notes.append(f"{words}: {', '.join(teeth)}.")
    return notes


def write_csv(path: str | Path, looks: Iterable[ToLookAt]) -> None:
    """Write the list for people, spreadsheets and programs; only its header where there is nothing."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, [field.name for field in fields(ToLookAt)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(look) for look in looks)
    atomic.write_text(path, text.getvalue())
