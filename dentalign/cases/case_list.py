"""Case list: ids of cases and their patients, from which the split and shard of each case follow."""

import hashlib
import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from dentalign.cases.left_out import LeftOut
from dentalign.errors import CaseDefect, DentalignError
from dentalign.files import csv_table

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
MAX_ID_LENGTH = 120
MAX_PLANNER_LENGTH = 120

PLANNER_CODE = re.compile(r"planner-(0[1-9]|[1-9][0-9]{1,3})")

_NOT_GIVEN = {"n/a", "na", "nan", "none", "null"}  # in upper or lower case
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_ID_RULE = f"use up to {MAX_ID_LENGTH} of the characters A-Z a-z 0-9 . _ -, with no '.' at either end"


@dataclass(frozen=True, order=True)
class ListedCase:
    """Row of a case list; all cases with one `patient_id` are in the same split.

    planner : who planned T2, "" if unknown: as in the list (personal data), or a code after
              `planners.with_codes`
    """

    case_id: str
    patient_id: str
    planner: str = field(default="", repr=False)

    @property
    def split(self) -> Split:
        """Split of the patient, see `split_of`."""
        return split_of(self.patient_id)


def check_id(case_id: str, file: str = "") -> None:
    """Raise CaseDefect if an id is not a valid file name on every system; the error does not quote the id."""
    if not _ID.fullmatch(case_id) or len(case_id) > MAX_ID_LENGTH or case_id.endswith("."):
        raise CaseDefect("bad_case_id", "an id with other characters, or too long", _ID_RULE, file=file)
    if _WINDOWS_DEVICE.fullmatch(case_id):
        raise CaseDefect("bad_case_id", "an id that names a Windows device", "choose another id", file=file)


def _check_planner(planner: str, file: str) -> None:
    """Raise CaseDefect, which does not quote it, if a planner is too long or has control characters."""
    if len(planner) > MAX_PLANNER_LENGTH or any(unicodedata.category(one) == "Cc" for one in planner):
        seen = f"a planner of {len(planner)} characters"
        if len(planner) <= MAX_PLANNER_LENGTH:
            seen = "a planner with control characters"
        fix = f"use up to {MAX_PLANNER_LENGTH} printable characters, or leave the cell empty"
        raise CaseDefect("bad_planner", seen, fix, file=file)


def split_of(patient_id: str) -> Split:
    """Split of a patient, 80/10/10 by a hash of the id, so that it does not depend on the other patients."""
    # The high bits, as shard_of uses the low ones: split and shard stay independent.
    share = int.from_bytes(_digest(patient_id)[:8]) / 2**64
    return "train" if share < 0.8 else "val" if share < 0.9 else "test"


def shard_of(case_id: str, shards: Sequence[str]) -> str:
    """Shard of a case, one of `shards`, by a hash of its id."""
    return shards[int.from_bytes(_digest(case_id)) % len(shards)]


def read(path: str | Path, stage: str = "case_list") -> tuple[list[ListedCase], list[LeftOut]]:
    """Read a case list: CSV with the column `case_id` and optionally `patient_id` and `planner`.

    An unusable row becomes a LeftOut line with "line N" as its case id. Of rows whose case ids are equal, or
    differ only in upper and lower case, one is used: the first with a patient id, else the first. If such
    rows have different patient ids, none is used, because the split would be a guess; if they have different
    planners, the planner counts as unknown. Other columns are ignored.

    stage   : pipeline stage or command, for the LeftOut lines
    returns : the usable cases, sorted by id, and the LeftOut lines
    raises  : DentalignError if the file cannot be read or has no column `case_id`
    """
    left_out: list[LeftOut] = []
    placeholders: list[int] = []
    same: dict[str, list[tuple[int, ListedCase]]] = defaultdict(list)
    for line, row in csv_table.read(path, ["case_id"]):
        case_id = row["case_id"]
        patient_id = unicodedata.normalize("NFC", row.get("patient_id", ""))
        if patient_id.casefold() in _NOT_GIVEN:
            placeholders.append(line)
            patient_id = ""
        patient_id = patient_id or case_id
        planner = " ".join(unicodedata.normalize("NFC", row.get("planner", "")).split())
        planner = "" if planner.casefold() in _NOT_GIVEN else planner
        try:
            check_id(case_id, f"{path}:{line}")
            _check_planner(planner, f"{path}:{line}")
        except CaseDefect as defect:
            left_out.append(LeftOut.of(f"line {line}", stage, defect))
        else:
            same[case_id.casefold()].append((line, ListedCase(case_id, patient_id, planner)))

    if placeholders:
        print(
            f"{path}: patient_id is a placeholder such as N/A in {len(placeholders)} rows (first: line "
            f"{placeholders[0]}); each of these cases counts as a patient of its own",
            file=sys.stderr,
        )
    good: list[ListedCase] = []
    for rows in same.values():
        if len({case.patient_id for _, case in rows if case.patient_id != case.case_id}) > 1:
            code, fix, refused = "two_patients", "give these rows one patient_id", rows
        else:
            code, fix, refused = "duplicate_case_id", "remove the row, or give it an id of its own", rows[1:]
            named = [case for _, case in rows if case.patient_id != case.case_id]
            # A patient, or a planner, named once holds for every row.
            planners = {case.planner for _, case in rows if case.planner}
            planner = planners.pop() if len(planners) == 1 else ""
            good.append(replace(named[0] if named else rows[0][1], planner=planner))
        for line, _ in refused:
            seen = f"the case id occurs in lines {', '.join(str(n) for n, _ in rows)}"
            left_out.append(
                LeftOut.of(f"line {line}", stage, CaseDefect(code, seen, fix, file=f"{path}:{line}"))
            )
    return sorted(good), sorted(left_out)


