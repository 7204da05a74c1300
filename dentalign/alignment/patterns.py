"""Patterns of missing and extracted teeth in a mouth, and their frequency in the training mouths.

If no training case had the same extractions, a prediction is far off, although every single tooth looks
familiar (docs/experiments.md has the figures).
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dentalign.teeth import MIRRORED_SLOT, SLOT_COUNT, SLOTS

FEW_ALIKE = 4  # with fewer training mouths of its pattern, a case is marked for review by a person
_USUAL = 0.2  # a slot's state is usual if this share of the training mouths has it, or more

_STATES = ("absent", "extracted", "present")  # by index; present: at T1 and at T2

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ToothPatterns:
    """Patterns of missing and extracted teeth among the training mouths, as stored in the weights file.

    The state of a slot is "absent", "extracted" (at T1 only) or "present" (at T1 and T2). The pattern of a
    mouth is a text that lists its slots whose state is rare in the training mouths and their mirror images,
    such as "absent 12 22, extracted 34 44" or "present 18".

    mouths : number of training mouths
    usual  : for each slot the states that are not rare, separated by blanks
    alike  : pattern -> number of training mouths with this pattern or its mirror image; of the two, the first
             in alphabetical order is the key. Patterns of fewer than FEW_ALIKE mouths are left out, as they
             might identify a patient
    raises : ValueError where `usual` or `alike` is not of this form
    """

    mouths: int = 0
    usual: tuple[str, ...] = ("",) * SLOT_COUNT
    alike: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.usual) != SLOT_COUNT or not all(isinstance(states, str) for states in self.usual):
            raise ValueError(f"`usual` must be {SLOT_COUNT} texts, one per slot; got {len(self.usual)}")
        if not isinstance(self.alike, dict) or not all(
            isinstance(count, int) for count in self.alike.values()
        ):
            raise ValueError("`alike` must map patterns to counts")

    @classmethod
    def of(cls, t1_mask: Mask, t2_mask: Mask) -> "ToothPatterns":
        """Count the patterns of N mouths; masks (N, 32) bool: slots with a tooth at T1, and at T2."""
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
        """Pattern of a mouth, "" if the state of every slot is usual; masks (32,) bool, as for `of`."""
        rare: dict[str, list[int]] = {}
        for slot, number in enumerate(_states(t1_mask, t2_mask).tolist()):
            if _STATES[number] not in self.usual[slot].split():
                rare.setdefault(_STATES[number], []).append(SLOTS[slot])
        return ", ".join(f"{name} {' '.join(map(str, sorted(rare[name])))}" for name in sorted(rare))

    def mouths_alike(self, t1_mask: Mask, t2_mask: Mask) -> int:
        """Number of training mouths with the pattern of a mouth, see `alike`; 0 if it is below FEW_ALIKE."""
        return self.alike.get(self._either_way(t1_mask, t2_mask), 0)

    def _either_way(self, *masks: Mask) -> str:
        return min(self.pattern(*masks), self.pattern(*(mask[MIRRORED_SLOT] for mask in masks)))


def _states(t1_mask: Mask, t2_mask: Mask) -> NDArray[np.intp]:
    return np.where(~t1_mask, 0, np.where(t2_mask, 2, 1))
