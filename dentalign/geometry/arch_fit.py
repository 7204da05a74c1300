"""Position and axes of a dental arch, by a robust least squares fit to the average mouth."""

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.rigid import Array, unit
from dentalign.teeth import ARCHES, SLOT_COUNT

MIN_TEETH_OF_ARCH = 5  # three coefficients per coordinate are fitted to their positions
SURE = 4.0  # an axis must be this many standard errors long; by chance one in thousands is
CLEAR_COSINE = 0.4  # two axes with a smaller cosine, plus or minus, count as perpendicular

IN_ARCH = {name: np.isin(np.arange(SLOT_COUNT), slots) for name, slots in ARCHES.items()}  # (32,) bool each


@dataclass(frozen=True)
class Arch:
    """Dental arch fitted to that of the average mouth, in frame and unit of the poses.

    name       : "lower" or "upper"
    slots      : (n,) slots of the arch's teeth
    centroid   : (3,) of the fitted arch; with fewer than MIN_TEETH_OF_ARCH teeth, median of their positions
    left, back : (3,) unit vectors to the patient's left and to posterior; None if the fit does not determine
                 them
    away       : (n,) distance of each tooth from its position in the fitted arch; None with fewer than
                 MIN_TEETH_OF_ARCH teeth
    """

    name: str
    slots: NDArray[np.intp]
    centroid: Array
    left: Array | None
    back: Array | None
    away: Array | None

    @functools.cached_property
    def normal(self) -> Array | None:
        """Unit vector (3,), cross product of left and back: up in a right-handed frame.

        None if left or back is None, or the two are far from perpendicular (CLEAR_COSINE).
        """
        if self.left is None or self.back is None or abs(self.left @ self.back) > CLEAR_COSINE:
            return None
        return unit(np.cross(self.left, self.back))

    @functools.cached_property
    def frame(self) -> Array:
        """Rotation matrix (3, 3) whose columns are left, back and normal, made exactly perpendicular.

        Only for an arch whose `normal` is not None.
        """
        assert self.left is not None and self.back is not None and self.normal is not None
        u, _, vt = np.linalg.svd(np.stack([self.left, self.back, self.normal], axis=1))
        return np.asarray(u @ vt)

    def scaled(self, factor: float) -> "Arch":
        """Multiply all lengths by a factor."""
        away = None if self.away is None else self.away * factor
        return replace(self, centroid=self.centroid * factor, away=away)


def find_arches(pose: Array, slots: NDArray[np.intp]) -> list[Arch]:
    """Fit each arch that has a tooth in one of these slots, see `find_arch`."""
    return [arch for name in ARCHES if len((arch := find_arch(pose, slots, name)).slots)]


def find_arch(pose: Array, slots: NDArray[np.intp], name: str) -> Arch:
    """Fit an arch: position of a tooth = centroid + x left + y back, with x and y from the average mouth.

    pose  : (32, 4, 4) float64, in any frame and unit; only translations are used
    slots : (n,) int, slots with a tooth, in both arches
    name  : "lower" or "upper"
    """
    slots = slots[IN_ARCH[name][slots]]
    place = pose[slots, :3, 3]
    if len(slots) < MIN_TEETH_OF_ARCH:
        return Arch(name, slots, median(place) if len(slots) else np.zeros(3), None, None, None)
    centroid, (left, back), errors, away = fit_to_average(place, average_mouth().position[slots, :2])
    return Arch(name, slots, centroid, _if_sure(left, errors[0]), _if_sure(back, errors[1]), away)


def fit_to_average(place: Array, flat: Array) -> tuple[Array, Array, Array, Array]:
    """Fit position = centre + (flat - mean of flat) @ axes to the teeth of an arch, robust to outliers.

    place   : (n, 3) positions of the teeth, in any frame and unit; n >= 5
    flat    : (n, 2) x and y of the teeth in the average mouth, mm
    returns : centre (3,); axes (2, 3), not of unit length; standard errors of the axes (2,); distance of each
              tooth from its fitted position (n,)

    Iterated Cauchy weights (Holland and Welsch 1977, doi:10.1080/03610927708827533). The first weights come
    from the distances to the median position, so one distant tooth has no influence. The scale of the weights
    is a multiple of the median distance, so half of the teeth have a weight of 0.8 or more in each iteration.
    No three teeth of an arch are collinear in `flat`, so the solution is unique.
    """
    centre = median(place)
    moved = place - centre
    design = np.column_stack([np.ones(len(flat)), flat - flat.mean(0)])
    away = _length(moved)
    weight = _cauchy(away, 2 * float(median(away)))
    for _ in range(15):
        weighted = design.T * weight
        normal = weighted @ design
        solution = np.linalg.solve(normal, weighted @ moved)
        rest = _length(moved - design @ solution)
        before, weight = weight, _cauchy(rest, 2.4 * float(median(rest)))
        if np.abs(weight - before).max() < 1e-3:
            break
    freedom = max(float(weight.sum()) - 3, 0.5)
    variance = float(weight @ rest**2) / freedom + 1e-12
    errors = np.sqrt(np.diag(np.linalg.inv(normal))[1:] * variance)
    return centre + solution[0], solution[1:], errors, rest


def _if_sure(axis: Array, error: float) -> Array | None:
    length = float(np.linalg.norm(axis))
    return axis / length if length > max(SURE * error, 1e-6) else None


def _length(vectors: Array) -> Array:
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors))


def median(values: Array) -> Array:
    """Median along the first axis; for a few values five times as fast as numpy's."""
    ordered, count = np.sort(values, axis=0), len(values)
    return np.asarray((ordered[(count - 1) // 2] + ordered[count // 2]) / 2)


def _cauchy(distance: Array, scale: float) -> Array:
    return 1 / (1 + (distance / max(scale, 1e-6)) ** 2)
