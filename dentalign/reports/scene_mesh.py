"""Compact surfaces for a page: welded, decimated, and quantised to a fraction of a micrometre."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dentalign.reports.scene import SceneTooth

MOST_FACES = 6_000  # a tooth; 32 such teeth take 2.4 MB of a page, and a phone still turns them smoothly

_STEPS = 65_534  # over the longest side: from -32767 to 32767


@dataclass(frozen=True)
class PackedMesh:
    """Surface with quantised vertices, `centre_mm + step_mm * steps`, tooth-local.

    steps     : (V, 3) little-endian int16
    faces     : (F, 3) little-endian uint16
    centre_mm : x, y, z of the centre of the bounding box
    step_mm   : size of a step
    """

    steps: NDArray[np.int16]
    faces: NDArray[np.uint16]
    centre_mm: tuple[float, float, float]
    step_mm: float


def pack(tooth: SceneTooth, most_faces: int = MOST_FACES) -> PackedMesh:
    """Pack the surface of a tooth, with at most `most_faces` faces; the same input gives the same output."""
    vertices, faces = welded(np.asarray(tooth.vertices, dtype=np.float64), np.asarray(tooth.faces, np.int64))
    if len(faces) > most_faces:
        vertices, faces = decimated(vertices, faces, most_faces)
    low, high = vertices.min(0), vertices.max(0)
    centre = np.round((low + high) / 2, 6)
    step = float(f"{max(float(np.abs(vertices - centre).max()), 1e-6) / (_STEPS // 2):.6g}") * (1 + 1e-5)
    steps = np.round((vertices - centre) / step).astype("<i2")
    x, y, z = centre.tolist()
    return PackedMesh(steps, faces.astype("<u2"), (x, y, z), step)


def welded(
    vertices: NDArray[np.float64], faces: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Join equal vertices, such as the corners of an STL's triangles.

    Repeated faces, faces with a repeated vertex, and vertices without a face are removed. If no vertices are
    equal, the order of vertices and faces does not change.
    """
    single, which = np.unique(vertices, axis=0, return_inverse=True)
    if len(single) < len(vertices):
        vertices, faces = single, which.ravel()[faces]
    a, b, c = faces.T
    proper = faces[(a != b) & (b != c) & (c != a)]
    faces = proper if len(proper) else faces[:1]
    once = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)[1]
    faces = faces[np.sort(once)]
    used = np.zeros(len(vertices), np.bool_)
    used[faces] = True
    return vertices[used], (np.cumsum(used) - 1)[faces]


def decimated(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], most_faces: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Collapse edges until at most `most_faces` faces are left; for display, not for measuring.

    Quadric error metrics are used (Garland and Heckbert 1997, "Surface simplification using quadric error
    metrics", doi:10.1145/258734.258849). They cannot collapse edges of long thin triangles, or edges that
    many faces share. If too many faces are left, near vertices are joined first, so that the surface stays
    whole (Rossignac and Borrel 1993, "Multi-resolution 3D approximations for rendering complex scenes",
    doi:10.1007/978-3-642-78114-8_29).
    """
    points, left = _simplified(vertices, faces, most_faces)
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # Cells of this size leave about 4 times `most_faces`.
    cell = max(float(np.sqrt(np.linalg.norm(normals, axis=1).sum() / (4 * most_faces))), 1e-6)
    while not 0 < len(left) <= most_faces:
        points, left = _joined(vertices, faces, cell)
        if len(left) > most_faces:
            points, left = _simplified(points, left, most_faces)
        cell *= 1.25
    return welded(points, left)


def _simplified(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], most_faces: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    import fast_simplification

    points, left = fast_simplification.simplify(vertices, faces.astype(np.int32), target_count=most_faces)
    return np.asarray(points, dtype=np.float64), np.asarray(left, dtype=np.int64)


def _joined(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], cell: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Join the vertices in each cell of a grid at their mean."""
    cells = np.floor((vertices - vertices.min(0)) / cell)
    _, which, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    which = which.ravel()
    means = np.stack([np.bincount(which, vertices[:, axis]) / counts for axis in range(3)], axis=1)
    return welded(means, which[faces])
