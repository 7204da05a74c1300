"""Place and axes of an arch (centroid, left, back, up) by robust least squares against the average mouth."""

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.rigid import Array, unit
from dentalign.teeth import ARCHES, SLOT_COUNT

MIN_TEETH_OF_ARCH = 5  # three numbers per axis are fitted to them
SURE = 4.0  # an axis must be this many standard errors long; by chance one in thousands is
CLEAR_COSINE = 0.4  # an axis closer to a right angle than this points neither way

IN_ARCH = {name: np.isin(np.arange(SLOT_COUNT), slots) for name, slots in ARCHES.items()}  # (32,) bool each


@dataclass(frozen=True)
class Arch:
    """Arch fitted to the average one, in the coordinates of the poses.

    slots      : (n,) slots of its teeth
    centroid   : (3,) of its teeth
    left, back : (3,) unit vectors to the patient's left and to posterior; None if not significant
    away       : (n,) distance of each tooth from the place that the others imply; None if too few teeth
    """

    name: str
    slots: NDArray[np.intp]
    centroid: Array
    left: Array | None
    back: Array | None
    away: Array | None

    @functools.cached_property
    def normal(self) -> Array | None:
        """Unit vector (3,) left x back, which is up in a right-handed frame; None if not significant."""
        if self.left is None or self.back is None or abs(self.left @ self.back) > CLEAR_COSINE:
            return None
        return unit(np.cross(self.left, self.back))

    @functools.cached_property
    def frame(self) -> Array:
        """Right-handed rotation (3, 3), columns nearest to left, back and up; there must be a normal."""
        assert self.left is not None and self.back is not None and self.normal is not None
        u, _, vt = np.linalg.svd(np.stack([self.left, self.back, self.normal], axis=1))
        return np.asarray(u @ vt)

    def scaled(self, factor: float) -> "Arch":
        """Convert lengths to another unit."""
        away = None if self.away is None else self.away * factor
        return replace(self, centroid=self.centroid * factor, away=away)


def find_arches(pose: Array, slots: NDArray[np.intp]) -> list[Arch]:
    """Fit the arches that have teeth among these slots."""
    return [arch for name in ARCHES if len((arch := find_arch(pose, slots, name)).slots)]


def find_arch(pose: Array, slots: NDArray[np.intp], name: str) -> Arch:
    """Fit an arch by least squares: place = centroid + x left + y back, x and y from the average mouth.

    pose  : (32, 4, 4) float64, of which the translations count, in any frame and unit
    slots : (n,) int, the teeth that are there, of either arch
    name  : "lower" or "upper"
    """
    slots = slots[IN_ARCH[name][slots]]
    place = pose[slots, :3, 3]
    if len(slots) < MIN_TEETH_OF_ARCH:
        return Arch(name, slots, median(place) if len(slots) else np.zeros(3), None, None, None)
    centroid, (left, back), errors, away = fit_to_average(place, average_mouth().position[slots, :2])
    return Arch(name, slots, centroid, _if_sure(left, errors[0]), _if_sure(back, errors[1]), away)


def fit_to_average(place: Array, flat: Array) -> tuple[Array, Array, Array, Array]:
    """Robust regression of places (n, 3) on flat coordinates (n, 2) of the average mouth, n at least 5.

    returns: place of the centroid of `flat` (3,), axes (2, 3), their standard errors (2,), and distance of
             each place from the fitted one (n,)

    Iterated Cauchy weights (Holland and Welsch 1977, doi:10.1080/03610927708827533), started from the
    distance to the median, so that one distant tooth has no influence. Half of the teeth weigh 0.8 or more
    each time, by the median in the scale, and no three of an arch stand in line: there is one solution.
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
    """Median along the first axis; numpy's takes five times as long for a few values."""
    ordered, count = np.sort(values, axis=0), len(values)
    return np.asarray((ordered[(count - 1) // 2] + ordered[count // 2]) / 2)


def _cauchy(distance: Array, scale: float) -> Array:
    return 1 / (1 + (distance / max(scale, 1e-6)) ** 2)
