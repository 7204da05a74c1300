"""Record of what was left out, and why: nothing is dropped silently."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dentalign.errors import CaseDefect, Defect
from dentalign.files import csv_table


@dataclass(frozen=True, order=True)
class LeftOut:
    """Line of the list of what was left out: a whole case, or one tooth of a case.

    case_id : "line N" for a row of the case list without a valid id
    tooth   : FDI number as text; "" for a whole case
    stage   : pipeline stage or command that found the defect
    code    : short reason code
    seen    : what was found
    fix     : what to do about it
    file    : path or URL, as the user knows it
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
        """Make the line for a defect found by a pipeline stage; a CaseDefect means the whole case."""
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
    r"""Make a file name encodable in UTF-8: a byte that is not text, such as FF, becomes `\udcff`."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


# Reason codes of lines that leave out no tooth at T1 and are in no count of teeth.
NO_TEETH_OF_T1 = frozenset(
    {"t2_only", "unknown_tooth_key", "no_tooth", "not_a_crown", "bad_point", "point_off_crown"}
)


@dataclass(frozen=True)
class Totals:
    """Numbers of cases and teeth that were listed, used and left out, each counted on its own.

    cases_listed   : rows of the case list, unusable rows included
    cases_used     : cases in the data set
    cases_excluded : cases and unusable rows that are not in the data set
    teeth_listed   : teeth at T1 in the documents of the cases used
    teeth_used     : teeth of `teeth_listed` that are in the data set
    teeth_dropped  : teeth of `teeth_listed` that are not
    """

    cases_listed: int
    cases_used: int
    cases_excluded: int
    teeth_listed: int
    teeth_used: int
    teeth_dropped: int

    @property
    def add_up(self) -> bool:
        """True if listed is used plus left out, for cases and for teeth: nothing was lost without a line."""
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
    """Ids of the cases that are excluded as a whole, and "line N" of unusable rows."""
    return {line.case_id for line in lines if line.whole_case}


def dropped_teeth(lines: Iterable[LeftOut]) -> set[tuple[str, str]]:
    """Teeth at T1 that are dropped from cases that are used, as (case id, tooth)."""
    kept = list(lines)
    excluded = excluded_cases(kept)
    return {
        (line.case_id, line.tooth)
        for line in kept
        if line.tooth and line.case_id not in excluded and line.code not in NO_TEETH_OF_T1
    }


def to_list(lines: Iterable[LeftOut]) -> list[dict[str, Any]]:
    """Lines as plain dictionaries for JSON, sorted."""
    return [asdict(line) for line in sorted(lines)]


def from_list(rows: Iterable[dict[str, Any]]) -> list[LeftOut]:
    """Lines from the dictionaries that `to_list` made."""
    return [LeftOut(**row) for row in rows]


def write_csv(path: str | Path, lines: Iterable[LeftOut]) -> None:
    """Write the lines as CSV, sorted by case."""
    csv_table.write(path, [field.name for field in fields(LeftOut)], to_list(lines))
