"""Patterns of missing and extracted teeth in a mouth, and their number among the training mouths.

Where no training case had such extractions, the prediction is far off while every tooth by itself looks
familiar (docs/experiments.md has the figures).
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dentalign.teeth import MIRRORED_SLOT, SLOT_COUNT, SLOTS

FEW_ALIKE = 4  # fewer training mouths than that, and a person is asked to look
_USUAL = 0.2  # share of the training mouths from which on a slot's state is usual

_STATES = ("absent", "extracted", "present")  # by index; present: at T1 and at T2

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ToothPatterns:
    """Missing and extracted teeth of the training mouths; plain values, as they stand in the weights file.

    A pattern is the slots whose state is rare in the training mouths and their mirror images, such as
    "absent 12 22, extracted 34 44" or "present 18".

    mouths : number of training mouths
    usual  : for each slot the states that are not rare, separated by blanks
    alike  : pattern -> number of mouths with it or its mirror image, under the first of the two in the
             alphabet. Those of fewer than FEW_ALIKE mouths are left out: they might tell who the patient is
    raises : ValueError where the values are not of this form
    """

    mouths: int = 0
    usual: tuple[str, ...] = ("",) * SLOT_COUNT
    alike: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.usual) != SLOT_COUNT or not all(isinstance(states, str) for states in self.usual):
            raise ValueError(f"the usual states of {SLOT_COUNT} slots are wanted, got {len(self.usual)}")
        if not isinstance(self.alike, dict) or not all(
            isinstance(count, int) for count in self.alike.values()
        ):
            raise ValueError("the patterns must be counts by name")

    @classmethod
    def of(cls, t1_mask: Mask, t2_mask: Mask) -> "ToothPatterns":
        """Count the patterns of N mouths; t1_mask, t2_mask (N, 32) bool, teeth at T1 and at T2."""
        state = _states(t1_mask, t2_mask)
        share = np.stack([(state == number).mean(0) for number in range(len(_STATES))])  # (3, 32)
        share = (share + share[:, MIRRORED_SLOT]) / 2
        usual = tuple(
            " ".join(name for name, part in zip(_STATES, share[:, slot], strict=True) if part >= _USUAL)
            for slot in range(SLOT_COUNT)
        )
        nothing = cls(len(state), usual)
        counts = sorted(Counter(map(nothing._either_way, t1_mask, t2_mask)).items())
        return cls(len(state), usual, {name: count for name, count in counts if count >= FEW_ALIKE})

    def pattern(self, t1_mask: Mask, t2_mask: Mask) -> str:
        """Pattern of a mouth, "" where every slot is usual; t1_mask, t2_mask (32,) bool."""
        rare: dict[str, list[int]] = {}
        for slot, number in enumerate(_states(t1_mask, t2_mask).tolist()):
            if _STATES[number] not in self.usual[slot].split():
                rare.setdefault(_STATES[number], []).append(SLOTS[slot])
        return ", ".join(f"{name} {' '.join(map(str, sorted(rare[name])))}" for name in sorted(rare))

    def mouths_alike(self, t1_mask: Mask, t2_mask: Mask) -> int:
        """Number of training mouths alike, see `alike`, 0 for fewer than FEW_ALIKE; masks (32,) bool."""
        return self.alike.get(self._either_way(t1_mask, t2_mask), 0)

    def _either_way(self, *masks: Mask) -> str:
        return min(self.pattern(*masks), self.pattern(*(mask[MIRRORED_SLOT] for mask in masks)))


def _states(t1_mask: Mask, t2_mask: Mask) -> NDArray[np.intp]:
    return np.where(~t1_mask, 0, np.where(t2_mask, 2, 1))
