"""Treatment stages from T1 to T2, in steps that an aligner can make."""

import numpy as np
from numpy.typing import NDArray

from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.params import PositiveFloat, Section


class Predict(Section):
    """Section `predict` of params.yaml.

    max_step_mm, max_step_deg : largest movement of a tooth from one treatment stage to the next
    look_above_mm             : expected error above which a tooth is on the review list
    look_overlap_mm           : overlap with a neighbour above which a tooth is on the review list
    look_occlusal_mm          : the same with a tooth of the other arch
    """

    max_step_mm: PositiveFloat = 0.25
    max_step_deg: PositiveFloat = 2.0
    look_above_mm: PositiveFloat = 1.0
    look_overlap_mm: PositiveFloat = 0.5
    look_occlusal_mm: PositiveFloat = 0.5


def stages(
    before: Array, after: Array, mask: NDArray[np.bool_], points: NDArray[np.float32], limits: Predict
) -> Array:
    """Poses at the K treatment stages after T1; those of the last stage are exactly `after`.

    Every tooth moves evenly: its centroid along a straight line, its rotation about one axis. Each of the K
    steps is 1/K of the whole movement. K is the smallest number that keeps all teeth within the limits.

    before, after : (32, 4, 4), at T1 and T2, tooth-local -> head, mm
    mask          : (32,) bool, teeth that stand at T2
    points        : (32, P, 3) on the crowns, tooth-local, mm
    limits        : largest step from one stage to the next
    returns       : (K, 32, 4, 4), K >= 1; identity where mask is False
    """
    slots = np.flatnonzero(mask)
    centre = points[slots].astype(np.float64).mean(1, keepdims=True)  # (T, 1, 3)
    start, end = rigid.apply(before[slots], centre)[:, 0], rigid.apply(after[slots], centre)[:, 0]
    vector = rigid.rotation_vector(np.swapaxes(before[slots, :3, :3], -1, -2) @ after[slots, :3, :3])
    lengths = np.linalg.norm(end - start, axis=1) / limits.max_step_mm
    angles = np.degrees(np.linalg.norm(vector, axis=1)) / limits.max_step_deg
    most = float(max(lengths.max(initial=0.0), angles.max(initial=0.0)))
    count = max(1, int(np.ceil(most - 1e-9)))  # rounding must not cost a stage
    poses = np.tile(np.eye(4), (count, len(mask), 1, 1))
    for k in range(count - 1):
        share = (k + 1) / count
        rotation = before[slots, :3, :3] @ rigid.rotation_matrix(share * vector)
        place = start + share * (end - start) - (rotation @ np.swapaxes(centre, -1, -2))[..., 0]
        poses[k, slots] = rigid.from_rotation(rotation, place)
    poses[-1, slots] = after[slots]
    return poses
