"""What a trained alignment model learns from mouths that neither trained it nor chose its epoch."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.alignment.base import AlignmentModel, add_mm
from dentalign.alignment.conditions import arch_motion, centroids
from dentalign.mouth import T2, Mouths

_LEVER_MM = 15.0  # makes a rotation of an arch comparable with a translation: half of its width, about


def calibrate(model: AlignmentModel, mouths: Iterable[Mouths]) -> None:
    """Set `motion_mode`, the scale of the expected errors and their bounds from the model's errors.

    mouths : parts of the calibration mouths, with their plans
    """
    motions = []
    ratios: list[NDArray[np.float64]] = []
    total = np.zeros(2)
    for part in mouths:
        predicted = model.predict(part.without_plan())
        motions.append(_motion_error(part, predicted.pose))
        if (expected := predicted.expected_add_mm) is not None:
            add = np.full(expected.shape, np.nan)
            add[part.stays] = add_mm(part, predicted.pose)
            ratios.append(add / expected)
            known = np.isfinite(ratios[-1])
            total += add[known].sum(), expected[known].sum()
    model.motion_mode.copy_(_mode(torch.cat(motions)))
    if total[1]:
        scale = float(total[0] / total[1])
        model.scale_expected_error(scale)
        model.error_bound.calibrate(np.concatenate(ratios) / scale)


def _motion_error(mouths: Mouths, pose: NDArray[np.float64]) -> torch.Tensor:
    """Motion (N, 2, 6) of each arch from the predicted poses (N, 32, 4, 4) to the planned ones."""
    predicted, planned = (centroids(mouths.points, end) for end in (pose, mouths.pose[:, T2]))
    return arch_motion(predicted, planned, torch.from_numpy(mouths.stays))


def _mode(motions: torch.Tensor) -> torch.Tensor:
    """The largest principal axis (2, 6) of motions (N, 2, 6) about 0, as long as is best for proposals.

    If errors are normally distributed, one of three proposals at 0 and at +-1.22 standard deviations is as
    near as one of three can be (Max 1960, doi:10.1109/TIT.1960.1057548).
    """
    lever = torch.tensor([1.0, 1.0, 1.0, *3 * [_LEVER_MM]])
    _, size, axes = torch.linalg.svd((motions * lever).flatten(1), full_matrices=False)
    axis = axes[0] * axes[0, axes[0].abs().argmax()].sign()  # the sign of a principal axis is arbitrary
    length = 1.22 * size[0] / len(motions) ** 0.5
    return (length * axis).unflatten(0, motions.shape[1:]) / lever
