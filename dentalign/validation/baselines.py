"""What a model must beat: no movement at all, and the movement that each slot makes on average.

Poses are tooth-local -> head, mm; a tooth's centroid is that of its points.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dentalign.dataset.mouth_store import MouthStore
from dentalign.geometry import rigid
from dentalign.mouth import T1, T2
from dentalign.teeth import SLOT_COUNT

Array = NDArray[np.float64]

_BATCH_CASES = 64  # bounds the memory, whatever the number of training cases


def identity(t1_pose: Array) -> Array:
    """The pose at T1 as the prediction: no movement. (..., 4, 4) -> (..., 4, 4)."""
    return t1_pose.copy()


@dataclass(frozen=True)
class MeanMotion:
    """Mean movement of each slot from T1 to T2, in the head frame.

    shift_mm            : (32, 3), of the tooth's centroid
    rotation_vector_rad : (32, 3), of the rotation at T2 relative to T1, R2 R1^T
    teeth               : (32,) int, how many were seen; a slot never seen does not move
    """

    shift_mm: Array
    rotation_vector_rad: Array
    teeth: NDArray[np.intp]

    def predict(self, points: NDArray[np.floating], t1_pose: Array) -> Array:
        """Each tooth turned about its centroid and moved by its slot's mean.

        points  : (..., 32, P, 3), tooth-local mm
        t1_pose : (..., 32, 4, 4)
        returns : (..., 32, 4, 4), rotation R_mean R1, centroid c1 + shift
        """
        middle = points.mean(-2, dtype=np.float64)
        rotation = rigid.rotation_matrix(self.rotation_vector_rad) @ t1_pose[..., :3, :3]
        centroid = _moved(t1_pose, middle) + self.shift_mm
        return rigid.from_rotation(rotation, centroid - (rotation @ middle[..., None])[..., 0])


def mean_motion(store: MouthStore) -> MeanMotion:
    """The mean movement of each slot over the train split, teeth present at both T1 and T2.

    The mean of rotations is that of their rotation vectors, close to the geodesic mean for the small
    rotations of tooth movement (Gramkow 2001, doi:10.1023/A:1011129215388).
    """
    shift, turn, teeth = np.zeros((SLOT_COUNT, 3)), np.zeros((SLOT_COUNT, 3)), np.zeros(SLOT_COUNT, np.intp)
    rows = store.rows_of("train")
    for start in range(0, len(rows), _BATCH_CASES):
        part = rows[start : start + _BATCH_CASES]
        mouths = store.mouths(part)
        both = mouths.stays
        slot = np.nonzero(both)[1]
        t1, t2 = mouths.pose[:, T1][both], mouths.pose[:, T2][both]
        middle = mouths.points[both].mean(-2, dtype=np.float64)
        np.add.at(shift, slot, _moved(t2, middle) - _moved(t1, middle))
        np.add.at(turn, slot, rigid.rotation_vector(t2[:, :3, :3] @ np.swapaxes(t1[:, :3, :3], -1, -2)))
        np.add.at(teeth, slot, 1)
    seen = np.maximum(teeth, 1)[:, None]
    return MeanMotion(shift / seen, turn / seen, teeth)


def _moved(pose: Array, point: Array) -> Array:
    """One point (..., 3) per pose (..., 4, 4), moved."""
    return rigid.apply(pose, point[..., None, :])[..., 0, :]
