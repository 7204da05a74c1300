"""Find the rigid motion of a tooth between two scans, and the residual of that fit.

If both surfaces have the same points in the same order, a Kabsch fit gives the motion. Otherwise trimmed
point-to-plane ICP is used: each round pairs the nearest points, drops the worst pairs, and solves for the
motion to the tangent planes, until it converges (Chen and Medioni 1992, doi:10.1016/0262-8856(92)90066-C;
trimming as in Chetverikov et al. 2002, doi:10.1109/ICPR.2002.1047997).
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from trimesh import Trimesh
from trimesh.sample import sample_surface

from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array

SAME_POINTS_MM = 0.05  # RMS left by Kabsch: above it the rows are not the same spots
MIN_POINTS = 10
SAMPLES, DENSE = 1000, 10_000
KEPT_SHARE = 0.85  # of the pairs: gum lines differ between two scans
ROUNDS = 60
CONVERGED_MM = 1e-4
SAME_FRAME_MM, SAME_FRAME_DEG = 5.0, 8.0  # treatment moves a whole mouth no farther


@dataclass(frozen=True)
class Registration:
    """Motion of a tooth between two scans.

    motion      : (4, 4), coordinates of the first scan -> those of the second scan, mm
    method      : "points" or "faces" for a Kabsch fit of labelled points or of the corners of faces, or "icp"
    residual_mm : root mean square distance after the fit; for icp, distance from the tangent planes
    """

    motion: Array
    method: str
    residual_mm: float


def register(first: Trimesh, second: Trimesh, points: tuple[Array, Array], start: Array) -> Registration:
    """Find the motion of a tooth from one scan to another.

    first, second : the tooth in each scan, mm
    points        : labelled points (N, 3) of the tooth in each scan; used if row i is the same spot in both
    start         : motion (4, 4) from which ICP starts if neither points nor faces correspond
    """
    corners = first.triangles.reshape(-1, 3), second.triangles.reshape(-1, 3)
    for method, pair in (("points", points), ("faces", corners)):
        if pair[0].shape == pair[1].shape and len(pair[0]) >= MIN_POINTS:
            motion = rigid.fit(*pair)
            residual = rigid.apply(motion, pair[0]) - pair[1]
            rms = float(np.sqrt((residual**2).sum(1).mean()))
            if rms <= SAME_POINTS_MM:
                return Registration(motion, method, rms)
    return _icp(first, second, start)


def _icp(first: Trimesh, second: Trimesh, motion: Array) -> Registration:
    source = sample_surface(first, SAMPLES, seed=0)[0]
    target, face = sample_surface(second, DENSE, seed=0)
    tree, normals = cKDTree(target), second.face_normals[face]

    def pairs(moved: Array) -> tuple[Array, Array, Array]:
        """Points of the source, nearest points of the target and their normals, the worst left out."""
        away, index = tree.query(moved)
        kept = away <= np.quantile(away, KEPT_SHARE)
        return moved[kept], target[index[kept]], normals[index[kept]]

    for _ in range(ROUNDS):
        moved = rigid.apply(motion, source)
        p, q, n = pairs(moved)
        centroid = p.mean(0)
        # Small rotation w about the centroid and translation t that minimise n . (p + w x (p - c) + t - q).
        design = np.concatenate([np.cross(p - centroid, n), n], axis=1)
        step = np.linalg.lstsq(design, ((q - p) * n).sum(1), rcond=1e-6)[0]
        rotation = rigid.rotation_matrix(step[:3])
        motion = rigid.from_rotation(rotation, centroid + step[3:] - rotation @ centroid) @ motion
        if np.abs(rigid.apply(motion, source) - moved).max() < CONVERGED_MM:
            break
    p, q, n = pairs(rigid.apply(motion, source))
    return Registration(motion, "icp", float(np.sqrt((((p - q) * n).sum(1) ** 2).mean())))


def common_frame(first: Array, second: Array) -> tuple[Array, bool]:
    """Find the motion from the frame of the second scan to that of the first, if they are two frames.

    No tooth is sure to have stood still, so the motion is a robust least-squares fit of the centroids, in
    which the teeth that moved least weigh most. A motion of up to 5 mm and 8 degrees may be treatment, so
    both scans then count as one frame. A larger motion is returned whole: if treatment moved all teeth
    together, that shift is part of it, and cannot be told from the change of frame.

    first, second : (N, 3), mm, centroids of the same teeth, N >= 3
    returns       : motion (4, 4), mm, and True; if both scans have one frame, the identity and False
    """
    weight = np.ones(len(first))
    motion = np.eye(4)
    for _ in range(20):
        a, b = np.average(second, 0, weight), np.average(first, 0, weight)
        rotation = Rotation.align_vectors(first - b, second - a, weight)[0].as_matrix()
        motion = rigid.from_rotation(rotation, b - rotation @ a)
        away = np.linalg.norm(rigid.apply(motion, second) - first, axis=1)
        weight = 1 / (1 + (away / max(2 * float(np.median(away)), 1e-3)) ** 2)
    centroid = second.mean(0, keepdims=True)
    moved_mm = float(np.linalg.norm(rigid.apply(motion, centroid) - centroid))
    if moved_mm <= SAME_FRAME_MM and float(rigid.angle_deg(motion[:3, :3])) <= SAME_FRAME_DEG:
        return np.eye(4), False
    return motion, True
