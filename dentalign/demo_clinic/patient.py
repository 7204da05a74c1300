"""Made-up patient: the crowns at T1, and the teeth to extract."""

from dataclasses import dataclass

import numpy as np

from dentalign import teeth
from dentalign.demo_clinic import crowns
from dentalign.demo_clinic.crowns import Crown, Variation

# Standard deviations of the logarithm of a crown's size: of the whole dentition, of a type, of one tooth
# against its antimere. Together 5-6 %, as measured (Wheeler's table gives 5-8 %).
SIZE_SD, TYPE_SD, ANTIMERE_SD = 0.035, 0.028, 0.009
SHAPE_ANTIMERE_SD = 0.15

MISSING_SHARE, EXTRACTION_SHARE, WISDOM_SHARE, PRIMARY_SHARE = 0.10, 0.16, 0.22, 0.07
# Teeth most often missing from birth (Polder et al. 2004, doi:10.1111/j.1600-0528.2004.00158.x).
OFTEN_MISSING = (35, 45, 12, 22, 15, 25)
EXTRACTION_PATTERNS = ((14, 24, 34, 44), (15, 25, 35, 45), (14, 24), (14, 24, 35, 45))


@dataclass(frozen=True)
class Patient:
    """Patient before treatment.

    mouth     : FDI -> crown of each tooth at T1
    extracted : FDI numbers of the teeth that stand at T1 and not at T2
    """

    mouth: dict[int, Crown]
    extracted: frozenset[int]

    @property
    def keep(self) -> frozenset[int]:
        """FDI numbers of the teeth that stay at T2."""
        return frozenset(self.mouth) - self.extracted


def draw(rng: np.random.Generator, complete: bool = False) -> Patient:
    """Draw a patient at random; `complete`: with exactly the 28 teeth and no extraction."""
    present = {f for f in teeth.SLOTS if f % 10 < 8}
    extracted: set[int] = set()
    kind = 1.0 if complete else rng.random()
    if kind < EXTRACTION_SHARE:
        extracted = set(EXTRACTION_PATTERNS[int(rng.integers(len(EXTRACTION_PATTERNS)))])
    elif kind < EXTRACTION_SHARE + MISSING_SHARE:
        first = OFTEN_MISSING[int(rng.integers(len(OFTEN_MISSING)))]
        present -= {first, teeth.antimere(first)} if rng.random() < 0.5 else {first}
    elif kind < EXTRACTION_SHARE + MISSING_SHARE + PRIMARY_SHARE:
        retained = int(rng.choice([15, 25, 35, 45]))
        present = (present - {retained}) | {retained + teeth.PRIMARY_OFFSET}
    if not complete and rng.random() < WISDOM_SHARE:
        wisdom = {f for f in (18, 28, 38, 48) if rng.random() < 0.75}
        present |= wisdom
        if rng.random() < 0.4:
            extracted |= wisdom
    return Patient(_crowns(rng, sorted(present)), frozenset(extracted))


def _crowns(rng: np.random.Generator, present: list[int]) -> dict[int, Crown]:
    """Make the crowns of one patient: one common size, types that vary, antimeres nearly alike."""
    common = rng.normal(0, SIZE_SD) + rng.normal(0, 0.4 * SIZE_SD, 3)
    common_shape = rng.normal(0, 0.6, 6)
    # Every type is drawn, present or not, so that a missing tooth does not change the others.
    types = {k: (rng.normal(0, TYPE_SD, 3), rng.normal(0, 0.8, 6)) for k in range(16)}
    made = {}
    for fdi in present:
        permanent = teeth.successor(fdi)
        size, shape = types[permanent % 10 - 1 + (0 if teeth.is_upper(fdi) else 8)]
        own = rng.normal(0, ANTIMERE_SD, 3)
        scores = np.clip(common_shape + shape + rng.normal(0, SHAPE_ANTIMERE_SD, 6), -2.5, 2.5)
        made[fdi] = crowns.make(fdi, Variation(np.exp(np.clip(common + size + own, -0.15, 0.15)), scores))
    return made
