"""Several plans for a mouth: the model's own answer, and others that differ from it as planners differ.

The other plans are the model's answers when it is told more than is known: who plans, or how each arch moves
as a whole. Each is thus a coherent plan of the whole mouth.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.alignment.base import AlignmentModel, PredictedT2
from dentalign.alignment.conditions import Conditions, arch_motion, centroids
from dentalign.geometry import rigid
from dentalign.mouth import T1, Mouths

APART_MM = 0.3  # mean ADD by which plans differ at least


def propose(
    model: AlignmentModel, mouths: Mouths, told: Conditions | None, count: int
) -> list[tuple[PredictedT2, NDArray[np.bool_]]]:
    """Predict up to `count` plans per mouth, the most likely one first.

    The first plan is the prediction for what is told. If the model knows several planners and is not told
    who plans, the others are its answers for those planners that together come nearest to the answers for
    all of them (facility location, all planners alike). Otherwise the arches move as a whole further forward
    or back than in the first plan, along `AlignmentModel.motion_mode`.

    told    : as for `AlignmentModel.predict`
    returns : for each rank the plans, and the mouths (N,) bool that have a plan of that rank: it differs from
              the plans before it by a mean ADD of APART_MM or more. Expected errors are those of the first
              plan only; the others have none
    """
    told = told or Conditions.unknown(len(mouths))
    first = model.predict(mouths, told)
    everyone = np.ones(len(mouths), np.bool_)
    if count == 1:
        return [(first, everyone)]
    if first.of_planners is not None and not told.planner.any():
        others = list(first.of_planners)
    else:
        hints = _by_arch_motion(model, mouths, told, first)
        others = [model.asked_once(mouths, hint).pose for hint in hints]
    poses = np.stack([first.pose, *others])  # (1 + H, N, 32, 4, 4)
    order, valid = _chosen(_apart_mm(mouths, poses), count - 1)
    rank = [(first, everyone)]
    for k in range(count - 1):
        rank.append((PredictedT2(poses[order[:, k], np.arange(len(mouths))]), valid[:, k]))
    return rank


def _by_arch_motion(
    model: AlignmentModel, mouths: Mouths, told: Conditions, first: PredictedT2
) -> list[Conditions]:
    """Conditions with the unknown motions of the arches at those of the first plan, more or less the mode."""
    before, after = (centroids(mouths.points, pose) for pose in (mouths.pose[:, T1], first.pose))
    motion = arch_motion(before, after, torch.from_numpy(mouths.stays))
    mode = model.motion_mode.cpu().to(motion)
    known = torch.isfinite(told.motion)
    return [
        told._replace(motion=torch.where(known, told.motion, motion + sign * mode)) for sign in (-1.0, 1.0)
    ]


def _apart_mm(mouths: Mouths, poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean ADD (K, K, N), mm, over the teeth that stay between each two of K plans (K, N, 32, 4, 4)."""
    stays, count = mouths.stays, len(poses)
    apart = np.zeros((count, count, len(mouths)))
    points = [rigid.apply(pose, mouths.points) for pose in poses]  # (N, 32, P, 3) each
    for a, b in combinations(range(count), 2):
        add = np.linalg.norm(points[a] - points[b], axis=-1).mean(-1)
        apart[a, b] = apart[b, a] = (add * stays).sum(1) / np.maximum(stays.sum(1), 1)
    return apart


def _chosen(apart: NDArray[np.float64], count: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Choose `count` plans of each mouth beside plan 0, so that every plan has a near one among the chosen.

    apart   : (K, K, N), mm, see `_apart_mm`
    returns : (N, count), numbers of the plans, and whether each is APART_MM from those before it, bool. Plans
              that are nearest to more of the others come first
    """
    order = np.zeros((apart.shape[2], count), np.intp)
    valid = np.zeros(order.shape, np.bool_)
    for n, mm in enumerate(np.moveaxis(apart, 2, 0)):
        for size in range(min(count, len(mm) - 1), 0, -1):
            sets = [s for s in combinations(range(1, len(mm)), size) if _spread(mm, s) >= APART_MM]
            if sets:
                best = min(sets, key=lambda s: mm[:, [0, *s]].min(1).sum())
                nearest = mm[:, [0, *best]].argmin(1)
                ranked = sorted(best, key=lambda k: (-(nearest == 1 + best.index(k)).sum(), mm[0, k]))
                order[n, :size], valid[n, :size] = ranked, True
                break
    return order, valid


def _spread(mm: NDArray[np.float64], chosen: Sequence[int]) -> float:
    """Smallest distance between plan 0 and the chosen ones, and among these."""
    return float(min(mm[a, b] for a, b in combinations([0, *chosen], 2)))
