"""Defects found in one case while it is read, and the limits beyond which the case is excluded."""

import numpy as np

from dentalign.cases.left_out import NO_TEETH_OF_T1, LeftOut
from dentalign.cases.settings import Limits
from dentalign.errors import CaseDefect, Defect
from dentalign.mouth import T1, T2, Mouth


class Findings:
    """Lines of one case for the list of what was left out.

    lines       : in the order in which they were found; lines of earlier steps may be given
    teeth_at_t1 : number of teeth that the document has at T1, those dropped and those without a slot included
    """

    teeth_at_t1 = 0

    def __init__(self, case_id: str, step: str, lines: list[LeftOut] | None = None):
        self.case_id, self.step = case_id, step
        self.lines: list[LeftOut] = list(lines or ())

    def add(self, *defects: Defect) -> None:
        """Add a line for each defect."""
        self.lines += [LeftOut.of(self.case_id, self.step, defect) for defect in defects]

    @property
    def dropped(self) -> int:
        """Number of teeth of T1 that were dropped, those without a slot included."""
        return sum(bool(line.tooth) and line.code not in NO_TEETH_OF_T1 for line in self.lines)

    def refuse_what_is_left(self, mouth: Mouth, limits: Limits, file: str = "", *, plan: bool = True) -> None:
        """Exclude a case that lost more teeth than `limits.max_dropped_teeth`, or has none to learn from.

        plan   : whether there must be a tooth at both T1 and T2
        raises : CaseDefect
        """
        if self.dropped > limits.max_dropped_teeth:
            seen = (
                f"{self.dropped} teeth cannot be used, more than "
                f"limits.max_dropped_teeth = {limits.max_dropped_teeth}"
            )
            fix = "correct the teeth listed, or raise the limit"
            raise CaseDefect("too_many_dropped", seen, fix, file=file)
        if not mouth.present[T1].any():
            raise CaseDefect("no_teeth", "no usable tooth at T1", "correct the teeth listed", file=file)
        if plan and not np.logical_and(*mouth.present[[T1, T2]]).any():
            seen, fix = "no usable tooth stands at both T1 and T2", "see whether T2Stage is the right stage"
            raise CaseDefect("no_pairs", seen, fix, file=file)
