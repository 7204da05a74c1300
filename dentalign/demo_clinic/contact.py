"""Distance between crowns along a direction, from their vertices alone."""

import numpy as np
from numpy.typing import NDArray

from dentalign.geometry.rigid import Array

_CELLS = 64


def clearance(a: Array, b: Array, direction: Array, cell_mm: float = 0.7) -> float:
    """Distance that b can move against the direction until it meets a; negative if they overlap already.

    Both sets are seen along the direction in square cells; a cell counts where both have a vertex.
    Meshes must be finer than the cells. Infinite if they would pass each other.

    a, b      : (N, 3), (M, 3) float, mm, same frame; b lies in the direction as seen from a
    direction : (3,) float, unit
    """
    dx, dy, dz = (float(v) for v in direction)
    flat = float(np.hypot(dx, dy))  # written out, as this is called thousands of times a case
    side = np.array([-dy / flat, dx / flat, 0.0]) if flat > 0.1 else np.array([0.0, 1.0, 0.0])
    sx, sy, _ = side
    axes = np.array([[dx, dy, dz], side, [-dz * sy, dz * sx, dx * sy - dy * sx]]).T
    origin = 0.5 * (a[0] + b[0]) @ axes
    pa, pb = a @ axes - origin, b @ axes - origin
    pa = pa[pa[:, 0] > pa[:, 0].sum() / len(pa)]  # only the facing sides
    pb = pb[pb[:, 0] < pb[:, 0].sum() / len(pb)]
    far_a, near_b = np.full(_CELLS * _CELLS, -np.inf), np.full(_CELLS * _CELLS, np.inf)
    np.maximum.at(far_a, _cell(pa, cell_mm), pa[:, 0])
    np.minimum.at(near_b, _cell(pb, cell_mm), pb[:, 0])
    return float((near_b - far_a).min())


def height_clearances(upper: Array, lower: Array, cell_mm: float = 0.8) -> Array:
    """Vertical gaps (K,) in mm between two arches, one per cell of the occlusal plane that both cover."""
    middle = np.append(0.5 * (upper[:, :2].max(axis=0) + upper[:, :2].min(axis=0)), 0.0)
    cells = 160
    ceiling, floor = np.full(cells * cells, np.inf), np.full(cells * cells, -np.inf)
    for points, keep, table in ((upper, np.minimum, ceiling), (lower, np.maximum, floor)):
        place = np.clip(
            np.floor((points - middle)[:, :2] / cell_mm).astype(np.int64) + cells // 2, 0, cells - 1
        )
        keep.at(table, place[:, 0] * cells + place[:, 1], points[:, 2])
    gaps = ceiling - floor
    return np.asarray(gaps[np.isfinite(gaps)])


def _cell(points: Array, cell_mm: float) -> NDArray[np.int64]:
    # 64 cells span three crowns; the mask only keeps a stray point within the table.
    place = (points[:, 1:] * (1 / cell_mm) + _CELLS // 2).astype(np.int64) & (_CELLS - 1)
    return np.asarray(place[:, 0] * _CELLS + place[:, 1])
