"""Loss term for contacts: difference between predicted and planned penetration of neighbouring crowns.

It keeps crowns from penetrating each other, and from leaving gaps where the planned T2 has none. It is
differentiable, and coarser than `geometry.contacts`, which the metrics use: a crown is a few points with
their outward normals. The depth of a point in another tooth is its distance behind the tangent plane at the
nearest point of that tooth (signed distance to oriented points, Hoppe et al. 1992,
doi:10.1145/133994.134011). Between its points the curved surface lies up to 0.2 mm inside these planes, so
touching crowns seem to overlap. The error is alike for predicted and planned poses, and cancels in the
difference of their depths.
"""

import functools
from typing import NamedTuple

import numpy as np
import torch

from dentalign.alignment.attention.posed_teeth import PosedTeeth, thinned
from dentalign.geometry.sampling import closed_surface, directions
from dentalign.teeth import ARCHES

# Of every second point of a tooth, so many are compared with its neighbour: those nearest to the neighbour's
# centroid. The deepest is among them in 99 of 100 pairs.
_PROBES = 16


class Neighbours(NamedTuple):
    """Pairs of neighbouring teeth in an arch; K pairs over all mouths.

    mouth       : (K,) int64, row of the mouth
    left, right : (K,) int64, lower and higher slot index of the pair; not always the patient's left and right
    """

    mouth: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor

    def to(self, device: torch.device) -> "Neighbours":
        """Return the pairs on another device."""
        return Neighbours(*(part.to(device) for part in self))


def neighbours(teeth: torch.Tensor, counted: torch.Tensor) -> Neighbours:
    """Find the pairs of neighbours in each arch of N mouths; empty slots between them are skipped.

    teeth   : (N, 32) bool, slots with a tooth
    counted : (N, 32) bool, slots whose tooth counts in the loss. A pair is returned if both of its teeth
              count; a tooth that does not count still separates the teeth on its two sides
    """
    pairs = []
    for name in ARCHES:
        slots = torch.from_numpy(ARCHES[name]).to(teeth.device)
        here = teeth[:, slots]
        latest = torch.where(here, slots, -1).cummax(1).values  # the slots of an arch increase
        before = torch.cat([torch.full_like(latest[:, :1], -1), latest[:, :-1]], 1)
        both = counted[:, slots] & (before >= 0) & counted.gather(1, before.clamp(min=0))
        mouth, place = torch.nonzero(both, as_tuple=True)
        pairs.append((mouth, before[mouth, place], slots[place]))
    return Neighbours(*(torch.cat(parts) for parts in zip(*pairs, strict=True)))


def contact_error_mm(
    found: PosedTeeth, normals: torch.Tensor, planned_mm: torch.Tensor, pairs: Neighbours
) -> torch.Tensor:
    """Absolute difference (K,), mm, between predicted and planned penetration depth of K pairs of neighbours.

    found      : teeth at their predicted poses
    normals    : (N, 32, p, 3) outward normals at the points, tooth-local, see `outward_normals`
    planned_mm : (N, 32, 2), see `planned_depth_mm`
    """
    return (depth_mm(found, normals, pairs) - planned_mm[pairs.mouth, pairs.right, 0]).abs()


def planned_depth_mm(planned: PosedTeeth, normals: torch.Tensor, teeth: torch.Tensor) -> torch.Tensor:
    """Penetration depth of each tooth and its neighbours at the planned T2, mm.

    teeth   : (N, 32) bool, slots of the teeth to measure
    returns : (N, 32, 2), depth with the neighbour of lower slot index, then with that of higher slot index;
              negative for a gap, 0 without a neighbour
    """
    pairs = neighbours(teeth, teeth)
    both = torch.zeros(*teeth.shape, 2).to(planned.centroid)
    both[pairs.mouth, pairs.right, 0] = both[pairs.mouth, pairs.left, 1] = depth_mm(planned, normals, pairs)
    return both


