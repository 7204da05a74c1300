"""Defects found in one case while it is read, and the limits beyond which the case is excluded."""

import numpy as np

from dentalign.cases.left_out import NO_TEETH_OF_T1, LeftOut
from dentalign.cases.settings import Limits
from dentalign.errors import CaseDefect, Defect
from dentalign.mouth import T1, T2, Mouth


class Findings:
    """Defects of one case, collected as lines of the list of what was left out.

    case_id, step : case and pipeline stage (or command) in each line
    lines         : lines in the order in which they were found; may start with those of an earlier step
    teeth_at_t1   : number of teeth in the document at T1, dropped teeth and teeth without a slot included
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
        """Number of dropped teeth at T1, teeth without a slot included."""
        return sum(bool(line.tooth) and line.code not in NO_TEETH_OF_T1 for line in self.lines)

    def refuse_what_is_left(self, mouth: Mouth, limits: Limits, file: str = "", *, plan: bool = True) -> None:
        """Raise CaseDefect if more teeth than limits.max_dropped_teeth are dropped, or none is left.

        file : path or URL, for the error
        plan : if True, at least one tooth must be left at both T1 and T2
        """
        if self.dropped > limits.max_dropped_teeth:
            seen = (
                f"{self.dropped} teeth cannot be used, more than "
                f"limits.max_dropped_teeth = {limits.max_dropped_teeth}"
            )
            fix = "correct the teeth in the other lines of this case, or raise the limit"
            raise CaseDefect("too_many_dropped", seen, fix, file=file)
        if not mouth.present[T1].any():
            raise CaseDefect(
                "no_teeth",
                "no usable tooth at T1",
                "correct the teeth in the other lines of this case",
                file=file,
            )
        if plan and not np.logical_and(*mouth.present[[T1, T2]]).any():
            seen, fix = "no usable tooth stands at both T1 and T2", "check that T2Stage is the right stage"
            raise CaseDefect("no_pairs", seen, fix, file=file)
