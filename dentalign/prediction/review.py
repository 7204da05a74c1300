"""Review list of a prediction: teeth, or the case as a whole, that a person should look at, and why."""

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
class ReviewItem:
    """One line of the review list.

    tooth : FDI number, "" for the case as a whole
    code  : few_alike: (nearly) no training case had the same teeth absent and extracted; overlap: the tooth
            interpenetrates its neighbour; expected_error: the model expects a large error; not_learnt: the
            training had too few of these teeth, so that the model does not move this one
    seen  : the same in words, with the numbers
    """

    case_id: str
    tooth: str
    code: Code
    seen: str


@dataclass(frozen=True)
class Thresholds:
    """Expected error and overlap with a neighbour above which a tooth is listed, mm."""

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
) -> tuple[ReviewItem, ...]:
    """The review list of a case: the case as a whole first, then its teeth by number.

    stays       : (32,) bool, teeth present at T2
    pose        : (32, 4, 4), predicted, tooth-local -> head, mm
    moving      : (M,) int, slots of the teeth that are not fixed
    expected_mm : (M,), their expected errors, NaN where the model has not learnt the slot; None for a model
                  that expects none
    patterns    : absent and extracted teeth of the training cases; None where the model does not say
    """
    items: list[ReviewItem] = []
    if patterns is not None and patterns.mouths_alike(case.mouth.present[T1], stays) < FEW_ALIKE:
        what = patterns.pattern(case.mouth.present[T1], stays) or "no tooth absent or extracted"
        seen = (
            f"fewer than {FEW_ALIKE} of the {patterns.mouths} training cases are like it (slots: {what}; "
            "without a usable mesh is absent)"
        )
        items.append(ReviewItem(case.case_id, "", "few_alike", seen))
    teeth = _overlaps(case, stays, pose, thresholds.overlap_mm)
    if expected_mm is not None:
        teeth += _expected_errors(case, moving, expected_mm, thresholds.error_mm)
    return (*items, *sorted(teeth, key=lambda item: (int(item.tooth), item.code, item.seen)))


def _overlaps(case: NewCase, stays: NDArray[np.bool_], pose: Array, above_mm: float) -> list[ReviewItem]:
    """Both teeth of each pair of neighbours that overlap too much, and more than at T1."""
    pairs = contacts.neighbours(stays, stays)
    points = case.mouth.points.astype(np.float64)
    after, before = (
        contacts.contacts(rigid.apply(poses, points), pairs)[0] for poses in (pose, case.mouth.pose[T1])
    )
    items = []
    deep = after > np.maximum(before, above_mm)
    for pair, depth in zip(pairs[deep], after[deep], strict=True):
        for tooth, other in (pair, pair[::-1]):
            seen = f"overlaps by {depth:.2f} mm with {case.mouth.fdi[other]}"
            items.append(ReviewItem(case.case_id, str(case.mouth.fdi[tooth]), "overlap", seen))
    return items


def _expected_errors(
    case: NewCase, moving: NDArray[np.intp], expected_mm: Array, above_mm: float
) -> list[ReviewItem]:
    items = []
    for fdi, error in zip(case.mouth.fdi[moving].tolist(), expected_mm.tolist(), strict=True):
        if np.isnan(error):
            seen = "too few of these in the training; it stays where it is"
            items.append(ReviewItem(case.case_id, str(fdi), "not_learnt", seen))
        elif error > above_mm:
            seen = f"expected error {error:.2f} mm"
            items.append(ReviewItem(case.case_id, str(fdi), "expected_error", seen))
    return items


def in_words(items: Iterable[ReviewItem], thresholds: Thresholds) -> list[str]:
    """The list as sentences, one for each reason."""
    kept = list(items)
    notes = [f"To be looked at as a whole: {item.seen}." for item in kept if item.code == "few_alike"]
    sentences: tuple[tuple[Code, str], ...] = (
        ("overlap", f"To be looked at, overlapping a neighbour by more than {thresholds.overlap_mm:g} mm"),
        ("expected_error", f"To be looked at, with an expected error above {thresholds.error_mm:g} mm"),
        ("not_learnt", "Not moved, too few of these in the training"),
    )
    for code, words in sentences:
        if teeth := dict.fromkeys(item.tooth for item in kept if item.code == code):
            notes.append(f"{words}: {', '.join(teeth)}.")
    return notes


def write_csv(path: str | Path, items: Iterable[ReviewItem]) -> None:
    """Write the list as CSV, only its heading where it is empty."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, [field.name for field in fields(ReviewItem)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(item) for item in items)
    atomic.write_text(path, text.getvalue())
