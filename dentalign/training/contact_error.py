"""How far the contacts of neighbouring crowns are from the planned ones, differentiable: a term of the loss.

It keeps crowns from standing in each other, and from leaving gaps where the plan has none. Coarser than
`geometry.contacts`, which measures: a crown is its few points and the outward normals there. A point of one
tooth is inside the other by as much as it lies behind the tangent plane at the other's nearest point (the
signed distance to oriented points of Hoppe et al. 1992, doi:10.1145/133994.134011). Between points the plane
lies outside the curved surface by up to a tenth of a millimetre or two, so that touching crowns seem to
overlap; in the plan just as in the prediction, which is why only the difference of the two counts.
"""

import functools

import numpy as np
import torch

from dentalign.geometry.tooth_points import closed_surface, directions
from dentalign.networks.pose_aligner import thinned
from dentalign.networks.tooth_attention import PosedTeeth
from dentalign.teeth import ARCHES

_SAMPLED_AT = 256  # points of a tooth, of which the given ones are every so many
_PROBES = 2  # every second point is held against the other tooth: half of the work


def contact_error_mm(found: PosedTeeth, planned: PosedTeeth, stays: torch.Tensor) -> torch.Tensor:
    """How much deeper or less deep than planned each pair of neighbours stands in each other, mm.

    A gap is a depth below 0.

    found, planned : N mouths; the points are those of `planned`, tooth-local mm
    stays          : (N, 32) bool
    returns        : (K,), for the pairs of `neighbours`
    """
    mouth, left, right = neighbours(stays)
    normals = outward_normals(planned.points)
    with torch.no_grad():
        wanted = _depth_mm(planned, normals, mouth, left, right)
    depth = _depth_mm(found._replace(points=planned.points), normals, mouth, left, right)
    return (depth - wanted).abs()


def neighbours(stays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs of neighbours in an arch, K of all mouths together: mouth, slot and next slot, each (K,).

    stays : (N, 32) bool; empty slots are skipped
    """
    pairs: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for slots in ARCHES.values():
        standing = torch.full((len(stays),), -1, device=stays.device)  # the last tooth so far
        for slot in slots.tolist():
            here = stays[:, slot]
            mouth = torch.nonzero(here & (standing >= 0))[:, 0]
            pairs.append((mouth, standing[mouth], torch.full_like(mouth, slot)))
            standing = torch.where(here, slot, standing)
    mouths, lefts, rights = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return mouths, lefts, rights


def outward_normals(points: torch.Tensor) -> torch.Tensor:
    """Of crowns (..., p, 3) at their points, of length 1 (0 where a crown has no size)."""
    faces = _faces(points.shape[-2]).to(points.device)
    a, b, c = (points[..., faces[:, k], :] for k in range(3))
    cross = torch.linalg.cross(b - a, c - a)  # twice the area long
    normals = torch.zeros_like(points)
    for k in range(3):
        normals.index_add_(-2, faces[:, k], cross)
    return torch.nn.functional.normalize(normals, dim=-1, eps=1e-9)


@functools.cache
def _faces(count: int) -> torch.Tensor:
    sampled = _SAMPLED_AT if _SAMPLED_AT % count == 0 else count
    return torch.from_numpy(closed_surface(np.ascontiguousarray(thinned(directions(sampled), count))))


def _depth_mm(
    teeth: PosedTeeth, normals: torch.Tensor, mouth: torch.Tensor, left: torch.Tensor, right: torch.Tensor
) -> torch.Tensor:
    """The deepest point of each pair (K,), mm; below 0 where there is a gap."""
    points = teeth.points @ teeth.rotation.mT + teeth.middle[:, :, None]
    normals = normals @ teeth.rotation.mT
    depth = []
    for probing, standing in ((left, right), (right, left)):
        probes, surface, outward = points[mouth, probing, ::_PROBES], points[mouth, standing], normals
        with torch.no_grad():
            nearest = torch.cdist(probes, surface).argmin(2)[..., None].expand(-1, -1, 3)
        step = surface.gather(1, nearest) - probes
        depth.append((step * outward[mouth, standing].gather(1, nearest)).sum(-1).amax(1))
    return torch.maximum(*depth)
