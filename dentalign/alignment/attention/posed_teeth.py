"""Teeth of several mouths as tensors, and rigid motions and mirror images of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.geometry import rigid, rotations
from dentalign.geometry.sampling import mirror_permutation
from dentalign.teeth import MIRRORED_SLOT

_UPRIGHT_MM2 = 0.05  # says which way up a mouth of one tooth is; a whole mouth has some hundred mm^2


class PosedTeeth(NamedTuple):
    """Teeth of N mouths and their poses.

    points   : (N, 32, p, 3) relative to the tooth's centroid, tooth-local mm
    rotation : (N, 32, 3, 3) tooth-local -> head
    centroid : (N, 32, 3) head, mm
    """

    points: torch.Tensor
    rotation: torch.Tensor
    centroid: torch.Tensor

    def moved(self, rotation: torch.Tensor, translation: torch.Tensor) -> "PosedTeeth":
        """Move whole mouths by rotations (N, 3, 3) and translations (N, 3)."""
        centroid = self.centroid @ rotation.mT + translation[:, None]
        return PosedTeeth(self.points, rotation[:, None] @ self.rotation, centroid)

    def towards(self, rotation: torch.Tensor, centroid: torch.Tensor, share: torch.Tensor) -> "PosedTeeth":
        """Move each tooth by a share (N, 32) of the way to another pose, straight and about one axis."""
        turned = share[..., None] * rotations.vector(self.rotation.mT @ rotation)
        place = self.centroid + share[..., None] * (centroid - self.centroid)
        return PosedTeeth(self.points, self.rotation @ rotations.matrix(turned), place)

    def mirrored(self) -> "PosedTeeth":
        """The mouths in a mirror, x -> -x; see `Mouth.mirrored`."""
        return PosedTeeth(mirrored_points(self.points), *mirrored_poses(self.rotation, self.centroid))


def from_poses(
    points: NDArray[Any], pose: NDArray[np.float64], count: int
) -> tuple[PosedTeeth, NDArray[np.float64]]:
    """Teeth with `count` of their points, and their centroids (N, 32, 3), tooth-local mm.

    points : (N, 32, P, 3) tooth-local mm
    pose   : (N, 32, 4, 4) tooth-local -> head
    """
    local = thinned(points, count).astype(np.float64)
    centre = local.mean(2)
    centroid = rigid.apply(pose, centre[:, :, None])[:, :, 0]
    parts = (local - centre[:, :, None], pose[..., :3, :3], centroid)
    return PosedTeeth(*(torch.from_numpy(part.astype(np.float32)) for part in parts)), centre


def thinned(points: NDArray[Any], count: int) -> NDArray[Any]:
    """Every k-th of the points (..., P, 3), `count` of them, so that the mirrored order still fits."""
    total = points.shape[-2]
    if total % count or (total // 2) % (total // count):
        raise ValueError(f"{total} points cannot be thinned to {count}")
    return points[..., :: total // count, :]


def thinned_count(points: int, most: int) -> int:
    """The largest number that `points` can be thinned to and that is not above `most`."""
    half = points // 2
    return 2 * max(n for n in range(1, half + 1) if half % n == 0 and (2 * n <= most or n == 1))


def mirrored_points(points: torch.Tensor) -> torch.Tensor:
    """Points (N, 32, p, 3), or normals there, of mirrored mouths; tooth-local."""
    slots = torch.from_numpy(MIRRORED_SLOT).to(points.device)
    order = torch.from_numpy(mirror_permutation(points.shape[2])).to(points.device)
    flip = torch.tensor([-1.0, 1.0, 1.0]).to(points)
    return points.index_select(1, slots).index_select(2, order) * flip


def mirrored_poses(rotation: torch.Tensor, centroid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotations (N, 32, 3, 3) and centroids (N, 32, 3) of mirrored mouths."""
    flip = torch.tensor([-1.0, 1.0, 1.0]).to(centroid)
    return flip[:, None] * rotation[:, MIRRORED_SLOT] * flip, centroid[:, MIRRORED_SLOT] * flip


def to_canonical_frame(
    centroid: torch.Tensor,
    present: torch.Tensor,
    reference: torch.Tensor,
    nearest: Callable[[torch.Tensor], torch.Tensor] = rotations.nearest,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Motion (N, 3, 3), (N, 3) that fits centroids (N, 32, 3) to the reference (32, 3), mm, least squares.

    nearest : another form of `rotations.nearest`
    """
    weight = present[..., None].to(centroid)
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1)
    here, there = (weight * centroid).sum(1, keepdim=True), (weight * reference).sum(1, keepdim=True)
    covariance = (reference - there).mT @ (weight * (centroid - here))
    rotation = nearest(covariance + _UPRIGHT_MM2 * torch.eye(3).to(covariance))
    return rotation, (there - here @ rotation.mT)[:, 0]
