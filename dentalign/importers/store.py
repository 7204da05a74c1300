"""Case store that an import fills: each case is complete or absent, and has a record for later runs."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from dentalign.cases import case_document
from dentalign.cases.case_list import ListedCase
from dentalign.cases.crowns import Sampler, read_crowns
from dentalign.cases.findings import Findings
from dentalign.cases.left_out import NO_TEETH_OF_T1, LeftOut
from dentalign.cases.reading import read_poses
from dentalign.cases.settings import Limits, Sample
from dentalign.errors import DentalignError
from dentalign.files import atomic, hashing
from dentalign.geometry import stl
from dentalign.importers.base import FoundCase, ImportedCase
from dentalign.importers.crown_shapes import Shape, same_mouths
from dentalign.importers.source_folder import SourceFolder

STEP = "import"
FOLDER = ".import"  # of the destination
FORMAT = 3  # version of the records and of the importers' rules; a new one imports every case again
HEADER = b"dentalign import, tooth-local, mm"
_FEW_POINTS = Sample(points=8, oversampling=2)  # enough to see if a crown can be sampled


class Record(BaseModel, frozen=True):
    """Record of an imported case.

    patient_id  : id made from the names of folders or files, see `FoundCase`
    fingerprint : hash of what the case was made from, see `fingerprint`
    decisions   : conventions of the whole set, see `Importer.prepare`
    teeth       : number of teeth, the lost ones included
    lost        : lines of the teeth that are not in the case, or that the pipeline will drop
    patient_marks, crown_shapes, registrations, notes, figures : see `ImportedCase`
    """

    case_id: str
    patient_id: str
    patient_marks: tuple[str, ...] = ()
    crown_shapes: dict[int, Shape] = {}
    fingerprint: str = ""
    decisions: dict[str, str] = {}
    teeth: int = 0
    lost: tuple[LeftOut, ...] = ()
    registrations: tuple[tuple[int, str, float, bool], ...] = ()
    notes: dict[str, str] = {}
    figures: dict[str, float] = {}


class ImportStore:
    """Case store that an import fills: a folder with json/, stl/ and a record of each case."""

    def __init__(self, dest: Path, name: str, *, shapes_only: bool = False):
        """Open the store, or make it.

        name        : name of the importer
        shapes_only : see `Importer`
        raises      : DentalignError if `dest` holds something else
        """
        self.dest, self.name = dest, name
        self.limits = Limits(min_movement_mm=0.0) if shapes_only else Limits()
        mark = dest / FOLDER / "format"
        if mark.is_file():
            other = mark.read_text(encoding="utf-8").strip()
            if other != name:
                raise DentalignError(f"{dest}: holds an import of {other}; name another folder for {name}")
            return
        if dest.exists() and (not dest.is_dir() or any(child.name != FOLDER for child in dest.iterdir())):
            raise DentalignError(f"{dest}: exists and is not an import; name a new or empty folder")
        atomic.write_text(mark, f"{name}\n")

    def records(self) -> dict[str, Record]:
        """Load the records of complete cases, by case id; damaged records are skipped."""
        records = {}
        for file in sorted((self.dest / FOLDER).glob("*.json")):
            try:
                record = Record.model_validate_json(file.read_bytes())
            except (OSError, ValidationError):
                continue
            if record.case_id == file.stem and self._json(file.stem).is_file():
                records[record.case_id] = record
        return records

    def remove(self, case_id: str) -> None:
        """Remove a case: its record and JSON first, as a case without them counts as absent."""
        self._record(case_id).unlink(missing_ok=True)
        self._json(case_id).unlink(missing_ok=True)
        shutil.rmtree(self.dest / "stl" / case_id, ignore_errors=True)

    def write(
        self, found: FoundCase, case: ImportedCase, fingerprint: str, decisions: dict[str, str]
    ) -> Record:
        """Write a case and its record; an earlier version is removed even if this one cannot be written.

        fingerprint, decisions : for the record
        raises                 : CaseDefect if the pipeline would exclude the case
        """
        self.remove(found.case_id)
        document = case.document(found.case_id)
        record = Record(
            case_id=found.case_id,
            patient_id=found.patient_id,
            patient_marks=case.patient_marks,
            crown_shapes=dict(case.crown_shapes),
            fingerprint=fingerprint,
            decisions=decisions,
            teeth=len(case.t1) + sum(defect.code not in NO_TEETH_OF_T1 for defect in case.lost),
            lost=_lines(found.case_id, document, case, self.limits),
            registrations=case.registrations,
            notes=dict(case.notes),
            figures={name: round(value, 4) for name, value in case.figures.items()},
        )
        meshes = self.dest / "stl" / found.case_id
        atomic.remove_parts(meshes)  # of a run that was killed
        with atomic.replacing(meshes) as part:
            part.mkdir()
            for fdi, crown in case.crowns.items():
                (part / f"{fdi}.stl").write_bytes(stl.as_binary(crown.vertices, crown.faces, HEADER))
        text = json.dumps(case_document.as_exported(document), separators=(",", ":"), allow_nan=False)
        atomic.write_text(self._json(found.case_id), text)
        atomic.write_text(self._record(found.case_id), record.model_dump_json(indent=1) + "\n")
        return record

    def _json(self, case_id: str) -> Path:
        return self.dest / "json" / f"{case_id}.json"

    def _record(self, case_id: str) -> Path:
        return self.dest / FOLDER / f"{case_id}.json"


def fingerprint(name: str, source: SourceFolder, found: FoundCase, decisions: Mapping[str, str]) -> str:
    """Hash of what a case is made from: importer and options (`name`), decisions, and stamps of its files."""
    files = [[file, source.stamp(file)] for file in found.files]
    return hashing.sha256_json([FORMAT, name, found.patient_id, dict(decisions), files])


def by_patient(records: Iterable[Record]) -> list[ListedCase]:
    """Make the case list: cases that share a patient id, a mark or their crown shapes belong to one patient.

    So do cases that are linked through a third one. The patient gets the first of their patient ids, sorted.
    """
    listed = list(records)
    marks = [
        {f"patient {case.patient_id}", *(f"mark {mark}" for mark in case.patient_marks)} for case in listed
    ]
    for number, pair in enumerate(same_mouths([case.crown_shapes for case in listed])):
        for case in pair:
            marks[case].add(f"crowns of pair {number}")
    groups: list[tuple[set[str], list[Record]]] = []  # patient ids and marks, and their cases
    for keys, case in zip(marks, listed, strict=True):
        cases = [case]
        for group in [group for group in groups if group[0] & keys]:
            groups.remove(group)
            keys, cases = keys | group[0], cases + group[1]
        groups.append((keys, cases))
    named = [(min(case.patient_id for case in cases), cases) for _, cases in groups]
    return [ListedCase(case.case_id, name) for name, cases in named for case in cases]


def _lines(
    case_id: str, document: case_document.CaseDocument, case: ImportedCase, limits: Limits
) -> tuple[LeftOut, ...]:
    """Lines of teeth that the importer lost or the pipeline will drop; raises CaseDefect if it refuses."""
    findings = Findings(case_id, STEP)
    sampler = Sampler("+y", _FEW_POINTS, limits)
    crowns = case.crowns
    plan = document.t2_stage is not None
    mouth = read_poses(document, "", "+y", limits, findings, plan=plan)
    read_crowns(
        mouth, lambda slot: (crowns[int(mouth.fdi[slot])].triangles, ""), sampler, findings, plan=plan
    )
    findings.add(*case.lost)
    return tuple(findings.lines)
