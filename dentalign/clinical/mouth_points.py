"""Landmarks of a mouth in the axes of its own occlusal plane, and why a tooth cannot be measured."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dentalign.clinical.landmarks import LANDMARK_INDEX
from dentalign.geometry import rigid
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.rigid import Array
from dentalign.teeth import ARCHES, PRIMARY, SLOT_INDEX, SLOTS

SIDES = {"right": (1, 4), "left": (2, 3)}  # upper and lower quadrant
QUADRANTS = {"upper": (1, 2), "lower": (4, 3)}  # the patient's right, then left
_MIN_TEETH = 3  # in all: the frame is fitted to their positions


class NotMeasurable(Exception):
    """A measure that this mouth does not allow; the text is the reason, without the measure's name."""


@dataclass(frozen=True)
class MouthPoints:
    """Landmarks of one mouth at one time, in the axes of its occlusal plane.

    points  : (32, L, 3) mm; x to the patient's left, y to posterior, z up, perpendicular to the occlusal
              plane; NaN where absent
    axes    : (32, 3, 3) tooth-local axes in this frame, as columns
    present : (32,) bool
    fdi     : (32,) FDI number in the file, such as 55 in the slot of 15; 0 in empty slots
    frame   : (3, 3) rotation, columns are the axes of this frame in head coordinates
    """

    points: Array
    axes: Array
    present: NDArray[np.bool_]
    fdi: NDArray[np.integer]
    frame: Array

    def is_there(self, fdi: int) -> bool:
        """True if the permanent tooth stands."""
        slot = SLOT_INDEX[fdi]
        return bool(self.present[slot]) and int(self.fdi[slot]) not in PRIMARY

    def require(self, *teeth: int) -> None:
        """Raise NotMeasurable, naming the teeth, unless all these permanent teeth stand."""
        primary = [int(self.fdi[SLOT_INDEX[f]]) for f in teeth if self._is_primary(f)]
        missing = [f for f in teeth if not self.present[SLOT_INDEX[f]]]
        reasons = [_are(missing, "missing")] if missing else []
        if primary:
            reasons.append(_are(primary, "a primary tooth", "primary teeth"))
        if reasons:
            raise NotMeasurable("; ".join(reasons))

    def present_of(self, *teeth: int) -> list[int]:
        """Those of the permanent teeth that stand; raises NotMeasurable if none does."""
        there = [f for f in teeth if self.is_there(f)]
        if not there:
            self.require(*teeth)
        return there

    def at(self, fdi: int, name: str) -> Array:
        """Landmark (3,) of a permanent tooth; raises NotMeasurable if tooth or landmark is absent."""
        self.require(fdi)
        point = self.points[SLOT_INDEX[fdi], LANDMARK_INDEX[name]]
        if not np.isfinite(point).all():
            raise NotMeasurable(f"{fdi} has no landmark {name}")
        return np.asarray(point)

    def tip(self, fdi: int) -> Array:
        """Middle of the incisal edge, or canine, buccal or mesiobuccal cusp (3,); raises as `at`."""
        return self.at(fdi, "edge_middle" if fdi % 10 <= 2 else "buccal_cusp")

    def width(self, fdi: int) -> float:
        """Mesiodistal width: distance of the two contact points, mm; raises as `at`."""
        return float(np.linalg.norm(self.at(fdi, "mesial_contact") - self.at(fdi, "distal_contact")))

    def arch(self, name: str, last: int = 8) -> list[int]:
        """FDI numbers of the teeth of an arch that stand, from right to left, without primary teeth.

        name : "upper" or "lower"
        last : position of the last teeth, such as 6 for the first molars
        """
        return [f for f in arch_teeth(name, last) if self.is_there(f)]

    def _is_primary(self, fdi: int) -> bool:
        slot = SLOT_INDEX[fdi]
        return bool(self.present[slot]) and int(self.fdi[slot]) in PRIMARY

    def without_primary(self, name: str, last: int) -> None:
        """Raise NotMeasurable if a primary tooth stands in an arch up to position `last`."""
        found = [int(self.fdi[SLOT_INDEX[f]]) for f in arch_teeth(name, last) if self._is_primary(f)]
        if found:
            raise NotMeasurable(_are(found, "a primary tooth", "primary teeth"))


def arch_teeth(name: str, last: int = 8) -> list[int]:
    """FDI numbers of an arch from right to left, up to position `last` on both sides."""
    right, left = QUADRANTS[name]
    return [10 * right + n for n in range(last, 0, -1)] + [10 * left + n for n in range(1, last + 1)]


def mouth_points(
    landmarks: NDArray[np.floating],
    pose: Array,
    present: NDArray[np.bool_],
    fdi: NDArray[np.integer] | None = None,
    frame: Array | None = None,
) -> MouthPoints:
    """Move landmarks into the frame of the mouth's occlusal plane.

    landmarks : (32, L, 3) tooth-local mm, NaN where absent
    pose      : (32, 4, 4) tooth-local -> head, mm
    present   : (32,) bool
    fdi       : (32,) FDI numbers in the file; by default the permanent ones
    frame     : (3, 3) axes to use in place of the mouth's own, see `occlusal_frame`
    raises    : NotMeasurable if too few teeth stand to say where the occlusal plane is
    """
    head = rigid.apply(pose, landmarks)
    head[~present] = np.nan
    numbers = np.array(SLOTS) if fdi is None else np.where(fdi > 0, fdi, SLOTS)
    if frame is None:
        frame = occlusal_frame(head, present)
    return MouthPoints(head @ frame, frame.T @ pose[:, :3, :3], present, numbers, frame)


def occlusal_frame(head: Array, present: NDArray[np.bool_]) -> Array:
    """Find the axes of the mouth: x to the patient's left, y to posterior, z up from the occlusal plane.

    The average mouth is turned so that it lies nearest to the teeth, both arches together, each about its own
    centroid, by least squares (Kabsch 1976). A tooth counts where its contact points lie, midway.

    head    : (32, L, 3) landmarks, head frame, mm
    present : (32,) bool
    returns : (3, 3) rotation, the axes as columns in head coordinates
    raises  : NotMeasurable with fewer than three teeth
    """
    place = _places(head)
    usable = present & np.isfinite(place).all(1)
    if usable.sum() < _MIN_TEETH:
        raise NotMeasurable(f"{int(usable.sum())} teeth stand; the occlusal plane needs {_MIN_TEETH}")
    average, parts = average_mouth().position, []
    for slots in ARCHES.values():
        chosen = slots[usable[slots]]
        if len(chosen):
            flat, here = average[chosen], place[chosen]
            parts.append((flat - flat.mean(0), here - here.mean(0)))
    a, b = (np.concatenate(part) for part in zip(*parts, strict=True))
    u, _, vt = np.linalg.svd(b.T @ a)
    return np.asarray(u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt)


def _places(head: Array) -> Array:
    """Points midway between the contact points (32, 3)."""
    ends = head[:, [LANDMARK_INDEX["mesial_contact"], LANDMARK_INDEX["distal_contact"]]]
    return np.asarray(ends.mean(1))


def _are(teeth: Collection[int], one: str, several: str = "") -> str:
    """Sentence such as "36 and 46 are missing"."""
    return f"{listed(teeth)} is {one}" if len(teeth) == 1 else f"{listed(teeth)} are {several or one}"


def listed(teeth: Iterable[int]) -> str:
    """Numbers in words: "14, 24 and 34"."""
    words = [str(tooth) for tooth in sorted(teeth)]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
