"""An average mouth in head coordinates, rough on purpose: what a real one is compared with.

The teeth stand in contact along a curve, by mean crown widths; nothing of it is ever written into data.
"""

import functools
from dataclasses import dataclass

import numpy as np

from dentalign.geometry.rigid import Array
from dentalign.teeth import LOWER, SLOTS, UPPER

# Mean mesio-distal widths, mm, from the first incisor to the third molar: Nelson, "Wheeler's Dental
# Anatomy", tables of the permanent teeth.
_WIDTHS_MM = {
    "upper": (8.5, 6.5, 7.5, 7.0, 7.0, 10.0, 9.0, 8.5),
    "lower": (5.0, 5.5, 7.0, 7.0, 7.0, 11.0, 10.5, 10.0),
}
# Width and depth of the curve y = -depth (1 - (2 x / width)^2)^0.8, mm: the form of Braun et al. 1998,
# doi:10.1043/0003-3219(1998)068<0029:TFOTHD>2.3.CO;2, long enough for eight teeth a side.
_ARCH_MM = {"upper": (62.0, 52.0), "lower": (58.0, 52.0)}
_LOWER_BEHIND_MM = 2.0  # overjet
_CROWN_CENTRES_APART_MM = 8.0  # upper above lower, in occlusion


@dataclass(frozen=True)
class AverageMouth:
    """Per slot, in head axes (x to the patient's left, y posterior, z up).

    position : (32, 3) float64, middle of the crown, mm
    outward  : (32, 3) float64, unit vector from the arch to the cheek or lip
    crown    : (32, 3) float64, unit vector from root to crown tip
    """

    position: Array
    outward: Array
    crown: Array


@functools.cache
def average_mouth() -> AverageMouth:
    """The average mouth; the arrays are read-only."""
    position, outward, crown = (np.zeros((len(SLOTS), 3)) for _ in range(3))
    for arch, numbers in (("lower", LOWER), ("upper", UPPER)):
        places, normals = _right_half(arch)
        up = 1.0 if arch == "upper" else -1.0
        for fdi in numbers:
            slot, index = SLOTS.index(fdi), fdi % 10 - 1
            side = np.array([1.0 if fdi // 10 in (2, 3) else -1.0, 1.0])  # the patient's left is at +x
            position[slot, :2], position[slot, 2] = places[index] * side, up * _CROWN_CENTRES_APART_MM / 2
            outward[slot, :2], crown[slot, 2] = normals[index] * side, -up
    for array in (position, outward, crown):
        array.setflags(write=False)
    return AverageMouth(position, outward, crown)


def _right_half(arch: str) -> tuple[Array, Array]:
    """Places and outward normals (8, 2) of one side, at x > 0, from the first incisor backwards."""
    width, depth = _ARCH_MM[arch]
    turn = np.linspace(0, np.pi / 2, 2000)
    x = width / 2 * np.sin(turn)
    y = -depth * np.cos(turn) ** 1.6 + (_LOWER_BEHIND_MM if arch == "lower" else 0.0)
    along = np.append(0.0, np.cumsum(np.hypot(np.diff(x), np.diff(y))))
    widths = np.array(_WIDTHS_MM[arch])
    at = np.cumsum(widths) - widths / 2
    slope = np.stack([np.gradient(x, along), np.gradient(y, along)])
    tangent = np.stack([np.interp(at, along, component) for component in slope], axis=-1)
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], axis=-1)
    places = np.stack([np.interp(at, along, x), np.interp(at, along, y)], axis=-1)
    return places, normal / np.linalg.norm(normal, axis=-1, keepdims=True)
