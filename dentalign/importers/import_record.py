"""What is kept about each imported case beside it, so that a later run can go on and list everything."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dentalign.cases.case_list import ListedCase
from dentalign.cases.left_out import LeftOut, from_list, to_list
from dentalign.files import atomic
from dentalign.importers.imported_case import Found, Registration
from dentalign.importers.source_folder import SourceFolder

FOLDER = ".import"  # of the destination
FORMAT = 1  # of the record, and of what the importers decide: a new one imports everything again


@dataclass(frozen=True)
class Record:
    """An imported case.

    patient_id, marks : whose it is by its folder; what it shares only with cases of the same patient
    fingerprint       : changes with the files it was made of and with the decisions for the set
    teeth             : in the case; lost: lines of the teeth that are not, or that the pipeline will drop
    """

    case_id: str
    patient_id: str
    marks: tuple[str, ...]
    fingerprint: str
    decisions: Mapping[str, str]
    teeth: int
    lost: tuple[LeftOut, ...]
    registrations: tuple[Registration, ...]
    notes: Mapping[str, str]
    figures: Mapping[str, float]

    def save(self, dest: Path) -> None:
        """Write it, all or nothing."""
        values = asdict(self) | {"lost": to_list(self.lost)}
        atomic.write_text(_path(dest, self.case_id), json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def load_all(dest: Path) -> dict[str, Record]:
    """The records of the cases that are whole at their place, by case id; a damaged one is as none."""
    records = {}
    for file in sorted((dest / FOLDER).glob("*.json")):
        try:
            values = json.loads(file.read_bytes())
            record = Record(
                **values
                | {
                    "marks": tuple(values["marks"]),
                    "lost": tuple(from_list(values["lost"])),
                    "registrations": tuple(Registration(**one) for one in values["registrations"]),
                }
            )
        except (OSError, ValueError, TypeError, KeyError):
            continue
        if record.case_id == file.stem and (dest / "json" / file.name).is_file():
            records[record.case_id] = record
    return records


def forget(dest: Path, case_id: str) -> None:
    """Remove the record, so that the case is imported again."""
    _path(dest, case_id).unlink(missing_ok=True)


def fingerprint(name: str, source: SourceFolder, found: Found, decisions: Mapping[str, str]) -> str:
    """SHA-256 of what a case is made of: format, decisions, and name, size and time of its files."""
    parts = [FORMAT, name, found.patient_id, sorted(decisions.items())]
    parts += [[file, source.stamp(file)] for file in found.files]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def by_patient(records: Iterable[Record]) -> list[ListedCase]:
    """The case list: cases that share a patient id or a mark, over others too, are of one patient.

    A patient is called by the first of the ids that belong together.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    cases = list(records)
    for case in cases:
        for mark in case.marks:
            parent[root(f"mark {mark}")] = root(f"patient {case.patient_id}")
    names: dict[str, str] = {}
    for case in sorted(cases, key=lambda case: case.patient_id):
        names.setdefault(root(f"patient {case.patient_id}"), case.patient_id)
    return [ListedCase(case.case_id, names[root(f"patient {case.patient_id}")]) for case in cases]


def _path(dest: Path, case_id: str) -> Path:
    return dest / FOLDER / f"{case_id}.json"
