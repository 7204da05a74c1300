"""Evenly spread points on a tooth, in an anatomical order that is the same in every patient.

All coordinates are tooth-local millimetres: +z from root to crown tip, +y buccal.
"""

import functools

import fpsample
import numpy as np
from numpy.typing import NDArray

from dentalign.geometry.assignment import best_assignment
from dentalign.geometry.rigid import unit

Points = NDArray[np.float64]


def sample_surface(triangles: Points, count: int, oversampling: int, seed: int) -> Points:
    """Sample exactly `count` evenly spread points on the surface of a mesh.

    Candidates are drawn evenly by area (systematic sampling along the list of triangles). Farthest point
    sampling, which starts at the highest candidate, selects `count` of them. No step can return too few
    points, whatever the mesh, doubled shells and thin plates included.

    triangles    : (F, 3, 3) float, mm
    oversampling : number of candidates for each point of the result
    returns      : (count, 3) float64, mm; the same for the same triangles and seed
    raises       : ValueError where the total area is 0

    Source: Eldar et al. 1997, "The farthest point strategy", doi:10.1109/83.623193.
    """
    a = triangles[:, 0]
    area = 0.5 * np.linalg.norm(np.cross(triangles[:, 1] - a, triangles[:, 2] - a), axis=1)
    total = area.sum()
    if not total > 0:
        raise ValueError("the mesh has no area")
    rng = np.random.default_rng(seed)
    candidates = count * oversampling
    # Candidate i lies at (i + shift) / candidates of the area; so many lie before the end of each triangle.
    before = (
        np.ceil(np.cumsum(area) * (candidates / total) - rng.random()).astype(np.intp).clip(0, candidates)
    )
    # A rounding error in the last partial sum must not leave a candidate without a triangle.
    before[np.flatnonzero(area)[-1] :] = candidates
    u, v = rng.random((2, candidates, 1))
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u), np.where(fold, 1 - v, v)
    chosen = np.repeat(triangles, np.diff(before, prepend=0), axis=0)
    a = chosen[:, 0]
    points = a + u * (chosen[:, 1] - a) + v * (chosen[:, 2] - a)
    centred = (points - points.mean(0)).astype(np.float32)
    start = int(centred[:, 2].argmax())
    height = min(5, candidates.bit_length() - 1)  # fpsample needs 2^h <= the number of candidates
    return points[fpsample.bucket_fps_kdline_sampling(centred, count, h=height, start_idx=start)]


def order(points: Points) -> Points:
    """Put points into anatomical order: point i of the result lies in direction i from the centroid.

    The directions are fixed and evenly spread (`directions`). First the tooth's three axes are scaled to the
    same spread; then points and directions are assigned one to one, with the largest sum of cosines. The
    order of a mirror image is the mirrored order (`mirror_permutation`).

    points  : (P, 3) float, mm, P even
    returns : (P, 3) float, a permutation of the rows
    """
    centred = points - points.mean(0)
    spread = centred.std(0)
    scaled = centred / np.where(spread > 0, spread, 1.0)
    return points[best_assignment(directions(len(points)), unit(scaled))]


@functools.cache
def directions(count: int) -> Points:
    """Evenly spread unit vectors (count, 3); the second half is the mirror image of the first, x -> -x.

    A spherical Fibonacci lattice (Gonzalez 2010, doi:10.1007/s11004-009-9257-x) on the half x > 0,
    then pushed apart, mirror images included, until even (Thomson's problem by gradient steps).
    raises: ValueError where the count is odd
    """
    if count < 2 or count % 2:
        raise ValueError(f"the number of points must be even, got {count}")
    half = count // 2
    i = np.arange(half)
    x = 1 - (i + 0.5) / half
    turn = i * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - x * x)
    d = np.stack([x, ring * np.cos(turn), ring * np.sin(turn)], axis=1)
    step = 0.3 / count
    for _ in range(100):
        every = np.concatenate([d, d * [-1, 1, 1]])
        gap = d[:, None] - every
        square = (gap * gap).sum(-1)
        square[i, i] = np.inf
        push = (gap / square[..., None] ** 1.5).sum(1)
        push -= (push * d).sum(1, keepdims=True) * d
        d = unit(d + step * push / np.sqrt(count))
    every = np.round(np.concatenate([d, d * [-1, 1, 1]]), 9)
    every.setflags(write=False)
    return every


def mirror_permutation(count: int) -> NDArray[np.intp]:
    """Permutation (count,): points[permutation] * (-1, 1, 1) are the ordered points of the mirror image."""
    half = count // 2
    return np.concatenate([np.arange(half, count), np.arange(half)])


@functools.cache
def triangulation(count: int) -> NDArray[np.intp]:
    """Triangles (2 count - 4, 3) of indices that join neighbouring directions, wound outwards.

    They join the ordered points of a tooth to a closed surface.
    """
    faces = closed_surface(directions(count))
    faces.setflags(write=False)
    return faces


def closed_surface(d: Points) -> NDArray[np.intp]:
    """Triangles (F, 3) of indices that join neighbouring unit vectors d (count, 3), wound outwards."""
    from scipy.spatial import ConvexHull

    faces = ConvexHull(d).simplices.astype(np.intp)
    a, b, c = (d[faces[:, k]] for k in range(3))
    inward = (np.cross(b - a, c - a) * a).sum(1) < 0
    faces[inward] = faces[inward][:, ::-1]
    return faces
