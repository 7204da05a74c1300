"""Tip and torque of crowns (Andrews 1972)."""

import numpy as np

from dentalign.clinical.landmarks import LANDMARK_INDEX
from dentalign.clinical.mouth_points import MouthPoints
from dentalign.geometry.rigid import unit
from dentalign.teeth import SLOTS, is_upper

# Means of 120 untreated ideal occlusions, by position from the central incisor to the second molar.
TIP_NORM_DEG = {True: (5, 9, 11, 2, 2, 5, 5), False: (2, 2, 5, 2, 2, 2, 2)}
TORQUE_NORM_DEG = {True: (7, 3, -7, -7, -7, -9, -9), False: (-1, -1, -11, -17, -22, -30, -35)}


def tip_and_torque(mouth: MouthPoints) -> tuple[dict[str, float], dict[str, float]]:
    """Tip and torque of every permanent crown, deg, by FDI number.

    The facial axis of the clinical crown, a straight line through its facial surface, is compared with the
    perpendicular of the occlusal plane. Tip: seen from facial, positive where the crown leans to mesial.
    Torque: seen from mesial, positive where it leans to labial or buccal. Zero is the perpendicular itself,
    from which the norms of Andrews count too. Missing, extracted and primary teeth have no entry.

    Source: Andrews 1972, "The six keys to normal occlusion", Am J Orthod 62(3):296-309; norms as in Andrews
    1989, "Straight wire: the concept and appliance".
    """
    gingival, occlusal = (LANDMARK_INDEX[name] for name in ("facial_gingival", "facial_occlusal"))
    tip, torque = {}, {}
    for slot, fdi in enumerate(SLOTS):
        axis = mouth.points[slot, occlusal] - mouth.points[slot, gingival]
        if not mouth.is_there(fdi) or not np.isfinite(axis).all():
            continue
        up = np.array([0.0, 0.0, -1.0 if is_upper(fdi) else 1.0])
        mesial = mouth.axes[slot, :, 0] * (1.0 if fdi // 10 % 2 else -1.0)
        mesial = unit(mesial - (mesial @ up) * up)
        facial = mouth.axes[slot, :, 1]
        facial = unit(facial - (facial @ up) * up - (facial @ mesial) * mesial)
        tip[str(fdi)] = float(np.degrees(np.arctan2(axis @ mesial, axis @ up)))
        torque[str(fdi)] = float(np.degrees(np.arctan2(axis @ facial, axis @ up)))
    return tip, torque
