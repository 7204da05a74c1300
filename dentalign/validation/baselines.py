"""Baselines that the alignment models are measured beside; a baseline takes mouths and returns poses at T2.

`mean_motion` and `ridge` learn from the train split. `arch_motion` learns nothing, but is told part of the
plan: it shows what the motion of the arches as wholes is worth alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dentalign.dataset.mouth_store import MouthStore
from dentalign.geometry import arch_motion as arches
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2, Mouths
from dentalign.teeth import SLOT_COUNT
from dentalign.validation.motions import centroids, motion_to, moved
from dentalign.validation.ridge import fit_ridge

TOLD = ("arch_motion",)  # baselines that know something of the plan, so that no model is compared with them
_BATCH_CASES = 64  # bounds the memory, whatever the number of training cases


def baselines(store: MouthStore) -> dict[str, Callable[[Mouths], Array]]:
    """Fit all baselines to a latents file: name -> function from N mouths to their poses (N, 32, 4, 4)."""
    return {
        "identity": lambda mouths: mouths.pose[:, T1],
        "mean_motion": mean_motion(store).predict,
        "ridge": fit_ridge(store).predict,
        "arch_motion": arch_motion,
    }


@dataclass(frozen=True)
class MeanMotion:
    """Mean motion of each slot from T1 to T2.

    motion : (32, 6), translation of the centroid, mm, and rotation vector, rad, head frame, see `motions`
    teeth  : (32,) int, number of teeth in the mean; a slot with 0 does not move
    """

    motion: Array
    teeth: NDArray[np.intp]

    def predict(self, mouths: Mouths) -> Array:
        """Predict poses (N, 32, 4, 4) at T2: each tooth moves by the mean motion of its slot."""
        return moved(mouths, self.motion)


def mean_motion(store: MouthStore) -> MeanMotion:
    """Compute the mean motion of each slot, over teeth of the train split that are present at T1 and T2.

    The mean of rotations is that of their rotation vectors, close to the geodesic mean for the small
    rotations of tooth movement (Gramkow 2001, doi:10.1023/A:1011129215388).
    """
    total, teeth = np.zeros((SLOT_COUNT, 6)), np.zeros(SLOT_COUNT, np.intp)
    rows = store.rows_of("train")
    for start in range(0, len(rows), _BATCH_CASES):
        mouths = store.mouths(rows[start : start + _BATCH_CASES])
        stays = mouths.stays
        total += np.where(stays[..., None], motion_to(mouths, mouths.pose[:, T2]), 0.0).sum(0)
        teeth += stays.sum(0)
    return MeanMotion(total / np.maximum(teeth, 1)[:, None], teeth)


def arch_motion(mouths: Mouths) -> Array:
    """Move each arch by the best rigid motion of the plan itself, see `geometry.arch_motion`.

    mouths  : with their poses at T2, which are read
    returns : (N, 32, 4, 4)
    """
    t1, t2 = (centroids(mouths, mouths.pose[:, stage]) for stage in (T1, T2))
    told = arches.arch_motion(t1, t2, mouths.stays)
    return moved(mouths, arches.of_teeth(told, t1, mouths.stays))
