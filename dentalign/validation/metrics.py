"""Errors of predicted teeth; lengths in mm, angles in degrees.

The first axis of all arrays is the T teeth: points (T, P, 3) in the head frame, poses (T, 4, 4) tooth-local
-> head. A tooth's metric returns one number per tooth, whose mean is reported; a pooled metric returns one
number for all teeth. `TOOTH_METRICS` and `POOLED_METRICS`, at the end, list the metrics for
metrics/validation.json, `dvc metrics diff`, the text table and the report.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dentalign.geometry import rigid

Array = NDArray[np.float64]

AUC_LIMIT_MM = 5.0
THRESHOLDS_MM = np.linspace(0.0, AUC_LIMIT_MM, 101)  # steps of 0.05 mm
THRESHOLDS_MM.setflags(write=False)


def add_mm(predicted: ArrayLike, true: ArrayLike) -> Array:
    """Mean distance between corresponding points, mm.

    predicted, true : (T, P, 3)
    returns         : (T,)

    Source: Hinterstoisser et al. 2012, "average distance of model points" (ADD),
    doi:10.1007/978-3-642-37331-2_42. Decoded and reconstructed points are measured in the same way.
    """
    distance: Array = np.linalg.norm(_pair(predicted, true), axis=-1).mean(-1)
    return distance


def accuracy(add: ArrayLike) -> Array:
    """Share of teeth with ADD (T,), mm, at or below each of `THRESHOLDS_MM`: (101,) in [0, 1].

    raises: ValueError if there is no tooth
    """
    values = np.sort(np.asarray(add, dtype=np.float64))
    if not len(values):
        raise ValueError("the accuracy of no teeth is undefined")
    return np.searchsorted(values, THRESHOLDS_MM, side="right") / len(values)


def add_auc_5mm(add: ArrayLike) -> float:
    """Mean of `accuracy` over the thresholds 0, 0.05, .., 5 mm, in [0, 1]; 1 is perfect."""
    return float(accuracy(add).mean())


def rotation_error_deg(predicted: ArrayLike, true: ArrayLike) -> Array:
    """Geodesic angle between the rotations of poses (T, 4, 4), degrees in [0, 180]; (T,)."""
    a, b = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    return rigid.angle_deg(np.swapaxes(a[..., :3, :3], -1, -2) @ b[..., :3, :3])


def translation_error_mm(predicted: ArrayLike, true: ArrayLike) -> Array:
    """Distance between the centroids of a tooth's points (T, P, 3), mm; (T,)."""
    distance: Array = np.linalg.norm(_pair(predicted, true).mean(-2), axis=-1)
    return distance


def pa_add_mm(predicted: ArrayLike, true: ArrayLike, group: ArrayLike) -> Array:
    """ADD after one best rigid fit of each group's predicted points to the true ones, mm.

    A group is an arch of a case, so an error in the place of the whole arch does not count
    ("Procrustes-aligned", without scale). An arch of a single tooth fits exactly.

    predicted, true : (T, P, 3)
    group           : (T,) int, equal for the teeth of a group
    returns         : (T,)
    """
    a, b = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    groups = np.asarray(group)
    errors = np.zeros(len(a))
    for number in np.unique(groups):
        teeth = groups == number
        source, target = a[teeth].reshape(-1, 3), b[teeth].reshape(-1, 3)
        fitted = rigid.apply(rigid.fit(source, target), source)
        errors[teeth] = add_mm(fitted.reshape(a[teeth].shape), b[teeth])
    return errors


def rigidity_residual_mm(decoded: ArrayLike, fitted: ArrayLike) -> Array:
    """Root mean square distance between decoded points and the rigid tooth fitted to them, mm.

    decoded, fitted : (T, P, 3)
    returns         : (T,), 0 if the decoded points are exactly a moved tooth
    """
    residual: Array = np.sqrt(np.square(_pair(decoded, fitted)).sum(-1).mean(-1))
    return residual


