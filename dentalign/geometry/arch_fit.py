"""Where an arch lies, by robust least squares against the average mouth: its middle, left, back and up."""

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.rigid import Array
from dentalign.teeth import ARCHES, SLOT_COUNT

MIN_TEETH_OF_ARCH = 5  # three numbers per axis are fitted to them
SURE = 4.0  # an axis found must be this many standard errors long; chance would be one in thousands
CLEAR_COSINE = 0.4  # an axis nearer to a right angle than this points neither way

IN_ARCH = {name: np.isin(np.arange(SLOT_COUNT), slots) for name, slots in ARCHES.items()}  # (32,) bool each


@dataclass(frozen=True)
class Arch:
    """An arch as found: its teeth (indices of slots), middle, and axes in the given coordinates.

    left, back : (3,) unit vectors, to the patient's left and to posterior; None where not sure
    normal     : (3,) left x back, which is up in a right-handed frame; None where not sure
    away       : (n,) of each tooth from where the others would have it; None where too few teeth tell
    """

    name: str
    slots: NDArray[np.intp]
    middle: Array
    left: Array | None
    back: Array | None
    away: Array | None

    @functools.cached_property
    def normal(self) -> Array | None:
        """Up by the right-hand rule, or None where not sure."""
        if self.left is None or self.back is None or abs(self.left @ self.back) > CLEAR_COSINE:
            return None
        return _unit(np.cross(self.left, self.back))

    def scaled(self, factor: float) -> "Arch":
        """The same arch in another unit."""
        away = None if self.away is None else self.away * factor
        return replace(self, middle=self.middle * factor, away=away)


def find_arches(pose: Array, slots: NDArray[np.intp]) -> list[Arch]:
    """The arches that have teeth among these slots."""
    return [arch for name in ARCHES if len((arch := find_arch(pose, slots, name)).slots)]


def find_arch(pose: Array, slots: NDArray[np.intp], name: str) -> Arch:
    """An arch by least squares: place = middle + x left + y back, x and y from the average mouth."""
    own = slots[IN_ARCH[name][slots]]
    place = pose[own, :3, 3]
    if len(own) < MIN_TEETH_OF_ARCH:
        return Arch(name, own, median(place) if len(own) else np.zeros(3), None, None, None)
    middle, (left, back), errors, away = fit_to_average(place, average_mouth().position[own, :2])
    return Arch(name, own, middle, _if_sure(left, errors[0]), _if_sure(back, errors[1]), away)


def fit_to_average(place: Array, flat: Array) -> tuple[Array, Array, Array, Array]:
    """Robust regression of places (n, 3) on flat coordinates (n, 2) of the average mouth, n at least 5.

    returns: place of the middle of `flat` (3,), axes (2, 3), their standard errors (2,), and how far each
             place is from where these would have it (n,)

    Cauchy weights, iterated (Holland and Welsch 1977, doi:10.1080/03610927708827533), started from the
    distance to the median, so that a tooth at any distance has no say. Half of the teeth weigh 0.8 or more
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


def frame_of(arch: Arch) -> Array:
    """Rotation (3, 3) whose columns are left, back and up of an arch that is sure, by the right-hand rule."""
    assert arch.left is not None and arch.back is not None and arch.normal is not None
    u, _, vt = np.linalg.svd(np.stack([_unit(arch.left), _unit(arch.back), arch.normal], axis=1))
    return u @ vt


def _if_sure(axis: Array, error: float) -> Array | None:
    length = float(np.linalg.norm(axis))
    return axis / length if length > max(SURE * error, 1e-6) else None


def _length(vectors: Array) -> Array:
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors))


def median(values: Array) -> Array:
    """Along the first axis, as numpy's, which takes five times as long for a few values."""
    ordered, count = np.sort(values, axis=0), len(values)
    return np.asarray((ordered[(count - 1) // 2] + ordered[count // 2]) / 2)


def _cauchy(distance: Array, scale: float) -> Array:
    return 1 / (1 + (distance / max(scale, 1e-6)) ** 2)


def _unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector)