def depth_mm(teeth: PosedTeeth, normals: torch.Tensor, pairs: Neighbours) -> torch.Tensor:
    """Penetration depth (K,), mm, of each pair, at the deepest point of either tooth; negative for a gap."""
    mouth, left, right = pairs
    # Halves mirror each other: every second point of each, so that a mirror image has the same probes.
    halves = teeth.points.unflatten(2, (2, -1))
    depth = []
    for probing, standing in ((left, right), (right, left)):
        probes, surface = halves[mouth, probing, :, ::2].flatten(1, 2), teeth.points[mouth, standing]
        back = teeth.rotation[mouth, standing].mT  # head -> the standing tooth
        away = teeth.centroid[mouth, probing] - teeth.centroid[mouth, standing]
        motion = back @ teeth.rotation[mouth, probing], (back @ away[..., None])[..., 0]
        depth.append(_one_way_mm(probes, *motion, surface, normals[mouth, standing]))
    return torch.maximum(*depth)


def outward_normals(points: torch.Tensor, sampled: int) -> torch.Tensor:
    """Outward unit normals (..., p, 3) at the points of crowns; 0 for a crown whose points coincide.

    points  : (..., p, 3), ordered points of each crown
    sampled : points per tooth before `posed_teeth.thinned` reduced them to p. The more are left out, the
              rougher are the normals: off by up to 20 degrees with 64 of 256
    """
    faces, corners = _faces(sampled, points.shape[-2], points.device)
    a, b, c = (points[..., faces[:, k], :] for k in range(3))
    cross = torch.linalg.cross(b - a, c - a)  # twice the area long
    # A product, not `index_add_`: on a GPU that adds in any order, and no two trainings would be the same.
    normals = (cross.mT @ corners.to(cross)).mT
    return torch.nn.functional.normalize(normals, dim=-1, eps=1e-9)


@functools.cache
def _faces(sampled: int, count: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Triangles (F, 3) between the points, and their corners as a matrix (F, p) of 1 and 0."""
    faces = torch.from_numpy(closed_surface(np.ascontiguousarray(thinned(directions(sampled), count))))
    corners = torch.zeros(len(faces), count).scatter_(1, faces, 1)
    return faces.to(device), corners.to(device)


def _one_way_mm(
    probes: torch.Tensor,
    rotation: torch.Tensor,
    translation: torch.Tensor,
    surface: torch.Tensor,
    normals: torch.Tensor,
) -> torch.Tensor:
    """Depth (K,), mm, of the deepest of the probes (K, p, 3), moved, below the surface (K, q, 3).

    rotation, translation : (K, 3, 3), (K, 3) mm, from the frame of the probes to that of the surface
    """
    with torch.no_grad():  # choosing the deepest point and the one nearest to it has no gradient
        moved = probes @ rotation.mT + translation[:, None]
        count = min(_PROBES, moved.shape[1])
        facing = moved.square().sum(-1).topk(count, 1, largest=False, sorted=False).indices
        moved = _at(moved, facing)
        nearest = _nearest(moved, surface)
        depth = ((_at(surface, nearest) - moved) * _at(normals, nearest)).sum(-1)
        deepest = depth.argmax(1, keepdim=True)
        probe, nearest = facing.gather(1, deepest), nearest.gather(1, deepest)
    # Only the deepest point is computed with a gradient, which goes to the poses.
    moved = _at(probes, probe) @ rotation.mT + translation[:, None]
    return ((_at(surface, nearest) - moved) * _at(normals, nearest)).sum(-1)[:, 0]


def _at(points: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Points (K, m, 3) of each of (K, p, 3), by their indices (K, m)."""
    return points.gather(1, index[..., None].expand(-1, -1, 3))


def _nearest(probes: torch.Tensor, surface: torch.Tensor) -> torch.Tensor:
    """Index (K, p) of the point of the surface (K, q, 3) that is nearest to each probe (K, p, 3).

    All in millimetres from the centroid of the surface: far from there the products would lose the digits.
    """
    if probes.is_cuda:  # may compute products to three digits, and has room and a slow cdist
        apart = (probes[:, :, None] - surface[:, None]).square().sum(-1)
    else:  # the square of the distance, less that of the probe from the centroid: a sixth of cdist's time
        apart = torch.baddbmm(surface.square().sum(2)[:, None], probes, surface.mT, alpha=-2)
    return apart.argmin(2)
