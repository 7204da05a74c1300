"""How far the contacts of neighbouring crowns are from the planned ones, differentiable: a term of the loss.

It keeps crowns from standing in each other, and from leaving gaps where the plan has none. Coarser than
`geometry.contacts`, which measures: a crown is its few points and the outward normals there. A point of one
tooth is inside the other by as much as it lies behind the tangent plane at the other's nearest point (the
signed distance to oriented points of Hoppe et al. 1992, doi:10.1145/133994.134011). Between points the plane
lies outside the curved surface by up to a tenth of a millimetre or two, so that touching crowns seem to
overlap; in the plan just as in the prediction, which is why only the difference of the two counts.
"""

import functools
from typing import NamedTuple

import numpy as np
import torch

from dentalign.alignment.attention.model import thinned
from dentalign.alignment.attention.network import PosedTeeth
from dentalign.geometry.sampling import closed_surface, directions
from dentalign.teeth import ARCHES

# Of every second point of a tooth, so many are held against its neighbour: those nearest to the neighbour's
# middle. The deepest is among them in 99 of 100 pairs.
_PROBES = 16


class Neighbours(NamedTuple):
    """Pairs of neighbours in an arch, K of all mouths together.

    mouth, left, right : (K,) int64: which mouth, slot and next slot that is not empty
    real               : (K,) bool; others fill up and count nothing
    """

    mouth: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor
    real: torch.Tensor

    def to(self, device: torch.device) -> "Neighbours":
        """The same on another device."""
        return Neighbours(*(part.to(device) for part in self))


def neighbours(teeth: torch.Tensor, counted: torch.Tensor, as_many: bool = False) -> Neighbours:
    """The pairs of neighbours among teeth (N, 32) bool, empty slots skipped.

    counted : (N, 32) bool, those of the teeth that the loss counts. A pair needs both of its teeth among
              them; a tooth that is not counted still stands between those on either side of it
    as_many : whether to fill up to as many as N mouths can have, so that their number does not tell
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
    mouths, lefts, rights = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    found = Neighbours(mouths, lefts, rights, torch.ones_like(mouths, dtype=torch.bool))
    if not as_many:
        return found
    most = len(teeth) * sum(len(slots) - 1 for slots in ARCHES.values())
    return Neighbours(*(torch.nn.functional.pad(part, (0, most - len(mouths))) for part in found))


def contact_error_mm(
    found: PosedTeeth, normals: torch.Tensor, planned_mm: torch.Tensor, pairs: Neighbours
) -> torch.Tensor:
    """How much deeper or less deep than planned each pair of neighbours stands in each other, mm.

    normals    : (N, 32, p, 3) outward at the points, tooth-local, see `outward_normals`
    planned_mm : (N, 32, 2), see `planned_depth_mm`
    returns    : (K,), 0 where the pair is not real
    """
    wanted = planned_mm[pairs.mouth, pairs.right, 0]
    return (depth_mm(found, normals, pairs) - wanted).abs() * pairs.real


def planned_depth_mm(planned: PosedTeeth, normals: torch.Tensor, teeth: torch.Tensor) -> torch.Tensor:
    """How deep each of the teeth (N, 32) bool is to stand in its neighbours, mm.

    returns : (N, 32, 2), in the one before it in the arch and in the one after it; 0 where there is none
    """
    pairs = neighbours(teeth, teeth)
    both = torch.zeros(*teeth.shape, 2).to(planned.middle)
    both[pairs.mouth, pairs.right, 0] = both[pairs.mouth, pairs.left, 1] = depth_mm(planned, normals, pairs)
    return both


def depth_mm(teeth: PosedTeeth, normals: torch.Tensor, pairs: Neighbours) -> torch.Tensor:
    """How deep the deepest point of either of each pair is in the other (K,), mm; below 0 in a gap."""
    mouth, left, right, _ = pairs
    # Halves mirror each other: every second point of each, so that a mirror image has the same probes.
    halves = teeth.points.unflatten(2, (2, -1))
    depth = []
    for probing, standing in ((left, right), (right, left)):
        probes, surface = halves[mouth, probing, :, ::2].flatten(1, 2), teeth.points[mouth, standing]
        motion = _between(probing, standing, mouth, teeth)
        depth.append(_one_way_mm(probes, *motion, surface, normals[mouth, standing]))
    return torch.maximum(*depth)


def outward_normals(points: torch.Tensor, sampled: int) -> torch.Tensor:
    """Of crowns (..., p, 3) at their points, of length 1 (0 where a crown has no size).

    sampled : points of a tooth that these are every so many of, see `model.thinned`. The fewer of
              them are left, the more uneven they lie and the rougher the normals: within 20 degrees for 64 of
              256
    """
    faces, corners = _faces(sampled, points.shape[-2], points.device)
    a, b, c = (points[..., faces[:, k], :] for k in range(3))
    cross = torch.linalg.cross(b - a, c - a)  # twice the area long
    # A product, not `index_add_`: on a GPU that adds in any order, and no two trainings would be the same.
    normals = (cross.mT @ corners.to(cross)).mT
    return torch.nn.functional.normalize(normals, dim=-1, eps=1e-9)


@functools.cache
def _faces(sampled: int, count: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Triangles (F, 3) between the points, and which points are corners of each (F, p), 1 or 0."""
    faces = torch.from_numpy(closed_surface(np.ascontiguousarray(thinned(directions(sampled), count))))
    corners = torch.zeros(len(faces), count).scatter_(1, faces, 1)
    return faces.to(device), corners.to(device)


