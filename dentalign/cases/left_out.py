"""Record of what was left out, and why: nothing is dropped silently."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dentalign.errors import CaseDefect, Defect
from dentalign.files import csv_table


@dataclass(frozen=True, order=True)
class LeftOut:
    """Line of the list: a case (tooth is "") or one tooth of a case.

    stage : the pipeline stage that noticed
    code  : short reason code
    seen  : what was found
    fix   : what to do about it
    file  : where, as the user knows it
    """

    case_id: str
    tooth: str
    stage: str
    code: str
    seen: str
    fix: str
    file: str

    @classmethod
    def of(cls, case_id: str, stage: str, defect: Defect) -> "LeftOut":
        """Make the line for a defect met in a stage; a CaseDefect concerns the whole case."""
        whole = isinstance(defect, CaseDefect) or defect.tooth is None
        tooth = "" if whole else str(defect.tooth)
        return cls(
            *map(printable, (case_id, tooth, stage, defect.code, defect.seen, defect.fix, defect.file))
        )

    @property
    def whole_case(self) -> bool:
        """True if the case as a whole is excluded."""
        return not self.tooth


def printable(name: str) -> str:
    r"""Spell a file name so that UTF-8 can hold it: a byte that is no text, such as FF, becomes `\udcff`."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


# Entries that are listed, but were no teeth of T1: they are in no count of teeth.
NO_TEETH_OF_T1 = frozenset({"t2_only", "unknown_tooth_key", "no_tooth", "not_a_crown"})


@dataclass(frozen=True)
class Totals:
    """Counts of what was listed, used and left out; each is counted on its own, none by subtraction.

    cases_listed   : rows of the case list, unusable ones included
    cases_used     : cases in the data set
    cases_excluded : rows and cases that are not
    teeth_listed   : teeth at T1 in the documents of the cases used
    teeth_used     : of those, in the data set
    teeth_dropped  : of those, the ones that are not
    """

    cases_listed: int
    cases_used: int
    cases_excluded: int
    teeth_listed: int
    teeth_used: int
    teeth_dropped: int

    @property
    def add_up(self) -> bool:
        """True if nothing was lost without a line."""
        return (
            self.cases_listed == self.cases_used + self.cases_excluded
            and self.teeth_listed == self.teeth_used + self.teeth_dropped
        )

    def __str__(self) -> str:
        """Summary in one line."""
        text = (
            f"{self.cases_listed} cases listed = {self.cases_used} used + {self.cases_excluded} excluded; "
            f"{self.teeth_listed} teeth of the cases used = {self.teeth_used} used "
            f"+ {self.teeth_dropped} dropped"
        )
        return text if self.add_up else f"{text}; this does not add up, which is a fault of dentalign"


def excluded_cases(lines: Iterable[LeftOut]) -> set[str]:
    """Cases (and unusable rows of the list) that are excluded as a whole."""
    return {line.case_id for line in lines if line.whole_case}


def dropped_teeth(lines: Iterable[LeftOut]) -> set[tuple[str, str]]:
    """Teeth of T1 dropped from cases that are used all the same: (case, tooth)."""
    kept = list(lines)
    excluded = excluded_cases(kept)
    return {
        (line.case_id, line.tooth)
        for line in kept
        if line.tooth and line.case_id not in excluded and line.code not in NO_TEETH_OF_T1
    }


def to_list(lines: Iterable[LeftOut]) -> list[dict[str, Any]]:
    """Plain dictionaries, sorted, for JSON."""
    return [asdict(line) for line in sorted(lines)]


def from_list(rows: Iterable[dict[str, Any]]) -> list[LeftOut]:
    """Read what `to_list` made."""
    return [LeftOut(**row) for row in rows]


def write_csv(path: str | Path, lines: Iterable[LeftOut]) -> None:
    """Write the list as CSV, sorted by case."""
    csv_table.write(path, [field.name for field in fields(LeftOut)], to_list(lines))
