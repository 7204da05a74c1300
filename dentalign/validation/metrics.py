"""How far predicted teeth are from the true ones; lengths in mm, angles in degrees.

Teeth stand in the first axis: points (T, P, 3) in the head frame, poses (T, 4, 4) tooth-local -> head.
Every function gives one number per tooth, to be pooled by the caller.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dentalign.geometry import rigid

Array = NDArray[np.float64]

AUC_LIMIT_MM = 5.0
THRESHOLDS_MM = np.linspace(0.0, AUC_LIMIT_MM, 101)  # steps of 0.05 mm
THRESHOLDS_MM.setflags(write=False)


def add_mm(predicted: ArrayLike, true: ArrayLike) -> Array:
    """Mean distance between corresponding points, mm.

    predicted, true : (T, P, 3)
    returns         : (T,)

    Source: Hinterstoisser et al. 2012, "average distance of model points" (ADD),
    doi:10.1007/978-3-642-37331-2_42. Also the distance of decoded or reconstructed points.
    """
    distance: Array = np.linalg.norm(_pair(predicted, true), axis=-1).mean(-1)
    return distance


def accuracy(add: ArrayLike) -> Array:
    """Share of teeth with ADD (T,), mm, at or under each of `THRESHOLDS_MM`; (101,) in [0, 1].

    raises: ValueError where there is no tooth
    """
    values = np.sort(np.asarray(add, dtype=np.float64))
    if not len(values):
        raise ValueError("the accuracy of no teeth is undefined")
    return np.searchsorted(values, THRESHOLDS_MM, side="right") / len(values)


def add_auc_5mm(add: ArrayLike) -> float:
    """Mean of `accuracy` over the thresholds 0, 0.05, .., 5 mm, in [0, 1]; 1 is perfect."""
    return float(accuracy(add).mean())


def rotation_error_deg(predicted: ArrayLike, true: ArrayLike) -> Array:
    """Geodesic angle between the rotations of poses (T, 4, 4), degrees in [0, 180]; (T,)."""
    a, b = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    return rigid.angle_deg(np.swapaxes(a[..., :3, :3], -1, -2) @ b[..., :3, :3])


def translation_error_mm(predicted: ArrayLike, true: ArrayLike) -> Array:
    """Distance between the centroids of a tooth's points (T, P, 3), mm; (T,)."""
    distance: Array = np.linalg.norm(_pair(predicted, true).mean(-2), axis=-1)
    return distance


def pa_add_mm(predicted: ArrayLike, true: ArrayLike, group: ArrayLike) -> Array:
    """ADD that is left after one best rigid fit of each group's predicted points to the true ones, mm.

    A group is an arch of a case: a shift of the whole arch costs nothing here ("Procrustes-aligned",
    without scale). An arch of a single tooth fits exactly.

    predicted, true : (T, P, 3)
    group           : (T,) int, equal for teeth that are moved together
    returns         : (T,)
    """
    a, b = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    groups = np.asarray(group)
    left = np.zeros(len(a))
    for member in np.unique(groups):
        teeth = groups == member
        source, target = a[teeth].reshape(-1, 3), b[teeth].reshape(-1, 3)
        fitted = rigid.apply(rigid.fit(source, target), source)
        left[teeth] = add_mm(fitted.reshape(a[teeth].shape), b[teeth])
    return left


def rigidity_residual_mm(decoded: ArrayLike, fitted: ArrayLike) -> Array:
    """Root mean square distance between decoded points and the rigid tooth fitted to them, mm.

    decoded, fitted : (T, P, 3)
    returns         : (T,), 0 where the decoded points are exactly a moved tooth
    """
    residual: Array = np.sqrt(np.square(_pair(decoded, fitted)).sum(-1).mean(-1))
    return residual


def confidence(expected_mm: ArrayLike, add: ArrayLike) -> dict[str, float]:
    """Whether the errors that a model expects are those it makes; teeth whose expected error is no number are
    left out, and counted.

    expected_mm, add : (T,), mm
    returns          : `rank_correlation` (Spearman's, 1: it knows which teeth are worst, 0: it does not; left
                       away below 3 teeth), `expected_add_mm` and `add_mm` (means), `teeth_unknown`
    """
    from scipy.stats import spearmanr

    expected, seen = np.asarray(expected_mm, dtype=np.float64), np.asarray(add, dtype=np.float64)
    known = np.isfinite(expected)
    found: dict[str, float] = {"teeth_unknown": int((~known).sum())}
    if known.any():
        found |= {"expected_add_mm": float(expected[known].mean()), "add_mm": float(seen[known].mean())}
    if known.sum() >= 3 and np.ptp(expected[known]) > 0 and np.ptp(seen[known]) > 0:
        found["rank_correlation"] = float(spearmanr(expected[known], seen[known]).statistic)
    return found


def reliability(expected_mm: ArrayLike, add: ArrayLike, groups: int = 10) -> list[dict[str, float]]:
    """Teeth in groups of equal number by the error expected of them: what was expected, what was seen, mm."""
    expected, seen = np.asarray(expected_mm, dtype=np.float64), np.asarray(add, dtype=np.float64)
    order = np.argsort(expected, kind="stable")[: int(np.isfinite(expected).sum())]  # not a number sorts last
    return [
        {
            "expected_add_mm": float(expected[part].mean()),
            "add_mm": float(seen[part].mean()),
            "teeth": len(part),
        }
        for part in np.array_split(order, min(groups, len(order)) or 1)
        if len(part)
    ]


def _pair(a: ArrayLike, b: ArrayLike) -> Array:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.shape[-1:] != (3,):
        raise ValueError(f"both must have the shape (T, P, 3), got {first.shape} and {second.shape}")
    return first - second
