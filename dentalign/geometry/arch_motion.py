"""Best rigid motion of each arch between two stages, and what it does to each tooth.

Positions are tooth centroids in one frame for both stages, mm; an arch has the index that it has in
`teeth.ARCHES`: lower 0, upper 1.
"""

import numpy as np
from numpy.typing import NDArray

from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.teeth import ARCHES, SLOT_COUNT

MIN_TEETH = 3  # that stay, for a rotation
MIN_OFF_LINE_MM = 1.0  # teeth closer to one line (root mean square) do not tell the rotation about it

_BY_ARCH = (len(ARCHES), SLOT_COUNT // len(ARCHES))


def arch_motion(t1: Array, t2: Array, stays: NDArray[np.bool_]) -> Array:
    """Fit a rigid motion to the centroids of the teeth of each arch that stay, by least squares.

    An arch with fewer than MIN_TEETH such teeth, or with all of them within MIN_OFF_LINE_MM of a line, is
    only translated; an arch without any does not move.

    t1, t2  : (N, 32, 3) centroids, mm; any values in slots without a tooth that stays
    stays   : (N, 32) bool, slots with a tooth at T1 and T2
    returns : (N, 2, 6): translation of the arch's centroid, mm, and rotation vector about it, rad, where the
              arch's centroid is the mean of the teeth that stay

    Source: Kabsch 1976, doi:10.1107/S0567739476001873.
    """
    here, here_mean = _centred(t1, stays)
    there, there_mean = _centred(t2, stays)
    teeth = stays.reshape(-1, *_BY_ARCH).sum(-1)
    spread = np.linalg.svd(here, compute_uv=False)[..., 1:]  # across the line that fits best
    off_line = np.sqrt(np.square(spread).sum(-1) / np.maximum(teeth, 1))
    turned = (teeth >= MIN_TEETH) & (off_line >= MIN_OFF_LINE_MM)
    rotation = rigid.rotation_vector(rigid.fit(here, there)[..., :3, :3])
    return np.concatenate([there_mean - here_mean, np.where(turned[..., None], rotation, 0.0)], axis=-1)


def of_teeth(motion: Array, t1: Array, stays: NDArray[np.bool_]) -> Array:
    """Compute how each tooth moves when its arch moves as a whole.

    motion  : (N, 2, 6) of `arch_motion`
    t1      : (N, 32, 3) centroids at T1, mm; those of teeth that do not stay may be given, too
    stays   : (N, 32) bool, as given to `arch_motion`
    returns : (N, 32, 6): displacement of the tooth's centroid, mm, and the arch's rotation vector, rad
    """
    arms = t1.reshape(-1, *_BY_ARCH, 3) - _centred(t1, stays)[1][:, :, None]
    rotation = rigid.rotation_matrix(motion[..., 3:]) - np.eye(3)
    displacement = arms @ np.swapaxes(rotation, -1, -2) + motion[:, :, None, :3]
    turn = np.broadcast_to(motion[:, :, None, 3:], displacement.shape)
    return np.concatenate([displacement, turn], axis=-1).reshape(*t1.shape[:2], 6)


def _centred(position: Array, stays: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Positions relative to the mean of an arch's teeth that stay (N, 2, 16, 3), 0 for the others; means."""
    counts = stays.reshape(-1, *_BY_ARCH)[..., None]
    by_arch = np.asarray(position, np.float64).reshape(-1, *_BY_ARCH, 3)
    total = np.where(counts, by_arch, 0.0).sum(2)
    mean = total / np.maximum(counts.sum(2), 1)
    return np.where(counts, by_arch - mean[:, :, None], 0.0), mean
