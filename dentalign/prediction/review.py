"""Review list of a prediction: teeth, or the case as a whole, that a person should check, and why."""

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dentalign.alignment.familiarity import PARTS, Likeness
from dentalign.alignment.patterns import FEW_ALIKE, ToothPatterns
from dentalign.cases.exported_points import apex_travel_mm
from dentalign.files import atomic
from dentalign.geometry import contacts, occlusion, rigid
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1
from dentalign.planning import order_of_work
from dentalign.planning.outcome import Wish
from dentalign.planning.staging import StagedPlan
from dentalign.prediction.new_case import NewCase
from dentalign.teeth import ARCHES

Code = Literal[
    "few_alike", "one_arch", "not_learnt", "unlike_training", "buccal_axis", "overlap", "occlusal_overlap",
    "expected_error", "apex_travel", "wish_missed", "collision",
]  # fmt: skip
UNLIKE_TRAINING: tuple[Code, ...] = ("few_alike", "one_arch", "not_learnt", "unlike_training")


@dataclass(frozen=True)
class ReviewItem:
    """One line of the review list.

    tooth : FDI number; "" for the case as a whole
    code  : reason code. few_alike: hardly a training case has the same teeth absent and extracted; one_arch:
            an arch has no teeth; not_learnt: the model does not move this tooth, as such teeth were too rare
            in training; unlike_training: the mouth is unlike the training mouths in its place, size, poses or
            shapes; buccal_axis: the file has another one than expected; overlap: the tooth overlaps a
            neighbour at T2; occlusal_overlap: it penetrates a tooth of the other arch at T2; expected_error:
            the model expects a large error; apex_travel: its root apex travels far; wish_missed: the plan
            misses a wish of the prescription;
            collision: on the way to T2 the tooth overlaps another one more than at T1 and T2, and no way
            around was found
    seen  : the finding in words, with its figures
    fix   : what to do about it
    """

    case_id: str
    tooth: str
    code: Code
    seen: str
    fix: str


@dataclass(frozen=True)
class Thresholds:
    """Limits above which a tooth is on the review list.

    error_mm   : expected error (expected_add_mm)
    overlap_mm : overlap with a neighbour at T2
    occlusal_mm: overlap with a tooth of the other arch at T2
    apex_mm    : travel of the root apex
    """

    error_mm: float = 1.0
    overlap_mm: float = 0.5
    occlusal_mm: float = 0.5
    apex_mm: float = 6.0


def find(
    case: NewCase,
    stays: NDArray[np.bool_],
    pose: Array,
    moving: NDArray[np.intp],
    expected_mm: Array | None,
    patterns: ToothPatterns | None,
    thresholds: Thresholds,
    likeness: Likeness | None = None,
    wishes: Iterable[Wish] = (),
) -> tuple[ReviewItem, ...]:
    """Make the review list of a case: items of the case as a whole first, then those of teeth by FDI number.

    stays       : (32,) bool, teeth that stand at T2
    pose        : (32, 4, 4), predicted, tooth-local -> head, mm
    moving      : (M,) int, slots of the teeth that stay and are not fixed
    expected_mm : (M,), expected errors of the moving teeth, NaN for a slot that the model has not learnt;
                  None for a model without expected errors
    patterns    : absent and extracted teeth of the training cases; None if the weights file does not have
                  them
    likeness    : comparison of this mouth with the training mouths; None to leave it out
    wishes      : wishes of the prescription, beside what the plan does
    """
    items = unlike_training(case, stays, moving, expected_mm, patterns, likeness)
    if case.turned:
        fix = "check in the report that buccal sides are outside; set the axis with --buccal-axis"
        items.append(ReviewItem(case.case_id, "", "buccal_axis", case.turned, fix))
    neighbours = contacts.neighbours(stays, stays)
    items += _overlaps(case, pose, neighbours, "overlap", thresholds.overlap_mm)
    opposite = occlusion.antagonists(rigid.apply(pose, case.mouth.points), stays)
    items += _overlaps(case, pose, opposite, "occlusal_overlap", thresholds.occlusal_mm)
    for wish in wishes:
        if wish.met == "no":
            seen = f"{wish.wish}: missed by {wish.missed_by:.2f} {wish.unit}"
            fix = "see prescription/, and change the wish or the plan"
            items.append(ReviewItem(case.case_id, "", "wish_missed", seen, fix))
    if expected_mm is not None:
        items += _expected_errors(case, moving, expected_mm, thresholds.error_mm)
    travel = apex_travel_mm(case.mouth, pose)
    for slot in np.flatnonzero(stays & (travel > thresholds.apex_mm)).tolist():  # NaN without an apex
        seen, fix = f"its root apex travels {travel[slot]:.1f} mm", "check root and bone; spread it over time"
        items.append(ReviewItem(case.case_id, str(case.mouth.fdi[slot]), "apex_travel", seen, fix))
    return tuple(sorted(items, key=lambda item: (int(item.tooth or 0), item.code, item.seen)))


