"""Baseline for the alignment models: the mean movement of each slot.

Poses are tooth-local -> head, mm; a tooth's centroid is that of its points.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dentalign.dataset.mouth_store import MouthStore
from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2
from dentalign.teeth import SLOT_COUNT

_BATCH_CASES = 64  # bounds the memory, whatever the number of training cases


@dataclass(frozen=True)
class MeanMotion:
    """Mean movement of each slot from T1 to T2, in the head frame.

    translation_mm      : (32, 3), mean translation of the centroid
    rotation_vector_rad : (32, 3), mean rotation vector of R2 R1^T, the rotation from T1 to T2
    teeth               : (32,) int, number of teeth in the mean; a slot with 0 does not move
    """

    translation_mm: Array
    rotation_vector_rad: Array
    teeth: NDArray[np.intp]

    def predict(self, points: NDArray[np.floating], t1_pose: Array) -> Array:
        """Predict poses at T2: each tooth is rotated about its centroid and translated by its slot's mean.

        points  : (..., 32, P, 3), tooth-local, mm
        t1_pose : (..., 32, 4, 4), at T1
        returns : (..., 32, 4, 4), at T2: rotation R_mean R1, centroid c1 + translation
        """
        centroid = points.mean(-2, dtype=np.float64)  # tooth-local
        rotation = rigid.rotation_matrix(self.rotation_vector_rad) @ t1_pose[..., :3, :3]
        target = _applied(t1_pose, centroid) + self.translation_mm
        return rigid.from_rotation(rotation, target - (rotation @ centroid[..., None])[..., 0])


def mean_motion(store: MouthStore) -> MeanMotion:
    """Compute the mean movement of each slot, over teeth of the train split that are present at T1 and T2.

    The mean of rotations is that of their rotation vectors, close to the geodesic mean for the small
    rotations of tooth movement (Gramkow 2001, doi:10.1023/A:1011129215388).
    """
    translation, rotation = np.zeros((SLOT_COUNT, 3)), np.zeros((SLOT_COUNT, 3))
    teeth = np.zeros(SLOT_COUNT, np.intp)
    rows = store.rows_of("train")
    for start in range(0, len(rows), _BATCH_CASES):
        mouths = store.mouths(rows[start : start + _BATCH_CASES])
        both = mouths.stays
        slot = np.nonzero(both)[1]
        t1, t2 = mouths.pose[:, T1][both], mouths.pose[:, T2][both]
        centroid = mouths.points[both].mean(-2, dtype=np.float64)
        np.add.at(translation, slot, _applied(t2, centroid) - _applied(t1, centroid))
        np.add.at(rotation, slot, rigid.rotation_vector(t2[:, :3, :3] @ np.swapaxes(t1[:, :3, :3], -1, -2)))
        np.add.at(teeth, slot, 1)
    count = np.maximum(teeth, 1)[:, None]
    return MeanMotion(translation / count, rotation / count, teeth)


def _applied(pose: Array, point: Array) -> Array:
    """One point (..., 3) per pose (..., 4, 4), moved by it."""
    return rigid.apply(pose, point[..., None, :])[..., 0, :]
