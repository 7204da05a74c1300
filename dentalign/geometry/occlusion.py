"""Occlusion: how deep the upper arch is in the lower one, and which posterior teeth touch an antagonist.

Surfaces are those of `geometry.contacts`, closed surfaces of the ordered points. Their flat triangles cut off
the tips of cusps; what that costs against the meshes is in docs/metrics.md.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dentalign.geometry.contacts import Index, contacts
from dentalign.geometry.rigid import Array
from dentalign.teeth import ARCHES, SLOTS

TOUCHING_MM = 0.3
POSTERIOR = np.array([fdi % 10 >= 4 for fdi in SLOTS])  # (32,), slots of premolars and molars

_POINTS_APART_MM = 1.5  # more than the distance of neighbouring points on a crown


def antagonists(points: Array, stays: NDArray[np.bool_]) -> Index:
    """Find pairs (K, 2) of a lower and an upper slot whose crowns may be within `TOUCHING_MM`.

    points : (32, P, 3) ordered points, head frame, mm
    stays  : (32,) bool, slots with a tooth
    """
    lower, upper = (slots[stays[slots]] for slots in ARCHES.values())
    if not (len(lower) and len(upper)):
        return np.zeros((0, 2), np.intp)
    trees = [cKDTree(points[slots].reshape(-1, 3)) for slots in (lower, upper)]
    near = trees[0].sparse_distance_matrix(trees[1], TOUCHING_MM + _POINTS_APART_MM, output_type="ndarray")
    count = points.shape[1]
    return np.unique(np.stack([lower[near["i"] // count], upper[near["j"] // count]], 1), axis=0)


def occlusion(points: Array, stays: NDArray[np.bool_]) -> tuple[float, NDArray[np.bool_]]:
    """Measure how the arches of one mouth meet; parameters as for `antagonists`.

    returns : depth of the deepest point of one arch in the other, mm, 0 if they are clear of each other, NaN
              without teeth in both arches; True for each posterior tooth, in slot order, that is within
              `TOUCHING_MM` of an antagonist
    """
    pairs = antagonists(points, stays)
    overlap, gap = contacts(points, pairs)
    touching = np.isin(np.arange(len(SLOTS)), pairs[gap <= TOUCHING_MM])
    both = all(stays[slots].any() for slots in ARCHES.values())
    return float(overlap.max(initial=0.0)) if both else np.nan, touching[stays & POSTERIOR]


def antagonist_mm(points: Array, stays: NDArray[np.bool_]) -> Array:
    """Distance of each tooth to the nearest antagonist, (32,) mm; parameters as for `antagonists`.

    Negative is the depth of the deepest point; NaN without an antagonist nearer than about `TOUCHING_MM`.
    """
    pairs = antagonists(points, stays)
    overlap, gap = contacts(points, pairs)
    apart = np.full(len(SLOTS), np.inf)
    np.minimum.at(apart, pairs, np.where(overlap > 0, -overlap, gap)[:, None])
    return np.where(np.isfinite(apart), apart, np.nan)


def figures(points: Array, stays: NDArray[np.bool_]) -> dict[str, Array]:
    """Figures of N mouths, whose means are reported.

    points  : (N, 32, P, 3) ordered points, head frame, mm
    stays   : (N, 32) bool, slots with a tooth
    returns : occlusal_overlap_mm of each mouth with both arches; occlusal_contacts, 1 or 0 for each posterior
              tooth of those mouths, see `occlusion`
    """
    found = [occlusion(mouth, here) for mouth, here in zip(points, stays, strict=True)]
    kept = [(depth, touching) for depth, touching in found if np.isfinite(depth)]
    touching = np.concatenate([np.zeros(0, bool), *(part for _, part in kept)])
    return {
        "occlusal_overlap_mm": np.array([depth for depth, _ in kept], np.float64),
        "occlusal_contacts": touching.astype(np.float64),
    }