def case_means(values: ArrayLike, case: ArrayLike) -> Array:
    """Mean over the teeth of each case: values (..., T) and case (T,) int to (..., C), C cases with teeth."""
    numbers, index = np.unique(np.asarray(case), return_inverse=True)
    of_case = index == np.arange(len(numbers))[:, None]
    return np.asarray(values, dtype=np.float64) @ (of_case / of_case.sum(1, keepdims=True)).T


def better_share(add: ArrayLike, other: ArrayLike, case: ArrayLike) -> float:
    """Share of cases, in [0, 1], whose mean `add` (T,) is below their mean `other` (T,); case (T,) int."""
    return float((case_means(add, case) < case_means(other, case)).mean())


def size_ratio(predicted: ArrayLike, planned: ArrayLike) -> float | None:
    """Sum of the lengths of predicted vectors (T, 3) over that of planned ones; None if nothing is planned.

    Below 1 a method moves too little. Random motions of the right size have a ratio of 1, too: see `gain`.
    """
    total = np.linalg.norm(planned, axis=-1).sum()
    return float(np.linalg.norm(predicted, axis=-1).sum() / total) if total > 0 else None


def gain(predicted: ArrayLike, planned: ArrayLike) -> float | None:
    """Sum of predicted . planned over sum of planned . planned, vectors (T, 3); None if nothing is planned.

    It is the slope of the regression of predicted on planned vectors, through 0: 1 if the plan is made in
    full, 0 for motions that have nothing to do with it.
    """
    made, wanted = np.asarray(predicted, dtype=np.float64), np.asarray(planned, dtype=np.float64)
    total = np.square(wanted).sum()
    return float((made * wanted).sum() / total) if total > 0 else None


def best_of_add_mm(add: ArrayLike, case: ArrayLike) -> float:
    """Mean ADD over teeth if each case takes that of its K proposals whose mean ADD is least, mm.

    add  : (K, T), mm, ADD of each tooth under each proposal
    case : (T,) int, equal for the teeth of a case; a proposal is for the whole mouth
    """
    values = np.asarray(add, dtype=np.float64)
    chosen = case_means(values, case).argmin(0)
    index = np.unique(np.asarray(case), return_inverse=True)[1]
    return float(values[chosen[index], np.arange(values.shape[1])].mean())


def coverage(add: ArrayLike, bound: ArrayLike) -> float | None:
    """Share of teeth, in [0, 1], with ADD (T,) at or below their bound (T,), mm.

    Teeth without a bound (NaN) are left out; None if no tooth has one.
    """
    made, limit = np.asarray(add, dtype=np.float64), np.asarray(bound, dtype=np.float64)
    known = np.isfinite(limit)
    return float((made[known] <= limit[known]).mean()) if known.any() else None


def confidence(expected_mm: ArrayLike, add: ArrayLike) -> dict[str, float]:
    """Compare the errors that a model expects with its actual errors.

    expected_mm, add : (T,), mm, expected and actual error of each tooth; expected may be NaN
    returns          : `teeth_unknown`, number of teeth with NaN, left out of the other figures;
                       `expected_add_mm` and `add_mm`, means; `rank_correlation`, Spearman's, for 3 teeth or
                       more: 1 if the expected errors order the teeth as the actual errors do, 0 if at random
    """
    from scipy.stats import spearmanr

    expected, made = np.asarray(expected_mm, dtype=np.float64), np.asarray(add, dtype=np.float64)
    known = np.isfinite(expected)
    unknown, expected, made = int((~known).sum()), expected[known], made[known]
    figures: dict[str, float] = {"teeth_unknown": unknown}
    if len(made):
        figures |= {"expected_add_mm": float(expected.mean()), "add_mm": float(made.mean())}
    if len(made) >= 3 and np.ptp(expected) > 0 and np.ptp(made) > 0:
        figures["rank_correlation"] = float(spearmanr(expected, made).statistic)
    return figures


