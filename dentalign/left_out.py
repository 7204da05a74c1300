"""The record of what was left out, and why: nothing is dropped silently."""

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dentalign import atomic
from dentalign.errors import CaseDefect, Defect


@dataclass(frozen=True, order=True)
class LeftOut:
    """One line of the list: a case (tooth is "") or one tooth of a case.

    stage : the pipeline stage that noticed
    code  : short reason code
    seen  : what was found
    mend  : what to do about it
    file  : where, as the user knows it
    """

    case_id: str
    tooth: str
    stage: str
    code: str
    seen: str
    mend: str
    file: str

    @classmethod
    def of(cls, case_id: str, stage: str, defect: Defect) -> "LeftOut":
        """The line for a defect met in a stage; a CaseDefect concerns the whole case."""
        whole = isinstance(defect, CaseDefect) or defect.tooth is None
        tooth = "" if whole else str(defect.tooth)
        return cls(case_id, tooth, stage, defect.code, defect.seen, defect.mend, defect.file)

    @classmethod
    def of_tooth(cls, case_id: str, fdi: int, stage: str, defect: Defect) -> "LeftOut":
        """The line for a tooth, whatever the defect: a mesh that cannot be had costs its tooth only."""
        return cls(case_id, str(fdi), stage, defect.code, defect.seen, defect.mend, defect.file)

    @property
    def whole_case(self) -> bool:
        """Whether the case as a whole is excluded."""
        return not self.tooth


def to_list(lines: Iterable[LeftOut]) -> list[dict[str, Any]]:
    """Plain dictionaries, sorted, for JSON."""
    return [asdict(line) for line in sorted(lines)]


def from_list(rows: Iterable[dict[str, Any]]) -> list[LeftOut]:
    """The inverse of `to_list`."""
    return [LeftOut(**row) for row in rows]


def write_csv(path: str | Path, lines: Iterable[LeftOut]) -> None:
    """Write the list as people and spreadsheets read it, sorted by case."""
    text = io.StringIO()
    table = csv.DictWriter(text, [field.name for field in fields(LeftOut)], lineterminator="\n")
    table.writeheader()
    table.writerows(to_list(lines))
    atomic.write_text(path, text.getvalue())