def _between(
    probing: torch.Tensor, standing: torch.Tensor, mouth: torch.Tensor, teeth: PosedTeeth
) -> tuple[torch.Tensor, torch.Tensor]:
    """The motion (K, 3, 3), (K, 3) from the frame of the probing tooth to that of the standing one, mm."""
    back = teeth.rotation[mouth, standing].mT
    away = teeth.middle[mouth, probing] - teeth.middle[mouth, standing]
    return back @ teeth.rotation[mouth, probing], (back @ away[..., None])[..., 0]


def _one_way_mm(
    probes: torch.Tensor,
    turn: torch.Tensor,
    shift: torch.Tensor,
    surface: torch.Tensor,
    normals: torch.Tensor,
) -> torch.Tensor:
    """How deep the deepest of the probes (K, p, 3), moved, is in the surface (K, q, 3): (K,) mm."""
    with torch.no_grad():  # which one that is, and what it is nearest to, has no gradient
        moved = probes @ turn.mT + shift[:, None]
        count = min(_PROBES, moved.shape[1])
        facing = moved.square().sum(-1).topk(count, 1, largest=False, sorted=False).indices
        moved = _at(moved, facing)
        nearest = _nearest(moved, surface)
        depth = ((_at(surface, nearest) - moved) * _at(normals, nearest)).sum(-1)
        deepest = depth.argmax(1, keepdim=True)
        probe, nearest = facing.gather(1, deepest), nearest.gather(1, deepest)
    # Only the deepest point is computed with a gradient, which goes to the poses.
    moved = _at(probes, probe) @ turn.mT + shift[:, None]
    return ((_at(surface, nearest) - moved) * _at(normals, nearest)).sum(-1)[:, 0]


def _at(points: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Some points (K, m, 3) of each of (K, p, 3), by their numbers (K, m)."""
    return points.gather(1, index[..., None].expand(-1, -1, 3))


def _nearest(probes: torch.Tensor, surface: torch.Tensor) -> torch.Tensor:
    """Which of the points (K, q, 3) of a surface is nearest to each probe (K, p, 3): (K, p).

    All in millimetres from the middle of the surface: far from there the products would lose the digits.
    """
    if probes.is_cuda:  # which may compute products to three digits, and has room and a slow cdist
        apart = (probes[:, :, None] - surface[:, None]).square().sum(-1)
    else:  # the square of the distance, less that of the probe from the middle: a sixth of cdist's time
        apart = torch.baddbmm(surface.square().sum(2)[:, None], probes, surface.mT, alpha=-2)
    return apart.argmin(2)