def reliability(expected_mm: ArrayLike, add: ArrayLike, groups: int = 10) -> list[dict[str, float]]:
    """Group teeth by increasing expected error: mean expected and actual error, mm, and size of a group."""
    expected, made = np.asarray(expected_mm, dtype=np.float64), np.asarray(add, dtype=np.float64)
    order = np.argsort(expected, kind="stable")[: int(np.isfinite(expected).sum())]  # NaN sorts last
    return [
        {
            "expected_add_mm": float(expected[part].mean()),
            "add_mm": float(made[part].mean()),
            "teeth": len(part),
        }
        for part in np.array_split(order, min(groups, len(order)) or 1)
        if len(part)
    ]


def _pair(a: ArrayLike, b: ArrayLike) -> Array:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.shape[-1:] != (3,):
        raise ValueError(f"both must have the shape (T, P, 3), got {first.shape} and {second.shape}")
    return first - second


@dataclass(frozen=True)
class MeasuredTeeth:
    """T measured teeth: what one method predicts, and the truth; mm, head frame.

    pose, true_pose     : (T, 4, 4), tooth-local -> head
    points, true_points : (T, P, 3), the tooth's own points under these poses
    decoded             : (T, P, 3), points that a model predicts, before the rigid fit; for a method that
                          predicts poses, `points`
    arch                : (T,) int, equal for the teeth of one arch of one case
    """

    pose: Array
    true_pose: Array
    points: Array
    true_points: Array
    decoded: Array
    arch: NDArray[np.intp]


@dataclass(frozen=True)
class ToothMetric:
    """Metric with one number per tooth, smaller is better; its mean over teeth is reported.

    of       : function from `MeasuredTeeth` to (T,)
    meaning  : the metric in words, for the report
    compared : True if the report marks the best method
    """

    of: Callable[[MeasuredTeeth], Array]
    meaning: str
    compared: bool = True


TOOTH_METRICS = {  # the unit is in the name; docs/metrics.md has the definitions
    "add_mm": ToothMetric(
        lambda teeth: add_mm(teeth.points, teeth.true_points),
        "mean distance of a tooth's points from their true places",
    ),
    "pa_add_mm": ToothMetric(
        lambda teeth: pa_add_mm(teeth.points, teeth.true_points, teeth.arch),
        "add_mm after one best rigid fit per arch",
    ),
    "rotation_error_deg": ToothMetric(
        lambda teeth: rotation_error_deg(teeth.pose, teeth.true_pose),
        "angle between predicted and true rotation",
    ),
    "translation_error_mm": ToothMetric(
        lambda teeth: translation_error_mm(teeth.points, teeth.true_points),
        "distance of the tooth's centroid from its true place",
    ),
    "decoded_add_mm": ToothMetric(
        lambda teeth: add_mm(teeth.decoded, teeth.true_points),
        "add_mm of the points as decoded, before the rigid fit",
        compared=False,
    ),
    "rigidity_residual_mm": ToothMetric(
        lambda teeth: rigidity_residual_mm(teeth.decoded, teeth.points),
        "deviation of the decoded points from a rigid tooth",
        compared=False,
    ),
}


@dataclass(frozen=True)
class MeasuredCases:
    """All T measured teeth of one method, case by case; mm and radians, head frame.

    case             : (T,) int, equal for the teeth of a case
    add_mm           : (T,)
    identity_add_mm  : (T,), of no movement
    motion, planned  : (T, 6), predicted and planned translation of the centroid, and rotation vector, from T1
    add_mm_90        : (T,), bound that 90 % of the errors are to keep, NaN for a tooth without one; None for
                       a method without bounds
    proposals_add_mm : (K, T), of each proposal; None for a method without proposals
    """

    case: NDArray[np.intp]
    add_mm: Array
    identity_add_mm: Array
    motion: Array
    planned: Array
    add_mm_90: Array | None = None
    proposals_add_mm: Array | None = None


@dataclass(frozen=True)
class PooledMetric:
    """Metric with one number for all measured teeth.

    of       : function from `MeasuredCases` to the number; None if what it needs is not there
    meaning  : the metric in words, for the report
    better   : value that is better: "smaller", "bigger", or one that is aimed at, such as "1"
    compared : True if the report marks the best method
    """

    of: Callable[[MeasuredCases], float | None]
    meaning: str
    better: str
    compared: bool = False


