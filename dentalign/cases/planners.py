"""Codes in place of the names of planners, and the table of names, which stays beside the case list.

A planner is the doctor or protocol that made T2. The name is personal data: fetch_json replaces it by a code,
planner-01, planner-02, ..., and no later file, message or cache contains it, or a hash of it.
"""

import shutil
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from dentalign.cases.case_list import PLANNER_CODE, ListedCase
from dentalign.errors import DentalignError, ParamError
from dentalign.files import atomic, csv_table
from dentalign.running.locks import exclusive

COLUMNS = ("code", "planner")
LAST = 9999  # code of four digits, which the HDF5 column has room for
_MOST_SHOWN = 20


def table_beside(cases: str | Path) -> Path:
    """Path of the table of names of a case list: `<stem>.planners.csv` in the same folder."""
    return Path(cases).with_suffix(".planners.csv")


def name_key(name: str) -> str:
    """Form of a name by which it is compared: `Dr  WHO` and `Dr Who` are one planner."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def with_codes(cases: Sequence[ListedCase], table: Path, *, write: bool = True) -> list[ListedCase]:
    """Replace the names of planners by codes; a planner that is such a code already stays as it is.

    Codes in the table stay. A new name gets the next code after all in use, new names in sorted order. The
    table is the user's: two names with one code are one planner.

    table  : CSV `code,planner`, continued if it exists; written only if there is a new name
    write  : if False, `table` is not written
    raises : DentalignError if `table` is damaged or cannot be written, or the codes run out
    """
    names: dict[str, str] = {}
    for name in sorted({case.planner for case in cases if case.planner}):
        if not PLANNER_CODE.fullmatch(name):
            names.setdefault(name_key(name), name)
    if not names:
        return list(cases)
    rows = _read(table) if table.exists() else []
    codes = {name_key(name): code for code, name in rows}
    used = {*codes.values(), *(case.planner for case in cases if PLANNER_CODE.fullmatch(case.planner))}
    numbers = count(1 + max((int(code.rpartition("-")[2]) for code in used), default=0))
    new = {key: f"planner-{next(numbers):02}" for key in sorted(names.keys() - codes.keys())}
    if not all(PLANNER_CODE.fullmatch(code) for code in new.values()):
        raise DentalignError(
            f"{table}: no code is left for {len(new)} new planners, planner-{LAST} is the last; give the "
            "planners fewer names, or smaller codes"
        )
    if new and write:
        _write(table, [*rows, *((code, names[key]) for key, code in new.items())])
    codes |= new
    return [replace(case, planner=codes.get(name_key(case.planner), case.planner)) for case in cases]


def code_of(text: str, table: str | Path | None = None) -> str:
    """Find the code of a planner, for `predict --planner`.

    text   : code, or name as in `table`
    table  : CSV `code,planner` that fetch_json wrote, see `table_beside`; needed for a name only
    raises : ParamError if `text` is neither a code nor a name of the table; the message has codes only.
             DentalignError if the table is damaged
    """
    text = text.strip()
    if PLANNER_CODE.fullmatch(text):
        return text
    if table is None or not Path(table).exists():
        where = "no table of names is given" if table is None else f"there is no table of names {table}"
        raise ParamError(
            f"the planner is no code such as planner-01, and {where}; name the code, or the table that "
            "fetch_json wrote beside the case list (<stem>.planners.csv)"
        )
    codes = {name_key(name): code for code, name in _read(table)}
    if name_key(text) not in codes:
        known = sorted(set(codes.values()))
        more = f" and {len(known) - _MOST_SHOWN} more" if len(known) > _MOST_SHOWN else ""
        raise ParamError(
            f"{table}: the planner is no code and no name of this table; its codes are "
            f"{', '.join(known[:_MOST_SHOWN])}{more}"
        )
    return codes[name_key(text)]


def _read(table: str | Path) -> list[tuple[str, str]]:
    """Read the rows (code, name) of a table; raises DentalignError, without a name, if it is damaged."""
    rows: dict[str, tuple[str, str]] = {}
    for line, row in csv_table.read(table, COLUMNS):
        code, name = row["code"], row["planner"]
        if not PLANNER_CODE.fullmatch(code) or not name or name_key(name) in rows:
            raise DentalignError(
                f"{table}: line {line}: give each row a code such as planner-01 and a name that no other row "
                "has; or restore the table from a backup"
            )
        rows[name_key(name)] = code, name
    return list(rows.values())


def _write(table: Path, rows: Sequence[tuple[str, str]]) -> None:
    """Write a table; a new one can be read by its owner alone."""
    with exclusive(table):
        try:
            with atomic.replacing(table) as part:
                part.touch(0o600)
                if table.exists():
                    shutil.copymode(table, part)
                part.write_text(csv_table.text(COLUMNS, rows), encoding="utf-8", newline="")
        except OSError as error:
            raise DentalignError(
                f"{table}: the table of planners' names cannot be written ({error.strerror}); make its "
                "folder writable, or copy the case list to a folder that is and name it in source.cases"
            ) from error
