"""Movement of a tooth between two poses, in orthodontic terms: mesiodistal, tip, torque and so on."""

import numpy as np
from numpy.typing import ArrayLike

from dentalign.geometry import rigid

COLUMNS = (
    "mesiodistal_mm",
    "buccolingual_mm",
    "vertical_mm",
    "tip_deg",
    "torque_deg",
    "rotation_deg",
    "movement_mm",
    "turn_deg",
)


def movement(fdi: int, before: ArrayLike, after: ArrayLike, points: ArrayLike) -> dict[str, float]:
    """Movement of one tooth, in the axes of the tooth itself before it moves.

    fdi           : FDI number; mesial is +x of the tooth in quadrants 1, 3, 5, 7, -x in the others
    before, after : (4, 4) tooth-local (+z root to crown tip, +y buccal) -> head, mm
    points        : (P, 3) evenly on the crown, tooth-local mm; the displacement is that of their centroid
    returns       : value of each of `COLUMNS`. Displacement, mm: `mesiodistal_mm` (+ mesially),
                    `buccolingual_mm` (+ buccally, labially), `vertical_mm` (+ extrusion, - intrusion).
                    Rotation vector, degrees, by axis: `tip_deg` (about the buccolingual axis, + crown to
                    mesial), `torque_deg` (about the mesiodistal axis, + crown to buccal), `rotation_deg`
                    (about the long axis, + mesial side to buccal). `movement_mm` and `turn_deg` are the
                    lengths of the two vectors.

    The rotation vector (axis times angle) has no order of axes, as Euler angles have; its three parts
    are the usual tip, torque and rotation for the small angles of treatment.
    """
    start, end = np.asarray(before, np.float64), np.asarray(after, np.float64)
    centroid = np.asarray(points, np.float64).mean(0, keepdims=True)
    translation = (rigid.apply(end, centroid) - rigid.apply(start, centroid))[0] @ start[:3, :3]
    rotation = np.degrees(rigid.rotation_vector(start[:3, :3].T @ end[:3, :3]))
    mesial = -1.0 if fdi // 10 % 2 == 0 else 1.0
    values = (
        mesial * translation[0],
        translation[1],
        translation[2],
        mesial * rotation[1],
        -rotation[0],
        mesial * rotation[2],
        np.linalg.norm(translation),
        np.linalg.norm(rotation),
    )
    return {name: float(value) for name, value in zip(COLUMNS, values, strict=True)}
