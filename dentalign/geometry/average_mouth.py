"""Average mouth in head coordinates, rough on purpose: the reference for checks of real mouths.

Neighbouring crowns of mean width touch along a curve. No coordinate of this mouth is ever written into data.
"""

import functools
from dataclasses import dataclass

import numpy as np

from dentalign.geometry.arch_form import ArchForm
from dentalign.geometry.rigid import Array
from dentalign.teeth import SLOT_COUNT, SLOTS, is_upper

# Mean mesio-distal widths, mm, from the first incisor to the third molar: Nelson, "Wheeler's Dental
# Anatomy", tables of the permanent teeth.
_UPPER_WIDTHS_MM = (8.5, 6.5, 7.5, 7.0, 7.0, 10.0, 9.0, 8.5)
_LOWER_WIDTHS_MM = (5.0, 5.5, 7.0, 7.0, 7.0, 11.0, 10.5, 10.0)
_UPPER_ARCH, _LOWER_ARCH = ArchForm(62.0, 52.0), ArchForm(58.0, 52.0)  # long enough for eight teeth a side
_LOWER_BEHIND_MM = 2.0  # overjet
_CROWN_CENTRES_APART_MM = 8.0  # upper above lower, in occlusion


def crown_width_mm(fdi: int) -> float:
    """Mean mesio-distal width of the crown of a permanent tooth, mm."""
    return (_UPPER_WIDTHS_MM if is_upper(fdi) else _LOWER_WIDTHS_MM)[fdi % 10 - 1]


@dataclass(frozen=True)
class AverageMouth:
    """Positions and axes of the average teeth per slot, in head axes (x patient's left, y posterior, z up).

    position : (32, 3) float64, centroid of the crown, mm
    outward  : (32, 3) float64, unit vector from the arch to the cheek or lip
    crown    : (32, 3) float64, unit vector from root to crown tip
    rotation : (32, 3, 3) float64, tooth-local -> head: columns x = y cross z, y = outward, z = crown
    """

    position: Array
    outward: Array
    crown: Array
    rotation: Array


@functools.cache
def average_mouth() -> AverageMouth:
    """Make the average mouth; its arrays are read-only."""
    position, outward, crown = (np.zeros((SLOT_COUNT, 3)) for _ in range(3))
    for slot, fdi in enumerate(SLOTS):
        upper, index = is_upper(fdi), fdi % 10 - 1
        widths = _UPPER_WIDTHS_MM if upper else _LOWER_WIDTHS_MM
        arch = _UPPER_ARCH if upper else _LOWER_ARCH
        up = 1.0 if upper else -1.0
        side = 1.0 if fdi // 10 in (2, 3) else -1.0  # the patient's left is at +x
        position[slot], outward[slot] = arch.at(sum(widths[:index]) + widths[index] / 2, side)
        position[slot] += [0.0, 0.0 if upper else _LOWER_BEHIND_MM, up * _CROWN_CENTRES_APART_MM / 2]
        crown[slot, 2] = -up
    rotation = np.stack([np.cross(outward, crown), outward, crown], axis=-1)
    for array in (position, outward, crown, rotation):
        array.setflags(write=False)
    return AverageMouth(position, outward, crown, rotation)
