"""Errors of predicted teeth; lengths in mm, angles in degrees.

The first axis of all arrays is the T teeth: points (T, P, 3) in the head frame, poses (T, 4, 4) tooth-local
-> head. A metric returns one number per tooth; the caller takes the mean. `TOOTH_METRICS`, at the end, lists
the metrics for metrics/validation.json, `dvc metrics diff`, the text table and the report.
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

_ADD, *_OTHERS = TOOTH_METRICS
MEANINGS = {  # of all figures of a method, in reading order
    _ADD: TOOTH_METRICS[_ADD].meaning,
    "add_auc_5mm": "share of teeth with add_mm within a limit, mean over limits of 0 to 5 mm; 1 is perfect",
    **{name: TOOTH_METRICS[name].meaning for name in _OTHERS},
    "overlap_mm": "deepest interpenetration of neighbours",
    "contact_gap_mm": "smallest distance between neighbours",
}
COMPARED = {name for name, metric in TOOTH_METRICS.items() if metric.compared} | {"add_auc_5mm"}
BIGGER_IS_BETTER = {"add_auc_5mm"}
