"""Calibration of a trained alignment model on mouths that neither trained it nor chose its epoch."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.alignment.base import AlignmentModel, add_mm, error_features
from dentalign.alignment.conditions import Conditions, arch_motion, centroids
from dentalign.mouth import T2, Mouths

_LEVER_MM = 15.0  # makes a rotation of an arch comparable with a translation: half of its width, about


def calibrate(model: AlignmentModel, parts: Iterable[tuple[Mouths, NDArray[np.int64]]]) -> None:
    """Set `motion_mode` and `error_model` of a model from its errors.

    parts : parts of the calibration mouths, with their plans, and the number of each mouth's planner
    """
    motions = []
    seen: tuple[list[tuple[NDArray[np.float64], ...]], ...] = ([], [])
    for mouths, planner in parts:
        given = mouths.without_plan()
        for known, told in enumerate((np.zeros_like(planner), planner)):
            if known and not told.any():
                continue
            conditions = Conditions.unknown(len(mouths))._replace(planner=torch.from_numpy(told))
            plan = model.answer(given, conditions)
            add = np.full(mouths.stays.shape, np.nan)
            add[mouths.stays] = add_mm(mouths, plan.pose)
            if not known:
                motions.append(_motion_error(mouths, plan.pose))
            if (features := error_features(given, plan)) is not None:
                rows = told > 0 if known else np.ones(len(told), np.bool_)
                seen[known].append((features[rows], add[rows]))
    model.motion_mode.copy_(_mode(torch.cat(motions)))
    for known, found in enumerate(seen):
        if found:
            model.error_model.calibrate(known, *(np.concatenate(part) for part in zip(*found, strict=True)))


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
