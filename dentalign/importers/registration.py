"""The rigid motion of a tooth between two scans, and how much of the surface it does not explain.

Where the two surfaces have the same points in the same order, the least-squares motion is exact (Kabsch).
Else the nearest points are paired, the worst of them left out, and the motion to the tangent planes solved
for, again and again (Chen and Medioni 1992, doi:10.1016/0262-8856(92)90066-C; trimmed as in Chetverikov et
al. 2002, doi:10.1109/ICPR.2002.1047997).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.importers.imported_case import Surface

SAME_POINTS_MM = 0.05  # RMS left by Kabsch: above it the rows are not the same spots
MIN_POINTS = 10
SAMPLES, DENSE = 400, 4000
KEPT_SHARE = 0.85  # of the pairs: gum lines differ between two scans
ROUNDS = 60
STILL_MM = 1e-4
SAME_FRAME_MM, SAME_FRAME_DEG = 5.0, 8.0  # of a whole mouth: treatment does not move it further


@dataclass(frozen=True)
class Motion:
    """pose: (4, 4), mm, first scan -> second; method: points, faces or icp; residual_mm: RMS left."""

    pose: Array
    method: str
    residual_mm: float


def register(
    first: Surface, second: Surface, rows: tuple[Array, Array] | None, starts: Iterable[Array]
) -> Motion:
    """The motion of a tooth from one scan to another.

    first, second : the tooth in each scan, mm
    rows          : labelled points (N, 3) of the tooth in each, for the case that row i is the same spot
    starts        : poses (4, 4) to begin the search from, where no points correspond
    """
    pairs = [("points", rows), ("faces", (first.triangles.reshape(-1, 3), second.triangles.reshape(-1, 3)))]
    for method, pair in pairs:
        if pair is not None and pair[0].shape == pair[1].shape and len(pair[0]) >= MIN_POINTS:
            pose = rigid.fit(*pair)
            left = rigid.apply(pose, pair[0]) - pair[1]
            rms = float(np.sqrt((left**2).sum(1).mean()))
            if rms <= SAME_POINTS_MM:
                return Motion(pose, method, rms)
    source, target = _samples(first, SAMPLES)[0], _Target(second)
    found = [target.fit(source, start) for start in starts]
    return min(found, key=lambda motion: motion.residual_mm)


class _Target:
    """A surface as dense points with normals."""

    def __init__(self, surface: Surface):
        self._points, self._normals = _samples(surface, DENSE)
        self._tree = cKDTree(self._points)

    def fit(self, source: Array, start: Array) -> Motion:
        pose = start
        for _ in range(ROUNDS):
            moved = rigid.apply(pose, source)
            index, kept = self._pairs(moved)
            p, q, n = moved[kept], self._points[index][kept], self._normals[index][kept]
            centre = p.mean(0)
            # Small turn w about the centre and shift t with n . (p + w x (p - centre) + t - q) smallest.
            design = np.concatenate([np.cross(p - centre, n), n], axis=1)
            step = np.linalg.lstsq(design, ((q - p) * n).sum(1), rcond=1e-6)[0]
            turn = rigid.rotation_matrix(step[:3])
            pose = rigid.from_rotation(turn, centre + step[3:] - turn @ centre) @ pose
            if np.abs(rigid.apply(pose, source) - moved).max() < STILL_MM:
                break
        moved = rigid.apply(pose, source)
        index, kept = self._pairs(moved)
        left = ((moved - self._points[index]) * self._normals[index]).sum(1)[kept]
        return Motion(pose, "icp", float(np.sqrt((left**2).mean())))

    def _pairs(self, moved: Array) -> tuple[np.ndarray, np.ndarray]:
        away, index = self._tree.query(moved)
        return index, away <= np.quantile(away, KEPT_SHARE)


def _samples(surface: Surface, count: int) -> tuple[Array, Array]:
    """Points (count, 3) spread over a surface by area, the same for the same surface, and their normals."""
    triangles = surface.triangles
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    double = np.linalg.norm(normal, axis=1)
    rng = np.random.default_rng(0)
    at = (np.arange(count) + 0.5) / count * double.sum()
    face = np.minimum(np.searchsorted(np.cumsum(double), at), len(double) - 1)
    u, v = rng.random((2, count, 1))
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u), np.where(fold, 1 - v, v)
    a, b, c = triangles[face].swapaxes(0, 1)
    return a + u * (b - a) + v * (c - a), normal[face] / np.maximum(double[face], 1e-12)[:, None]


def common_frame(first: Array, second: Array) -> tuple[Array, bool]:
    """Whether the second scan stands in the frame of the first; the motion (4, 4) that brings it there.

    Nothing in the two scans is known to stand still, so the teeth themselves decide, those that moved least
    most of all (robust least squares on their centres). A small motion of the whole mouth may be treatment
    and is left as it is; a large one is a scan that stands elsewhere, and is taken out, treatment included.

    first, second : (N, 3), mm, centres of the same teeth, N >= 3
    returns       : second scan -> first scan, and False where that is the identity
    """
    weight = np.ones(len(first))
    pose = np.eye(4)
    for _ in range(20):
        pose = _weighted_fit(second, first, weight)
        left = np.linalg.norm(rigid.apply(pose, second) - first, axis=1)
        weight = 1 / (1 + (left / max(2 * float(np.median(left)), 1e-3)) ** 2)
    shift = float(np.linalg.norm(rigid.apply(pose, second.mean(0)[None])[0] - second.mean(0)))
    if shift <= SAME_FRAME_MM and float(rigid.angle_deg(pose[:3, :3])) <= SAME_FRAME_DEG:
        return np.eye(4), False
    return pose, True


def _weighted_fit(source: Array, target: Array, weight: Array) -> Array:
    """The motion with the smallest weighted squares."""
    share = weight / weight.sum()
    a, b = share @ source, share @ target
    scale = np.sqrt(share)[:, None]
    # Rows (+) and (-) keep the mean of both sets at 0, so that the plain fit solves the weighted one.
    p, q = (source - a) * scale, (target - b) * scale
    rotation = rigid.fit(np.concatenate([p, -p]), np.concatenate([q, -q]))[:3, :3]
    return rigid.from_rotation(rotation, b - rotation @ a)
