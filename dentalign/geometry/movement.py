"""How a tooth moves from one pose to another, in the terms of an orthodontist."""

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
    """The movement of one tooth, in the axes that the tooth itself has before it.

    fdi           : FDI number; mesial is +x of the tooth in quadrants 1, 3, 5, 7, -x in the others
    before, after : (4, 4) tooth-local (+z root to crown tip, +y buccal) -> head, mm
    points        : (P, 3) evenly on the crown, tooth-local mm; their centroid is what is displaced
    returns       : the `COLUMNS`. Displacement of the centroid, mm: `mesiodistal_mm` (+ mesially),
                    `buccolingual_mm` (+ buccally, labially), `vertical_mm` (+ extrusion, - intrusion).
                    Rotation vector, degrees, by axis: `tip_deg` (about the buccolingual axis, + crown to
                    mesial), `torque_deg` (about the mesiodistal axis, + crown to buccal), `rotation_deg`
                    (about the long axis, + mesial side to buccal). `movement_mm` and `turn_deg` are the
                    lengths of the two vectors.

    The rotation vector (axis times angle) has no order of axes, as Euler angles have; its three parts
    are the usual tip, torque and rotation for the small angles of treatment.
    """
    start, end = np.asarray(before, np.float64), np.asarray(after, np.float64)
    centre = np.asarray(points, np.float64).mean(0, keepdims=True)
    shift = (rigid.apply(end, centre) - rigid.apply(start, centre))[0] @ start[:3, :3]
    turn = np.degrees(rigid.rotation_vector(start[:3, :3].T @ end[:3, :3]))
    mesial = -1.0 if fdi // 10 % 2 == 0 else 1.0
    values = (
        mesial * shift[0],
        shift[1],
        shift[2],
        mesial * turn[1],
        -turn[0],
        mesial * turn[2],
        np.linalg.norm(shift),
        np.linalg.norm(turn),
    )
    return {name: float(value) for name, value in zip(COLUMNS, values, strict=True)}
