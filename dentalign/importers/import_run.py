"""A data set into a case store: every case found is imported, there already, or listed with the reason."""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np

from dentalign.cases import case_list, left_out
from dentalign.cases.left_out import LeftOut, Totals
from dentalign.errors import CaseDefect, DentalignError, NothingUsable
from dentalign.files import atomic
from dentalign.importers import case_writer, import_record
from dentalign.importers.import_record import FOLDER, Record
from dentalign.importers.imported_case import Found, Importer
from dentalign.importers.source_folder import SourceFolder
from dentalign.running import state_dir
from dentalign.running.locks import exclusive
from dentalign.running.progress import track

STAGE = "import"
CASES, SHAPES, AUTOENCODER = "cases.csv", "shapes.csv", "autoencoder.csv"
LEFT_OUT, REGISTRATION, REPORT = "left_out.csv", "registration.csv", "import.txt"


@dataclass
class Imported:
    """How an import went; each number is counted on its own.

    cases_new, cases_unchanged : written by this run; there already, of the same files
    patients      : of the cases in the store
    cases_earlier : in the store from other downloads, not found in this one
    lines         : what was left out
    """

    totals: Totals
    cases_new: int = 0
    cases_unchanged: int = 0
    cases_earlier: int = 0
    patients: int = 0
    lines: list[LeftOut] = field(default_factory=list)
    decisions: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line for people."""
        text = (
            f"{self.totals.cases_listed} cases found = {self.cases_new} imported + {self.cases_unchanged} "
            f"there already + {self.totals.cases_excluded} left out; {self.totals.teeth_listed} teeth = "
            f"{self.totals.teeth_used} usable + {self.totals.teeth_dropped} not; {self.patients} patients"
        )
        return f"{text}; {self.cases_earlier} more cases from earlier" if self.cases_earlier else text


def import_cases(importer: Importer, source_folder: Path, dest: Path) -> Imported:
    """Import a data set; writes cases.csv, left_out.csv, import.txt, and registration.csv where it has some.

    Of shapes only, shapes.csv and autoencoder.csv are written in place of cases.csv.

    Run again it goes on: a case that is there, of the same files, is not read again.

    raises: NothingUsable where no case is found or none can be used; DentalignError where `dest` is
            something else, or the source cannot be read at all
    """
    source = SourceFolder(source_folder)
    found = importer.find(source)
    if not found:
        raise NothingUsable(f"{source_folder}: {importer.missing}")
    _claim(dest, importer.name)
    with state_dir.kept_in(dest / FOLDER / "state"), exclusive(dest / FOLDER):
        case_writer.remove_parts(dest)
        return _import(importer, source, found, dest)


def _import(importer: Importer, source: SourceFolder, found: list[Found], dest: Path) -> Imported:
    decisions = importer.prepare(source, found)
    records = import_record.load_all(dest)
    ids = {case.case_id for case in found}
    earlier = [record for record in records.values() if record.case_id not in ids]
    if any(record.decisions != decisions for record in earlier):
        raise DentalignError(
            f"{dest}: holds cases of another download, for which it was decided otherwise "
            f"({dict(earlier[0].decisions)}, now {decisions}): import both together, or into another folder"
        )
    done: list[Record] = []
    lines: list[LeftOut] = []
    counts: Counter[str] = Counter()
    seen: set[str] = set()
    for number, case in enumerate(track(found, "import", total=len(found)), 1):
        try:
            _check_name(case, source, seen)
        except CaseDefect as defect:
            lines.append(LeftOut.of(f"entry {number}", STAGE, defect))
            counts["left out"] += 1
            continue
        mark = import_record.fingerprint(importer.name, source, case, decisions)
        record = records.get(case.case_id)
        if record is not None and record.fingerprint == mark:
            counts["unchanged"] += 1
            done.append(record)
            continue
        try:
            done.append(_import_one(importer, source, case, dest, mark, decisions))
            counts["new"] += 1
        except CaseDefect as defect:
            import_record.forget(dest, case.case_id)
            case_writer.remove(dest, case.case_id)  # an earlier version is of other files
            line = LeftOut.of(case.case_id, STAGE, defect)
            named = defect if defect.file else defect.at(source.location(case.place))
            lines.append(LeftOut.of(line.case_id, STAGE, named))
            counts["left out"] += 1
    lines += [line for record in done for line in record.lost]
    totals = Totals(
        cases_listed=len(found),
        cases_used=counts["new"] + counts["unchanged"],
        cases_excluded=counts["left out"],
        teeth_listed=sum(record.teeth for record in done),
        teeth_used=sum(record.teeth - len({line.tooth for line in record.lost}) for record in done),
        teeth_dropped=len({(line.case_id, line.tooth) for line in lines if line.tooth}),
    )
    imported = Imported(
        totals,
        cases_new=counts["new"],
        cases_unchanged=counts["unchanged"],
        cases_earlier=len(earlier),
        lines=sorted(lines),
        decisions=decisions,
    )
    _write_lists(importer, dest, done + earlier, imported)
    if not done and not earlier:
        first = "; ".join(
            f"{line.case_id}: {line.seen} ({line.mend}) [{line.file}]" for line in sorted(lines)[:3]
        )
        raise NothingUsable(f"{source.folder}: none of {len(found)} cases is usable; first: {first}")
    return imported


def _import_one(
    importer: Importer, source: SourceFolder, case: Found, dest: Path, mark: str, decisions: dict[str, str]
) -> Record:
    import_record.forget(dest, case.case_id)
    try:
        made = importer.read(source, case)
        marks = importer.same_patient(source, case)
    except (ArithmeticError, LookupError, ValueError, np.linalg.LinAlgError) as error:
        # Nobody has seen every file there is: one that no check foresaw costs its case, not the night's work.
        seen = f"the importer does not understand it ({type(error).__name__})"
        raise CaseDefect("not_understood", seen, "report it, with the name of the case") from error
    lost = [LeftOut.of(case.case_id, STAGE, defect) for defect in made.lost]
    lost += case_writer.write_case(dest, case.case_id, made)
    record = Record(
        case_id=case.case_id,
        patient_id=case.patient_id,
        marks=marks,
        fingerprint=mark,
        decisions=decisions,
        teeth=len(made.t1) + len(made.lost),
        lost=tuple(lost),
        registrations=made.registrations,
        notes=dict(made.notes),
        figures={name: round(value, 4) for name, value in made.figures.items()},
    )
    record.save(dest)
    return record


def _check_name(case: Found, source: SourceFolder, seen: set[str]) -> None:
    file = source.location(case.place)
    try:
        case_list.check_id(case.case_id, file)
    except CaseDefect as defect:
        raise CaseDefect(defect.code, defect.seen, f"rename the folder; {defect.mend}", file=file) from None
    if case.case_id.casefold() in seen:
        raise CaseDefect(
            "duplicate_case_id", "another folder or scan of the download gives the same case id",
            "leave one of them away", file=file,
        )  # fmt: skip
    seen.add(case.case_id.casefold())


def _claim(dest: Path, name: str) -> None:
    """Refuse a folder that is something else; mark an empty one."""
    mark = dest / FOLDER / "format"
    if mark.is_file():
        other = mark.read_text(encoding="utf-8").strip()
        if other != name:
            raise DentalignError(f"{dest}: holds an import of {other}; name another folder for {name}")
        return
    if dest.exists() and (not dest.is_dir() or any(child.name != FOLDER for child in dest.iterdir())):
        raise DentalignError(f"{dest}: exists and is no import; name a new or empty folder")
    atomic.write_text(mark, f"{name}\n")


def _write_lists(importer: Importer, dest: Path, records: list[Record], imported: Imported) -> None:
    listed = import_record.by_patient(records)
    imported.patients = len({case.patient_id for case in listed})
    if importer.shapes_only:
        # Not cases.csv, which would be taken for a list to learn alignment from.
        case_list.write(dest / SHAPES, listed)
        case_list.write(dest / AUTOENCODER, case_list.for_autoencoder(listed, len(listed)))
    else:
        case_list.write(dest / CASES, listed)
    left_out.write_csv(dest / LEFT_OUT, imported.lines)
    rows = [
        [record.case_id, one.fdi, one.method, f"{one.residual_mm:.4f}", "yes" if one.kept else "no"]
        for record in sorted(records, key=lambda record: record.case_id)
        for one in record.registrations
    ]
    if rows:
        _write_table(dest / REGISTRATION, ["case_id", "tooth", "method", "residual_mm", "used"], rows)
    notes = Counter(f"{name}: {value}" for record in records for name, value in record.notes.items())
    figures: dict[str, list[float]] = defaultdict(list)
    for record in records:
        for name, value in record.figures.items():
            figures[name].append(value)
    report = [f"{importer.name}: {imported}", ""]
    report += [f"{name}: {value}" for name, value in sorted(imported.decisions.items())]
    report += [f"{text} ({count} cases)" for text, count in sorted(notes.items())]
    report += [f"{name}: mean {fmean(values):.3f}" for name, values in sorted(figures.items())]
    reasons = Counter(line.code for line in imported.lines)
    report += ["", *(f"left out, {code}: {count}" for code, count in sorted(reasons.items()))]
    atomic.write_text(dest / REPORT, "\n".join(report).rstrip() + "\n")


def _write_table(path: Path, heading: list[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heading)
    writer.writerows(rows)
    atomic.write_text(path, text.getvalue())
