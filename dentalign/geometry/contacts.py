"""Overlap and gap of neighbouring teeth, mm, computed from their ordered points.

`sampling.triangulation` joins the ordered points of a tooth to a closed surface. The probes of a tooth are
its points and the centroids of its triangles. For each probe of either tooth of a pair, the exact distance to
the surface of the other tooth is computed (libigl's AABB tree). The probe is inside if the winding number is
above 1/2 (Jacobson et al. 2013, doi:10.1145/2461912.2461916), which holds for surfaces with folds, too.

Accuracy: 256 points lie about 1 mm apart on a crown, so the flat triangles cut a surface of radius 4 mm by up
to 0.04 mm. Where a contact lies between probes, the overlap comes out up to 0.04 mm too small. For two
spheres of that radius the error is at most 0.1 mm (tests/geometry/test_contacts.py).
"""

from itertools import pairwise

import igl
import numpy as np
from numpy.typing import NDArray

from dentalign.geometry.rigid import Array, unit
from dentalign.geometry.sampling import triangulation
from dentalign.teeth import ARCHES

Index = NDArray[np.intp]


def neighbours(present: NDArray[np.bool_], judged: NDArray[np.bool_]) -> Index:
    """Find pairs of slots (K, 2) that are neighbours in an arch; empty slots between them are skipped.

    present : (32,) bool, slots with a tooth at T2
    judged  : (32,) bool, slots with a predicted tooth; pairs that include another slot are left out
    """
    pairs = []
    for slots in ARCHES.values():
        standing = slots[present[slots]]
        pairs += [pair for pair in pairwise(standing) if judged[list(pair)].all()]
    return np.array(pairs, dtype=np.intp).reshape(-1, 2)


def contacts(points: Array, pairs: Index) -> tuple[Array, Array]:
    """Measure the deepest overlap and the smallest gap of pairs of teeth.

    points  : (S, P, 3) float, mm, one frame; ordered points of S teeth
    pairs   : (K, 2) int, indices of the two teeth in `points`
    returns : overlap_mm (K,), the largest depth of a probe inside the other tooth, 0 where none is inside;
              gap_mm (K,), the smallest distance between the surfaces, 0 where they overlap
    raises  : ValueError where P is odd: the triangulation needs an even number of points
    """
    teeth = {tooth: _Tooth(np.asarray(points[tooth], np.float64)) for tooth in np.unique(pairs).tolist()}
    overlap, gap = np.zeros(len(pairs)), np.zeros(len(pairs))
    for row, (one, other) in enumerate(pairs.tolist()):
        there, back = _depth_and_gap(teeth[one], teeth[other]), _depth_and_gap(teeth[other], teeth[one])
        overlap[row] = max(there[0], back[0])
        gap[row] = 0.0 if overlap[row] else min(there[1], back[1])
    return overlap, gap


class _Tooth:
    """The closed surface of a tooth, its probes, and the tree that finds the nearest triangle."""

    def __init__(self, points: Array):
        self.points = points
        self.faces = triangulation(len(points))
        self.probes = np.concatenate([points, points[self.faces].mean(1)])
        self.centroid = self.probes.mean(0)
        self._tree = igl.AABB()
        self._tree.init(points, self.faces)

    def distance(self, probes: Array) -> Array:
        """Unsigned distance (M,) of probes (M, 3) to the surface, mm."""
        return np.sqrt(self._tree.squared_distance(self.points, self.faces, probes)[0])

    def holds(self, probes: Array) -> NDArray[np.bool_]:
        """True (M,) for probes (M, 3) inside the surface."""
        return np.asarray(igl.fast_winding_number(self.points, self.faces, probes) > 0.5)


def _depth_and_gap(probing: _Tooth, standing: _Tooth) -> tuple[float, float]:
    """Depth of the deepest probe of one tooth in the other (0: none inside), and smallest distance; mm."""
    axis = unit(standing.centroid - probing.centroid)
    forward, near_side = probing.probes @ axis, (standing.points @ axis).min()
    bound = standing.distance(probing.probes[forward.argmax()][None])[0]
    # Farther in front of the near side than the foremost probe is from it: neither nearest nor inside.
    probes = probing.probes[forward >= near_side - bound]
    distance = standing.distance(probes)
    box = ((standing.points.min(0) <= probes) & (probes <= standing.points.max(0))).all(1)
    depth = distance[box][standing.holds(probes[box])] if box.any() else np.zeros(0)
    return float(depth.max(initial=0.0)), float(distance.min())
