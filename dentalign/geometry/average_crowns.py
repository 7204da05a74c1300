"""Average crown of each tooth from the first incisor to the second molar, and the misfit of other crowns.

A crown is described by the distances of its surface from the centre of its bounding box in 98 directions. The
means of these distances, and their principal deviations, are in `average_crowns.npz`, made by
`python -m tools.average_crowns`; `average_crowns.NOTICE.md` names the source data.

Coordinates are tooth-local millimetres: +z from root to crown tip, +y buccal, x = y cross z.
"""

import functools
import itertools
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from dentalign.geometry.rigid import Array
from dentalign.teeth import antimere

POINTS = 256  # on a crown: enough for distances within 0.1 mm
_SHARPNESS = np.float32(20)  # a point counts for directions within some 13 degrees


def _directions() -> Array:
    """Unit vectors (98, 3), some 20 degrees apart; every mirror image of one is one of them."""
    kinds = (1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 1, 0), (2, 1, 1), (2, 2, 1)
    signs = list(itertools.product((1, -1), repeat=3))
    all_of_them = {
        tuple(sign * value for sign, value in zip(flip, order, strict=True))
        for kind in kinds
        for order in itertools.permutations(kind)
        for flip in signs
    }
    vectors = np.array(sorted(all_of_them), float)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


DIRECTIONS = _directions()
_DIRECTIONS_32 = DIRECTIONS.astype(np.float32)


@dataclass(frozen=True)
class AverageCrown:
    """Average crown of one tooth in the axes of quadrants 1 and 3, where +x is mesial.

    extent    : (3,) size of its bounding box, mm
    mean      : (98,) mean distance of the surface from the centre of the box in DIRECTIONS, mm
    precision : (98, 98) inverse of the covariance of these distances over the source crowns, 1/mm^2
    """

    extent: Array
    mean: Array
    precision: Array

    def misfit(self, distances: Array) -> Array:
        """Squared Mahalanobis distance (...) between this crown and crowns with `distances` (..., 98), mm."""
        rest = distances - self.mean
        return np.asarray((rest @ self.precision * rest).sum(-1))

    def away_mm(self, distances: Array) -> float:
        """Root mean square difference, mm, between another crown's `distances` (98,) and `mean`."""
        return float(np.sqrt(np.mean((distances - self.mean) ** 2)))


def average_crown(fdi: int) -> AverageCrown | None:
    """Average crown of the tooth with this FDI number; None for third molars and primary teeth."""
    return _average_crowns().get(fdi if fdi // 10 in (1, 3) else antimere(fdi))


@functools.cache
def _average_crowns() -> dict[int, AverageCrown]:
    file = resources.files("dentalign.geometry").joinpath("average_crowns.npz")
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as table:
        return {
            int(fdi): AverageCrown(
                extent.astype(float),
                mean.astype(float),
                np.linalg.inv(
                    spread.astype(float).T @ spread.astype(float) + float(rest) ** 2 * np.eye(len(mean))
                ),
            )
            for fdi, extent, mean, spread, rest in zip(
                *(table[name] for name in ("fdi", "extent", "mean", "spread", "rest")), strict=True
            )
        }


def surface_points(triangles: Array) -> Array:
    """Spread points (POINTS, 3) evenly, by area, over triangles (F, 3, 3); the same in every call.

    raises: ValueError where the total area is 0
    """
    # Component by component: a third of the time of numpy's cross product.
    ax, ay, az, bx, by, bz, cx, cy, cz = np.ascontiguousarray(triangles.reshape(-1, 9).T)
    ux, uy, uz, vx, vy, vz = bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az
    area = np.sqrt((uy * vz - uz * vy) ** 2 + (uz * vx - ux * vz) ** 2 + (ux * vy - uy * vx) ** 2)
    before = np.cumsum(area)
    if not before[-1] > 0:
        raise ValueError("the mesh has no area")
    number = np.arange(POINTS)
    chosen = np.searchsorted(before, (number + 0.5) * (before[-1] / POINTS)).clip(0, len(area) - 1)
    # Roberts' R2 sequence, which spreads evenly over the unit square.
    u, v = (number * 0.7548776662466927) % 1, (number * 0.5698402909980532) % 1
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u)[:, None], np.where(fold, 1 - v, v)[:, None]
    a, b, c = np.moveaxis(triangles[chosen], 1, 0)
    return np.asarray(a + u * (b - a) + v * (c - a))


def surface_distances(points: Array) -> Array:
    """Distances (98,), in DIRECTIONS, of a surface from the centre of its bounding box.

    points : (P, 3), evenly on the surface
    """
    centred = points - (points.min(0) + points.max(0)) / 2
    distance = np.sqrt(np.einsum("ij,ij->i", centred, centred))
    towards = (centred / np.maximum(distance, 1e-9)[:, None]).astype(np.float32)
    weight = np.exp(_SHARPNESS * (_DIRECTIONS_32 @ towards.T - 1))
    return np.asarray((weight @ distance) / weight.sum(1), np.float64)


@functools.cache
def mirrored_directions(x: int, y: int, z: int) -> NDArray[np.intp]:
    """Permutation (98,) that gives the distances of a mirrored or turned crown: `distances[permutation]`.

    x, y, z : signs, +1 or -1, by which the coordinates of the crown are multiplied
    """
    return np.asarray(np.argmax(DIRECTIONS * [x, y, z] @ DIRECTIONS.T, axis=1), np.intp)
