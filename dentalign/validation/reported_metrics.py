"""What a validation reports of each method: the one place where a metric is added.

A metric of a tooth is a line in `TOOTH_METRICS`; metrics/validation.json, `dvc metrics diff`, the text table
and the report take it from there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dentalign.validation import metrics

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredTeeth:
    """T teeth as a method places them, and as they should stand; mm, head coordinates.

    pose, true_pose     : (T, 4, 4), tooth-local -> head
    points, true_points : (T, P, 3), the tooth's own points under these poses
    said                : (T, P, 3), the points as the method itself says them; `points` where it says poses
    arch                : (T,) int, equal for the teeth of one arch of one case
    """

    pose: Array
    true_pose: Array
    points: Array
    true_points: Array
    said: Array
    arch: NDArray[np.intp]


@dataclass(frozen=True)
class ToothMetric:
    """A number for each tooth, the less the better; reported is its mean over teeth.

    of       : from T teeth to (T,)
    meaning  : what it is, in words, for the report
    compared : whether the report marks the best of the methods
    """

    of: Callable[[MeasuredTeeth], Array]
    meaning: str
    compared: bool = True


TOOTH_METRICS = {  # the unit is in the name; docs/metrics.md has the definitions
    "add_mm": ToothMetric(
        lambda teeth: metrics.add_mm(teeth.points, teeth.true_points),
        "average distance of a tooth's points from their true place",
    ),
    "pa_add_mm": ToothMetric(
        lambda teeth: metrics.pa_add_mm(teeth.points, teeth.true_points, teeth.arch),
        "the same distance after one best fit per arch",
    ),
    "rotation_error_deg": ToothMetric(
        lambda teeth: metrics.rotation_error_deg(teeth.pose, teeth.true_pose),
        "angle between predicted and true rotation",
    ),
    "translation_error_mm": ToothMetric(
        lambda teeth: metrics.translation_error_mm(teeth.points, teeth.true_points),
        "distance of the tooth's middle from its true place",
    ),
    "decoded_add_mm": ToothMetric(
        lambda teeth: metrics.add_mm(teeth.said, teeth.true_points),
        "add_mm of the points as decoded, before the rigid fit",
        compared=False,
    ),
    "rigidity_residual_mm": ToothMetric(
        lambda teeth: metrics.rigidity_residual_mm(teeth.said, teeth.points),
        "how far the decoder bends a tooth",
        compared=False,
    ),
}

_ADD, *_OTHERS = TOOTH_METRICS
MEANINGS = {  # of all that stands in a method's block, in the order in which it is read
    _ADD: TOOTH_METRICS[_ADD].meaning,
    "add_auc_5mm": "share of teeth within a distance, mean over 0 to 5 mm; 1 is perfect",
    **{name: TOOTH_METRICS[name].meaning for name in _OTHERS},
    "overlap_mm": "deepest interpenetration of neighbours",
    "contact_gap_mm": "smallest distance of neighbours",
}
COMPARED = {name for name, metric in TOOTH_METRICS.items() if metric.compared} | {"add_auc_5mm"}
BIGGER_IS_BETTER = {"add_auc_5mm"}
