"""Moving and mirroring whole mouths: what makes many training examples of one case."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.geometry.tooth_points import mirror_permutation
from dentalign.teeth import MIRRORED_SLOT

_FLIP = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Mouth:
    """The teeth of a case at T1 and T2.

    points : (32, P, 3) float32, ordered, tooth-local mm
    poses  : (2, 32, 4, 4) float64, tooth-local -> head, mm
    masks  : (2, 32) bool
    """

    points: NDArray[np.float32]
    poses: Array
    masks: NDArray[np.bool_]


def mirrored(mouth: Mouth) -> Mouth:
    """The mouth in a mirror (x -> -x): antimeres change places, each point keeps its meaning.

    With S = diag(-1, 1, 1) a tooth's points p become S p, its rotation S R S, its translation S t.
    """
    points = mouth.points[MIRRORED_SLOT][:, mirror_permutation(mouth.points.shape[1])]
    flip = np.diag([*_FLIP, 1.0])
    poses = flip @ mouth.poses[:, MIRRORED_SLOT] @ flip
    return Mouth(points * _FLIP.astype(np.float32), poses, mouth.masks[:, MIRRORED_SLOT])


def moved(mouth: Mouth, rng: np.random.Generator, turn_deg: float, shift_mm: float) -> Mouth:
    """The whole mouth, T1 and T2 alike, turned about its middle and moved at random.

    turn_deg, shift_mm : root mean square of the angle and of the length of the move
    """
    rotation = rigid.rotation_matrix(rng.normal(0, np.radians(turn_deg) / 3**0.5, 3))
    shift = rng.normal(0, shift_mm / 3**0.5, 3)
    middle = mouth.poses[0, mouth.masks[0], :3, 3].mean(0)
    motion = rigid.from_rotation(rotation, middle + shift - rotation @ middle)
    poses = np.where(mouth.masks[..., None, None], motion @ mouth.poses, mouth.poses)
    return Mouth(mouth.points, poses, mouth.masks)


def copies(
    mouth: Mouth, count: int, rng: np.random.Generator, turn_deg: float, shift_mm: float
) -> list[Mouth]:
    """`count` versions of a mouth: itself, its mirror image, then both moved at random in turn."""
    both = (mouth, mirrored(mouth))
    return [both[k % 2] if k < 2 else moved(both[k % 2], rng, turn_deg, shift_mm) for k in range(count)]
