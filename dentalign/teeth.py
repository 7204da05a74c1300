"""FDI tooth numbers and the 32 slots of a mouth.

Slot order: lower 38 37 .. 31 41 .. 48, then upper 18 17 .. 11 21 .. 28, so that neighbours in an arch have
neighbouring slots. The order runs from the patient's left to right in the lower arch, and from right to left
in the upper arch.
"""

import numpy as np

LOWER = tuple(range(38, 30, -1)) + tuple(range(41, 49))
UPPER = tuple(range(18, 10, -1)) + tuple(range(21, 29))
SLOTS = LOWER + UPPER
SLOT_COUNT = len(SLOTS)
SLOT_INDEX = {fdi: index for index, fdi in enumerate(SLOTS)}
ARCHES = {"lower": np.arange(16), "upper": np.arange(16, 32)}

PRIMARY = tuple(10 * quadrant + n for quadrant in (5, 6, 7, 8) for n in range(1, 6))
PRIMARY_OFFSET = 40

_MIRRORED_QUADRANT = {1: 2, 2: 1, 3: 4, 4: 3, 5: 6, 6: 5, 7: 8, 8: 7}


def successor(fdi: int) -> int:
    """Permanent FDI number whose slot a tooth takes (55 -> 15); unchanged for a permanent tooth."""
    return fdi - PRIMARY_OFFSET if fdi in PRIMARY else fdi


def is_known(fdi: int) -> bool:
    """True if the number is a permanent or primary tooth of the FDI notation (ISO 3950)."""
    return fdi in SLOT_INDEX or fdi in PRIMARY


def is_upper(fdi: int) -> bool:
    """True for the upper arch: quadrants 1, 2 (permanent), 5, 6 (primary)."""
    return fdi // 10 in (1, 2, 5, 6)


def antimere(fdi: int) -> int:
    """FDI number of the same tooth on the other side of the mouth (11 <-> 21, 36 <-> 46)."""
    return 10 * _MIRRORED_QUADRANT[fdi // 10] + fdi % 10


MIRRORED_SLOT = np.array([SLOT_INDEX[antimere(fdi)] for fdi in SLOTS])
