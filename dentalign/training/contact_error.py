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

from dentalign.geometry.tooth_points import closed_surface, directions
from dentalign.networks.pose_aligner import thinned
from dentalign.networks.tooth_attention import PosedTeeth
from dentalign.teeth import ARCHES

_EVERY = 2  # every second point may be held against the other tooth: half of the work
_PROBES = 16  # of these are, the nearest to its middle: the deepest is among them in 99 of 100 pairs


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


def neighbours(stays: torch.Tensor, as_many: bool = False) -> Neighbours:
    """The pairs of the teeth (N, 32) bool; empty slots are skipped.

    as_many : whether to fill up to as many as N mouths can have, so that their number does not tell
    """
    pairs = []
    for name in ARCHES:
        slots = torch.from_numpy(ARCHES[name]).to(stays.device)
        here = stays[:, slots]
        latest = torch.where(here, slots, -1).cummax(1).values  # the slots of an arch increase
        before = torch.cat([torch.full_like(latest[:, :1], -1), latest[:, :-1]], 1)
        mouth, place = torch.nonzero(here & (before >= 0), as_tuple=True)
        pairs.append((mouth, before[mouth, place], slots[place]))
    mouths, lefts, rights = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    found = Neighbours(mouths, lefts, rights, torch.ones_like(mouths, dtype=torch.bool))
    if not as_many:
        return found
    most = len(stays) * sum(len(slots) - 1 for slots in ARCHES.values())
    return Neighbours(*(torch.nn.functional.pad(part, (0, most - len(mouths))) for part in found))


def contact_error_mm(found: PosedTeeth, planned: PosedTeeth, pairs: Neighbours, sampled: int) -> torch.Tensor:
    """How much deeper or less deep than planned each pair of neighbours stands in each other, mm.

    A gap is a depth below 0.

    found, planned : N mouths, the same points of each tooth in both
    sampled        : points of a tooth that these are every so many of, see `pose_aligner.thinned`
    returns        : (K,), 0 where the pair is not real
    """
    normals = outward_normals(planned.points, sampled)
    with torch.no_grad():
        wanted = _depth_mm(planned, normals, pairs)
    return (_depth_mm(found, normals, pairs) - wanted).abs() * pairs.real


def outward_normals(points: torch.Tensor, sampled: int) -> torch.Tensor:
    """Of crowns (..., p, 3) at their points, of length 1 (0 where a crown has no size).

    sampled : see `contact_error_mm`. The fewer of them are left, the more uneven they lie and the rougher
              the normals: within 20 degrees for 64 of 256
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


def _depth_mm(teeth: PosedTeeth, normals: torch.Tensor, pairs: Neighbours) -> torch.Tensor:
    """The deepest point of each pair (K,), mm; below 0 where there is a gap."""
    mouth, left, right, _ = pairs
    turned = teeth.points @ teeth.rotation.mT  # from the middle of each tooth
    normals = normals @ teeth.rotation.mT
    depth = []
    for probing, standing in ((left, right), (right, left)):
        away = teeth.middle[mouth, probing] - teeth.middle[mouth, standing]
        probes, surface = turned[mouth, probing, ::_EVERY] + away[:, None], turned[mouth, standing]
        if probes.shape[1] > _PROBES:
            facing = probes.detach().square().sum(-1).topk(_PROBES, 1, largest=False, sorted=False).indices
            probes = probes.gather(1, facing[..., None].expand(-1, -1, 3))
        nearest = _nearest(probes.detach(), surface.detach())[..., None].expand(-1, -1, 3)
        step = surface.gather(1, nearest) - probes
        # One point of each pair has a gradient. Where several had, and the same nearest, a GPU would add
        # these in any order.
        depth.append((step * normals[mouth, standing].gather(1, nearest)).sum(-1).amax(1))
    return torch.maximum(*depth)


def _nearest(probes: torch.Tensor, surface: torch.Tensor) -> torch.Tensor:
    """Which of the points (K, q, 3) of a surface is nearest to each probe (K, p, 3): (K, p).

    All in millimetres from the middle of the surface: far from there the products would lose the digits.
    """
    if probes.is_cuda:  # which may compute products to three digits, and has room and a slow cdist
        apart = (probes[:, :, None] - surface[:, None]).square().sum(-1)
    else:  # the square of the distance, less that of the probe from the middle: a sixth of cdist's time
        apart = torch.baddbmm(surface.square().sum(2)[:, None], probes, surface.mT, alpha=-2)
    return apart.argmin(2)
