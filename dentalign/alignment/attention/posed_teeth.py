"""Tensors of the teeth of several mouths, with rigid motions and mirror images."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.geometry import rigid, rotations
from dentalign.geometry.sampling import mirror_permutation
from dentalign.teeth import MIRRORED_SLOT

_UPRIGHT_MM2 = 0.05  # keeps a mouth of one tooth upright; a whole mouth has a covariance of some hundred mm^2


class PosedTeeth(NamedTuple):
    """Teeth of N mouths and their poses.

    points   : (N, 32, p, 3) tooth-local mm, relative to the tooth's centroid
    rotation : (N, 32, 3, 3) tooth-local -> head
    centroid : (N, 32, 3) head, mm
    """

    points: torch.Tensor
    rotation: torch.Tensor
    centroid: torch.Tensor

    def moved(self, rotation: torch.Tensor, translation: torch.Tensor) -> "PosedTeeth":
        """Move whole mouths by rotations (N, 3, 3) and translations (N, 3), mm."""
        centroid = self.centroid @ rotation.mT + translation[:, None]
        return PosedTeeth(self.points, rotation[:, None] @ self.rotation, centroid)

    def towards(self, rotation: torch.Tensor, centroid: torch.Tensor, share: torch.Tensor) -> "PosedTeeth":
        """Move each tooth part of the way to another pose, in a straight line and about one axis.

        rotation, centroid : (N, 32, 3, 3) and (N, 32, 3), mm, the other pose
        share              : (N, 32), from 0 (no movement) to 1 (all the way)
        """
        turned = share[..., None] * rotations.vector(self.rotation.mT @ rotation)
        place = self.centroid + share[..., None] * (centroid - self.centroid)
        return PosedTeeth(self.points, self.rotation @ rotations.matrix(turned), place)

    def mirrored(self) -> "PosedTeeth":
        """Mirror all mouths, x -> -x; see `Mouth.mirrored`."""
        return PosedTeeth(mirrored_points(self.points), *mirrored_poses(self.rotation, self.centroid))


def from_poses(
    points: NDArray[Any], pose: NDArray[np.float64], count: int
) -> tuple[PosedTeeth, NDArray[np.float64]]:
    """Make posed teeth with `count` of the P points of each tooth.

    points  : (N, 32, P, 3) tooth-local mm
    pose    : (N, 32, 4, 4) tooth-local -> head
    returns : the teeth, whose `centroid` is in the head frame, and their centroids (N, 32, 3), tooth-local mm
    """
    local = thinned(points, count).astype(np.float64)
    centre = local.mean(2)
    centroid = rigid.apply(pose, centre[:, :, None])[:, :, 0]
    parts = (local - centre[:, :, None], pose[..., :3, :3], centroid)
    return PosedTeeth(*(torch.from_numpy(part.astype(np.float32)) for part in parts)), centre


def thinned(points: NDArray[Any], count: int) -> NDArray[Any]:
    """Select every k-th of ordered points (..., P, 3), `count` in all.

    raises : ValueError where `mirror_permutation` would not fit the points that are left
    """
    total = points.shape[-2]
    if total % count or (total // 2) % (total // count):
        raise ValueError(f"{total} points cannot be thinned to {count}")
    return points[..., :: total // count, :]


def thinned_count(points: int, most: int) -> int:
    """Largest number of points, at most `most`, to which `thinned` can reduce `points`; at least 2."""
    half = points // 2
    return 2 * max(n for n in range(1, half + 1) if half % n == 0 and (2 * n <= most or n == 1))


def mirrored_points(points: torch.Tensor) -> torch.Tensor:
    """Mirror ordered points (N, 32, p, 3), or normals at them, of whole mouths; tooth-local."""
    slots = torch.from_numpy(MIRRORED_SLOT).to(points.device)
    order = torch.from_numpy(mirror_permutation(points.shape[2])).to(points.device)
    flip = torch.tensor([-1.0, 1.0, 1.0]).to(points)
    return points.index_select(1, slots).index_select(2, order) * flip


def mirrored_poses(rotation: torch.Tensor, centroid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mirror rotations (N, 32, 3, 3) and centroids (N, 32, 3) of whole mouths, x -> -x."""
    flip = torch.tensor([-1.0, 1.0, 1.0]).to(centroid)
    return flip[:, None] * rotation[:, MIRRORED_SLOT] * flip, centroid[:, MIRRORED_SLOT] * flip


def to_canonical_frame(
    centroid: torch.Tensor,
    present: torch.Tensor,
    reference: torch.Tensor,
    nearest: Callable[[torch.Tensor], torch.Tensor] = rotations.nearest,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotation (N, 3, 3) and translation (N, 3), mm, that fit each mouth to the reference by least squares.

    centroid  : (N, 32, 3), mm
    present   : (N, 32) bool, slots that count
    reference : (32, 3), mm
    nearest   : replacement for `rotations.nearest`, such as one that can be exported
    """
    weight = present[..., None].to(centroid)
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1)
    here, there = (weight * centroid).sum(1, keepdim=True), (weight * reference).sum(1, keepdim=True)
    covariance = (reference - there).mT @ (weight * (centroid - here))
    rotation = nearest(covariance + _UPRIGHT_MM2 * torch.eye(3).to(covariance))
    return rotation, (there - here @ rotation.mT)[:, 0]
