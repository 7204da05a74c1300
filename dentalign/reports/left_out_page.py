"""HTML page with the list of what was left out: one file, no network, the same bytes each time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dentalign.cases.left_out import NO_TEETH_OF_T1, LeftOut, Totals
from dentalign.files import atomic
from dentalign.reports import page


@dataclass(frozen=True)
class Reason:
    """Reason code, and how often it occurs in the list.

    cases : number of cases that are excluded for this reason
    teeth : number of teeth that are dropped for this reason
    noted : number of entries that are no teeth of T1
    fix   : fix of the first line with this code; other lines may name other files
    """

    code: str
    cases: int
    teeth: int
    noted: int
    fix: str


def by_reason(lines: Sequence[LeftOut]) -> list[Reason]:
    """Count the lines of a list by reason code, the most frequent first."""
    reasons = []
    for code in {line.code for line in lines}:
        same = sorted(line for line in lines if line.code == code)
        noted = len(same) if code in NO_TEETH_OF_T1 else 0
        cases = len({line.case_id for line in same if line.whole_case})
        teeth = sum(not line.whole_case for line in same) - noted
        reasons.append(Reason(code, cases, teeth, noted, same[0].fix))
    return sorted(reasons, key=lambda reason: (-reason.cases - reason.teeth, -reason.noted, reason.code))


def write(path: str | Path, lines: Sequence[LeftOut], totals: Totals) -> None:
    """Write the page, all or nothing; all text from the data is escaped."""
    scripts = ("tables.js", "filter.js") if lines else ()
    values = {"lines": sorted(lines), "reasons": by_reason(lines), "totals": totals}
    atomic.write_bytes(path, page.render("left_out.html", scripts, **values))
