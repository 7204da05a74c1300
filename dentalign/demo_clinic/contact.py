"""Distances between crowns along a direction, computed from their vertices."""

import numpy as np

from dentalign.geometry.rigid import Array

_CELLS = 160  # along each side of the plane; with cells of 0.7 mm wider than any mouth


def clearance(a: Array, b: Array, direction: Array, cell_mm: float = 0.7) -> float:
    """Distance, mm, by which b can move towards a, against `direction`; negative if they overlap.

    The vertices are projected along the direction onto square cells; only cells with vertices of both a and b
    count. Meshes must be finer than the cells.

    a, b      : vertices (N, 3), (M, 3) float, mm, same frame; `direction` points from a to b
    direction : (3,) float, unit vector
    returns   : distance, mm; infinity if a and b would pass each other
    """
    flat = np.hypot(direction[0], direction[1])
    side = np.array([-direction[1], direction[0], 0.0]) / flat if flat > 0.1 else np.array([0.0, 1.0, 0.0])
    axes = np.array([side, np.cross(direction, side), direction]).T
    origin = 0.5 * (a[0] + b[0]) @ axes
    pa, pb = a @ axes - origin, b @ axes - origin
    facing = pb[pb[:, 2] < pb[:, 2].mean()], pa[pa[:, 2] > pa[:, 2].mean()]
    return float(_gaps(*facing, cell_mm).min(initial=np.inf))


def height_clearances(upper: Array, lower: Array, cell_mm: float = 0.8) -> Array:
    """Vertical gaps (K,), mm, between the vertices of two arches, one for each cell that both cover."""
    middle = np.append(0.5 * (upper[:, :2].max(axis=0) + upper[:, :2].min(axis=0)), 0.0)
    return _gaps(upper - middle, lower - middle, cell_mm)


def _gaps(above: Array, below: Array, cell_mm: float) -> Array:
    """Gaps (K,) along z between two sets of points, one per cell of the plane z = 0 where both have some."""
    ceiling, floor = np.full(_CELLS**2, np.inf), np.full(_CELLS**2, -np.inf)
    for points, keep, table in ((above, np.minimum, ceiling), (below, np.maximum, floor)):
        place = np.floor(points[:, :2] / cell_mm).astype(np.int64) + _CELLS // 2
        column, row = place.clip(0, _CELLS - 1).T
        keep.at(table, column * _CELLS + row, points[:, 2])
    gaps = ceiling - floor
    return np.asarray(gaps[np.isfinite(gaps)])