def unlike_training(
    case: NewCase,
    stays: NDArray[np.bool_],
    moving: NDArray[np.intp],
    expected_mm: Array | None,
    patterns: ToothPatterns | None,
    likeness: Likeness | None = None,
) -> list[ReviewItem]:
    """List how a mouth is unlike those of the training, so that its prediction may be bad.

    These items are at the head of the report and in the output of `dentalign predict`. Parameters as for
    `find`.
    """
    present = case.mouth.present[T1]
    reasons: list[tuple[str, Code, str, str]] = []
    if patterns is not None and patterns.mouths_alike(present, stays) < FEW_ALIKE:
        what = patterns.pattern(present, stays) or "no tooth absent or extracted"
        seen = (
            f"fewer than {FEW_ALIKE} of the {patterns.mouths} training cases are like it (slots: {what}; "
            "a tooth without a usable mesh counts as absent)"
        )
        fix = "plan this case by hand, or train on cases with the same teeth absent and extracted"
        reasons.append(("", "few_alike", seen, fix))
    for name, slots in ARCHES.items():
        if not present[slots].any():
            seen = f"the {name} arch has no teeth; the model was trained on both arches"
            reasons.append(("", "one_arch", seen, f"add the {name} arch if there is a scan of it"))
    for slot in [] if expected_mm is None else moving[np.isnan(expected_mm)].tolist():
        seen, fix = "too few such teeth in the training; it stays where it is", "plan this tooth by hand"
        reasons.append((str(case.mouth.fdi[slot]), "not_learnt", seen, fix))
    if likeness is not None:
        reasons += [("", "unlike_training", *said) for said in _unlike_in(case, likeness)]
    return [ReviewItem(case.case_id, *reason) for reason in reasons]


def _unlike_in(case: NewCase, likeness: Likeness) -> list[tuple[str, str]]:
    """Finding and fix for each part in which a mouth is unlike the training mouths."""

    def most(teeth: Array) -> str:
        return ", ".join(str(case.mouth.fdi[slot]) for slot in np.argsort(-teeth, kind="stable")[:3])

    said = {
        "placement": (
            f"in the head frame the mouth is turned by {likeness.turn_deg[0]:.0f} deg and moved by "
            f"{likeness.shift_mm[0]:.0f} mm from the mean training mouth",
            "check the head frame of the export and the poses of the jaws",
        ),
        "size": (
            f"the mouth is {likeness.scale[0]:.2f} times as large as the mean training mouth",
            "check the scale of meshes and poses; if it is right, check the prediction tooth by tooth",
        ),
        "poses": (
            f"its teeth stand unusually at T1, most of all {most(likeness.pose_teeth[0])}",
            "check their poses; if they are right, check the prediction, or train on such cases",
        ),
        "shapes": (
            f"its crowns have unusual shapes, most of all {most(likeness.shape_teeth[0])}",
            "check meshes and tooth-local axes; if they are right, train on crowns from the same source",
        ),
    }
    distances = zip(PARTS, likeness.parts[0].tolist(), strict=True)
    return [
        (f"{said[part][0]} ({distance:.3g} times the limit)", said[part][1])
        for part, distance in distances
        if distance > 1
    ]


