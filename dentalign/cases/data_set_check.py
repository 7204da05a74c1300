"""Check of a data set as a whole before training, for faults that no single case shows."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dentalign.cases.left_out import LeftOut
from dentalign.cases.plan_check import surface_movements
from dentalign.cases.settings import Limits
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2, Mouth

FEWEST_CASES = 5  # smaller data sets get no remarks
MANY, NEARLY_ALL = 0.5, 0.9  # shares of the cases: from there on a warning, and an error
HARDLY_MM = 0.3  # mean over the teeth of a case
SAME_MM = 0.1  # mean over the teeth of a case, from the median of all cases


@dataclass(frozen=True)
class Remark:
    """Remark on a data set as a whole.

    text      : fault found, and its fix
    pointless : True if nothing could be learnt from the data set
    """

    text: str
    pointless: bool = False

    def __str__(self) -> str:
        return self.text


def remarks(mouths: Sequence[Mouth], lines: Iterable[LeftOut], listed: int, limits: Limits) -> list[Remark]:
    """Find faults that most cases share: teeth hardly move, all T2 are equal, one reason leaves cases out.

    mouths : the cases used, without points
    lines  : what was left out of the listed cases
    listed : number of listed cases
    """
    return [*_of_plans(mouths, limits), *nearly_all_left_out(lines, listed)]


def nearly_all_left_out(lines: Iterable[LeftOut], listed: int) -> list[Remark]:
    """Find each reason code for which nearly all (NEARLY_ALL) of the listed cases were left out."""
    by_code: dict[str, dict[str, LeftOut]] = defaultdict(dict)
    for line in sorted(line for line in lines if line.whole_case):
        by_code[line.code].setdefault(line.case_id, line)
    found = []
    for code, cases in sorted(by_code.items()):
        if listed >= FEWEST_CASES and len(cases) >= NEARLY_ALL * listed:
            first = next(iter(cases.values()))
            reason = f"{code}: {first.seen}; {first.fix}"
            found.append(Remark(f"{len(cases)} of {listed} cases are left out for one reason, {reason}"))
    return found


def _of_plans(mouths: Sequence[Mouth], limits: Limits) -> list[Remark]:
    if len(mouths) < FEWEST_CASES:
        return []
    found = []
    still = np.array([surface_movements(mouth).mean() < HARDLY_MM for mouth in mouths])
    if limits.min_movement_mm > 0 and still.mean() >= MANY:
        seen = f"teeth hardly move from T1 to T2, by less than {HARDLY_MM:g} mm on the average"
        found.append(_remark(still, seen, "check that T2Stage is the planned stage"))
    place, present = (np.stack([getattr(m, name) for m in mouths]) for name in ("pose", "present"))
    shared = _shared(place[:, T2], present[:, T2]) & ~_shared(place[:, T1], present[:, T1])
    if shared.mean() >= MANY:
        seen = f"T2 is the same within {SAME_MM:g} mm, although T1 differs"
        found.append(_remark(shared, seen, "check that the export writes each patient's own T2"))
    return found


def _shared(pose: Array, present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cases whose teeth stand where those of most cases do, (N,), of poses (N, 32, 4, 4)."""
    place = np.where(present[..., None], pose[..., :3, 3], np.nan)
    used = present.any(0)  # a slot without any tooth has no median
    away = np.linalg.norm(place[:, used] - np.nanmedian(place[:, used], axis=0), axis=-1)
    return np.asarray(np.nansum(away, axis=1) < SAME_MM * present.sum(1))


def _remark(which: NDArray[np.bool_], seen: str, fix: str) -> Remark:
    text = f"in {which.sum()} of {len(which)} cases {seen}; {fix}"
    return Remark(text, pointless=bool(which.mean() >= NEARLY_ALL))