POOLED_METRICS = {
    "add_auc_5mm": PooledMetric(
        lambda teeth: add_auc_5mm(teeth.add_mm),
        "share of teeth with add_mm within a limit, mean over limits of 0 to 5 mm; 1 is perfect",
        "bigger",
        compared=True,
    ),
    "add_mm_case_median": PooledMetric(
        lambda teeth: float(np.median(case_means(teeth.add_mm, teeth.case))),
        "median over the cases of a case's mean add_mm",
        "smaller",
        compared=True,
    ),
    "better_than_identity_share": PooledMetric(
        lambda teeth: better_share(teeth.add_mm, teeth.identity_add_mm, teeth.case),
        "share of cases whose mean add_mm is below that of no movement",
        "bigger",
        compared=True,
    ),
    "rotation_ratio": PooledMetric(
        lambda teeth: size_ratio(teeth.motion[:, 3:], teeth.planned[:, 3:]),
        "size of the predicted rotations over that of the planned ones; 1 is right",
        "1",
    ),
    "translation_ratio": PooledMetric(
        lambda teeth: size_ratio(teeth.motion[:, :3], teeth.planned[:, :3]),
        "size of the predicted translations over that of the planned ones; 1 is right",
        "1",
    ),
    "rotation_gain": PooledMetric(
        lambda teeth: gain(teeth.motion[:, 3:], teeth.planned[:, 3:]),
        "part of the planned rotations that is made; 1 is right, 0 is nothing or at random",
        "1",
    ),
    "translation_gain": PooledMetric(
        lambda teeth: gain(teeth.motion[:, :3], teeth.planned[:, :3]),
        "part of the planned translations that is made; 1 is right, 0 is nothing or at random",
        "1",
    ),
    "best_of_3_add_mm": PooledMetric(
        lambda teeth: (
            None if teeth.proposals_add_mm is None else best_of_add_mm(teeth.proposals_add_mm[:3], teeth.case)
        ),
        "add_mm if each case takes the best of its first three proposals",
        "smaller",
    ),
    "add_mm_90_coverage": PooledMetric(
        lambda teeth: None if teeth.add_mm_90 is None else coverage(teeth.add_mm, teeth.add_mm_90),
        "share of teeth with add_mm at or below their bound add_mm_90; 0.9 is right",
        "0.9",
    ),
    "add_mm_90_unknown": PooledMetric(
        lambda teeth: None if teeth.add_mm_90 is None else int(np.isnan(teeth.add_mm_90).sum()),
        "number of teeth without a bound add_mm_90, left out of its coverage",
        "smaller",
    ),
}

_ADD, *_OTHERS = TOOTH_METRICS
_POOLED = {name: metric.meaning for name, metric in POOLED_METRICS.items()}
_BESIDE_ADD = ("add_auc_5mm", "add_mm_case_median", "better_than_identity_share")
MEANINGS = {  # of all figures of a method, in reading order
    _ADD: TOOTH_METRICS[_ADD].meaning,
    **{name: _POOLED[name] for name in _BESIDE_ADD},
    **{name: TOOTH_METRICS[name].meaning for name in _OTHERS},
    **_POOLED,
    "overlap_mm": "deepest interpenetration of neighbours",
    "contact_gap_mm": "smallest distance between neighbours",
    "occlusal_overlap_mm": "deepest point of the upper arch in the lower one, mean over cases",
    "occlusal_contacts": "share of premolars and molars within 0.3 mm of an antagonist",
}
_SOLVED = (
    "add_mm",
    "add_mm_90_coverage",
    "overlap_mm",
    "contact_gap_mm",
    "occlusal_overlap_mm",
    "occlusal_contacts",
)
MEANINGS |= {f"solved_{name}": f"{MEANINGS[name]}; after the solver" for name in _SOLVED}
COMPARED = {name for name, metric in (TOOTH_METRICS | POOLED_METRICS).items() if metric.compared}
BIGGER_IS_BETTER = {name for name, metric in POOLED_METRICS.items() if metric.better == "bigger"}
