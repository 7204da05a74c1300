"""Motion of each tooth from T1 as six numbers: translation of its centroid, mm, and rotation vector, rad.

Both are in the head frame. The rotation is that of R2 R1^T, about the tooth's centroid, which is the mean of
its points.
"""

import numpy as np

from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, Mouths


def centroids(mouths: Mouths, pose: Array) -> Array:
    """Centroids (N, 32, 3), mm, of the teeth under poses (N, 32, 4, 4), in the frame of the poses."""
    return rigid.apply(pose, mouths.points.mean(-2, dtype=np.float64, keepdims=True))[..., 0, :]


def motion_to(mouths: Mouths, pose: Array) -> Array:
    """Compute the motions (N, 32, 6) that carry the teeth from T1 to poses (N, 32, 4, 4)."""
    t1 = mouths.pose[:, T1]
    rotation = pose[..., :3, :3] @ np.swapaxes(t1[..., :3, :3], -1, -2)
    translation = centroids(mouths, pose) - centroids(mouths, t1)
    return np.concatenate([translation, rigid.rotation_vector(rotation)], axis=-1)


def moved(mouths: Mouths, motion: Array) -> Array:
    """Compute the poses (N, 32, 4, 4) of teeth moved from T1 by motions (N, 32, 6) or (32, 6)."""
    t1 = mouths.pose[:, T1]
    centroid = mouths.points.mean(-2, dtype=np.float64)  # tooth-local
    rotation = rigid.rotation_matrix(motion[..., 3:]) @ t1[..., :3, :3]
    target = centroids(mouths, t1) + motion[..., :3]
    return rigid.from_rotation(rotation, target - (rotation @ centroid[..., None])[..., 0])
