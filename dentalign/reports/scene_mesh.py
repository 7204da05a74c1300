"""A tooth's surface made small enough for a page: welded, thinned, and in steps of a fraction of a micron."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dentalign.reports.scene import SceneTooth

MOST_FACES = 6_000  # a tooth; 32 such teeth take 2.4 MB of a page, and a phone still turns them smoothly

_STEPS = 65_534  # over the longest side: from -32767 to 32767


@dataclass(frozen=True)
class PackedMesh:
    """Vertices are `middle_mm + step_mm * steps`.

    steps     : (V, 3) little-endian int16
    faces     : (F, 3) little-endian uint16
    middle_mm : 3 numbers, tooth-local
    """

    steps: NDArray[np.int16]
    faces: NDArray[np.uint16]
    middle_mm: tuple[float, float, float]
    step_mm: float

    def vertices_mm(self) -> NDArray[np.float64]:
        """What a reader of the page gets back: (V, 3), within half a step of what was packed."""
        return np.asarray(self.middle_mm) + self.step_mm * self.steps.astype(np.float64)


def pack(tooth: SceneTooth, most_faces: int = MOST_FACES) -> PackedMesh:
    """The surface of a tooth, with at most `most_faces` faces; the same input gives the same output."""
    vertices, faces = welded(np.asarray(tooth.vertices, dtype=np.float64), np.asarray(tooth.faces, np.int64))
    if len(faces) > most_faces:
        vertices, faces = thinned(vertices, faces, most_faces)
    low, high = vertices.min(0), vertices.max(0)
    middle = np.round((low + high) / 2, 6)
    step = float(f"{max(float(np.abs(vertices - middle).max()), 1e-6) / (_STEPS // 2):.6g}") * (1 + 1e-5)
    steps = np.round((vertices - middle) / step).astype("<i2")
    x, y, z = middle.tolist()
    return PackedMesh(steps, faces.astype("<u2"), (x, y, z), step)


def welded(
    vertices: NDArray[np.float64], faces: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Equal vertices joined; repeated faces, faces without area and vertices without a face removed.

    The corners of an STL's triangles are such vertices; what is welded already is kept in its order.
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


def thinned(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], most_faces: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Fewer faces, the shape kept as well as may be, for the eye; not for measuring.

    Edges are collapsed where that moves the surface least (Garland and Heckbert 1997, "Surface
    simplification using quadric error metrics", doi:10.1145/258734.258849). What is no surface (edges of
    many faces) may not let itself be collapsed so far: of its faces the largest stay.
    """
    import fast_simplification

    points, left = fast_simplification.simplify(vertices, faces.astype(np.int32), target_count=most_faces)
    if not len(left):
        points, left = vertices, faces
    if len(left) > most_faces:
        corners = points[left]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        left = left[np.sort(np.argsort(-area, kind="stable")[:most_faces])]
    return welded(np.asarray(points, dtype=np.float64), np.asarray(left, dtype=np.int64))