def _overlaps(
    case: NewCase, pose: Array, pairs: NDArray[np.intp], code: Code, above_mm: float
) -> list[ReviewItem]:
    """Both teeth of each pair that overlap too much, and more than at T1."""
    points = case.mouth.points.astype(np.float64)
    after, before = (
        contacts.contacts(rigid.apply(poses, points), pairs)[0] for poses in (pose, case.mouth.pose[T1])
    )
    items = []
    deep = after > np.maximum(before, above_mm)
    for pair, depth in zip(pairs[deep], after[deep], strict=True):
        for tooth, other in (pair, pair[::-1]):
            seen, fix = f"overlaps tooth {case.mouth.fdi[other]} by {depth:.2f} mm", "move one of the two"
            items.append(ReviewItem(case.case_id, str(case.mouth.fdi[tooth]), code, seen, fix))
    return items


def _expected_errors(
    case: NewCase, moving: NDArray[np.intp], expected_mm: Array, above_mm: float
) -> list[ReviewItem]:
    teeth = zip(case.mouth.fdi[moving].tolist(), expected_mm.tolist(), strict=True)
    return [
        ReviewItem(
            case.case_id, str(fdi), "expected_error", f"expected error {error:.2f} mm", "check it first"
        )
        for fdi, error in teeth
        if error > above_mm  # NaN where the model has not learnt the slot
    ]


def collisions(case: NewCase, plan: StagedPlan) -> tuple[ReviewItem, ...]:
    """List both teeth of each pair that overlaps too much on the way to T2."""
    fix = "make space there (enamel, arch width), or let another tooth wait by hand"
    return tuple(
        ReviewItem(case.case_id, str(tooth), "collision", seen, fix)
        for one, other, seen in order_of_work.collisions(plan, case.mouth.fdi)
        for tooth in (one, other)
    )


def warnings(items: Iterable[ReviewItem]) -> tuple[str, ...]:
    """Make the sentences for the head of the report from the items on what is unlike the training cases.

    One sentence for each such item on the whole case, and one that names all teeth that the model left in
    place. Items with other reason codes are ignored.
    """
    unlike = [item for item in items if item.code in UNLIKE_TRAINING]
    said = [f"Unlike the training cases: {item.seen}. Fix: {item.fix}." for item in unlike if not item.tooth]
    if teeth := ", ".join(item.tooth for item in unlike if item.tooth):
        said.append(f"Not moved, too few such teeth in the training: {teeth}. Fix: plan them by hand.")
    return tuple(said)


def in_words(items: Iterable[ReviewItem], thresholds: Thresholds) -> list[str]:
    """Make a sentence for each other reason code of teeth, and for buccal_axis."""
    kept = list(items)
    notes = [f"Tooth-local frame: {item.seen}; turned." for item in kept if item.code == "buccal_axis"]
    sentences: tuple[tuple[Code, str], ...] = (
        ("overlap", f"To be looked at, overlapping a neighbour by more than {thresholds.overlap_mm:g} mm"),
        (
            "occlusal_overlap",
            f"To be looked at, more than {thresholds.occlusal_mm:g} mm into a tooth of the other arch",
        ),
        ("expected_error", f"To be looked at, with an expected error above {thresholds.error_mm:g} mm"),
        ("apex_travel", f"To be looked at, with a root apex that travels over {thresholds.apex_mm:g} mm"),
    )
    for code, words in sentences:
        if teeth := dict.fromkeys(item.tooth for item in kept if item.code == code):
            notes.append(f"{words}: {', '.join(teeth)}.")
    return notes


def write_csv(path: str | Path, items: Iterable[ReviewItem]) -> None:
    """Write the review list as CSV; an empty list is the heading only."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, [field.name for field in fields(ReviewItem)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(item) for item in items)
    atomic.write_text(path, text.getvalue())