def find(store: str | Path, stage: str = "list") -> tuple[list[ListedCase], list[LeftOut]]:
    """List the cases of a case store by the names of the files in its folder `json`.

    stage   : pipeline stage or command, for the LeftOut lines
    returns : the cases, sorted by id, with the case id as patient id; LeftOut lines of unusable files
    raises  : DentalignError if there is no such folder
    """
    folder = Path(store) / "json"
    if not folder.is_dir():
        raise DentalignError(f"{folder}: no such folder; a case store has json/<case_id>.json")
    left_out: list[LeftOut] = []
    ids: dict[str, str] = {}
    # Of 1.json and 1.JSON the first is the one that a source opens.
    files = sorted(folder.iterdir(), key=lambda file: (file.stem, file.suffix.swapcase()))
    for number, file in enumerate(files, 1):
        try:
            if file.suffix.lower() != ".json" or not file.is_file():
                raise CaseDefect("not_a_case", "not named <case_id>.json", "move it out of json/")
            check_id(file.stem)
            if file.stem.casefold() in ids:
                seen = "the case id differs from another one only in upper and lower case"
                raise CaseDefect("duplicate_case_id", seen, "rename the file")
            ids[file.stem.casefold()] = file.stem
        except CaseDefect as defect:
            defect.file = str(file)
            left_out.append(LeftOut.of(f"entry {number}", stage, defect))
    return [ListedCase(case_id, case_id) for case_id in sorted(ids.values())], left_out


def write(path: str | Path, cases: Iterable[ListedCase]) -> None:
    """Write a case list for `read`; without the column `patient_id` if every patient id is the case id.

    The planner is left out: it is personal data.
    """
    rows = [[case.case_id, case.patient_id] for case in sorted(cases)]
    columns = 1 if all(case_id == patient_id for case_id, patient_id in rows) else 2
    csv_table.write(path, ["case_id", "patient_id"][:columns], (row[:columns] for row in rows))


def for_autoencoder(cases: Iterable[ListedCase], count: int) -> list[ListedCase]:
    """Select `count` cases of the train split by a hash of the case id, or all if there are fewer."""
    train = [case for case in cases if case.split == "train"]
    return sorted(sorted(train, key=lambda case: _digest(case.case_id))[:count])


def write_splits(
    path: str | Path, splits: Mapping[str, str], planners: Mapping[str, str] | None = None
) -> None:
    """Write case id -> split as the CSV `case_id,split`, sorted by id.

    planners : case id -> code of the planner; if there are any, the CSV has a column `planner`, too
    """
    rows = [[case_id, split, (planners or {}).get(case_id, "")] for case_id, split in sorted(splits.items())]
    columns = 3 if planners else 2
    csv_table.write(path, ["case_id", "split", "planner"][:columns], (row[:columns] for row in rows))


def read_splits(path: str | Path) -> dict[str, Split]:
    """Read the CSV `case_id,split` as case id -> split.

    raises: DentalignError if the file is not such a table; CaseDefect for an invalid case id
    """
    splits: dict[str, Split] = {}
    for line, row in csv_table.read(path, ["case_id"]):
        known = [split for split in SPLITS if split == row.get("split")]
        if not known or row["case_id"] in splits:
            raise DentalignError(
                f"{path}: line {line}: list each case once, with a split of {', '.join(SPLITS)}"
            )
        check_id(row["case_id"], f"{path}:{line}")
        splits[row["case_id"]] = known[0]
    return splits


def read_planners(path: str | Path) -> dict[str, str]:
    """Read case id -> code of the planner from a CSV of `write_splits`, of the cases with a known planner.

    raises: DentalignError if the file is not such a table, or a planner is no code
    """
    planners = {row["case_id"]: row.get("planner", "") for _, row in csv_table.read(path, ["case_id"])}
    if not all(PLANNER_CODE.fullmatch(code) for code in planners.values() if code):
        raise DentalignError(f"{path}: a planner is no code such as planner-01: run fetch_json again")
    return {case_id: code for case_id, code in planners.items() if code}


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()
