"""Dental arch as a curve in the occlusal plane, in head axes."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dentalign.geometry.rigid import Array


@dataclass(frozen=True)
class ArchForm:
    """Symmetric arch: the beta function, with straight ends behind the last molar.

    width_mm : distance between the two ends of the beta function
    depth_mm : distance from the line through these ends to the midline point in front

    The curve is y = -depth (1 - (2 x / width)^2)^0.8; its midline point is at x = 0, y = -depth.
    Source: Braun et al. 1998, "The form of the human dental arch", Angle Orthod 68(1):29-36,
    doi:10.1043/0003-3219(1998)068<0029:TFOTHD>2.3.CO;2.
    """

    width_mm: float
    depth_mm: float

    @cached_property
    def _table(self) -> tuple[Array, Array, Array, Array]:
        """Arc length from the midline, x, y, and heading, on the patient's left."""
        phi = np.linspace(0, np.pi / 2, 400)
        half = 0.5 * self.width_mm
        x = np.append(half * np.sin(phi), half)
        y = np.append(-self.depth_mm * np.cos(phi) ** 1.6, 40.0)
        length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
        slope_x = np.cos(phi) * 0.5 * self.width_mm
        slope_y = 1.6 * self.depth_mm * np.cos(phi) ** 0.6 * np.sin(phi)
        heading = np.arctan2(slope_y, np.maximum(slope_x, 1e-12))
        heading[-1] = np.pi / 2
        return length, x, y, np.append(heading, np.pi / 2)

    def at(self, arc_mm: float, side: float) -> tuple[Array, Array]:
        """Point (3,), mm, of the curve and outward unit vector (3,) there, both in the plane z = 0.

        arc_mm : arc length from the midline
        side   : +1 for the patient's left, -1 for the right
        """
        length, x, y, heading = self._table
        angle = float(np.interp(arc_mm, length, heading))
        point = np.array([side * np.interp(arc_mm, length, x), np.interp(arc_mm, length, y), 0.0])
        return point, np.array([side * math.sin(angle), -math.cos(angle), 0.0])
