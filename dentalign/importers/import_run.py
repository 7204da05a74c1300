"""Import of a data set: each case found is imported, kept from an earlier run, or listed with a reason."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np

from dentalign.cases import case_list, left_out
from dentalign.cases.left_out import LeftOut, Totals, dropped_teeth
from dentalign.errors import CaseDefect, DentalignError, NothingUsable
from dentalign.files import atomic, csv_table
from dentalign.importers import store
from dentalign.importers.base import FoundCase, ImportedCase, Importer
from dentalign.importers.beijing import Beijing
from dentalign.importers.crowns import Crowns
from dentalign.importers.scan import Scan
from dentalign.importers.source_folder import AGAIN, EXPORT_AGAIN, SourceFolder
from dentalign.importers.store import FOLDER, STEP, ImportStore, Record
from dentalign.importers.teeth3ds import Teeth3DS
from dentalign.importers.teethalign3d import TeethAlign3D
from dentalign.running import state_dir
from dentalign.running.locks import exclusive
from dentalign.running.progress import track

CASES, SHAPES, AUTOENCODER = "cases.csv", "shapes.csv", "autoencoder.csv"
LEFT_OUT, REGISTRATION, REPORT = "left_out.csv", "registration.csv", "import.txt"


@dataclass
class ImportResult:
    """Result of an import: counts, the lines of what was left out, and texts for the report.

    totals          : cases and teeth found, used and left out; each is counted on its own
    cases_new       : number of cases written by this run
    cases_unchanged : number of cases kept from an earlier run, as their files are unchanged
    cases_earlier   : number of cases in the store that are not in this source folder
    patients        : number of patients in the store
    lines           : what was left out of the cases in this source folder
    decisions       : conventions of the whole set, see `Importer.prepare`
    notes           : "name: value" of `ImportedCase.notes` -> number of cases
    """

    totals: Totals
    cases_new: int
    cases_unchanged: int
    cases_earlier: int
    patients: int
    lines: list[LeftOut] = field(default_factory=list)
    decisions: dict[str, str] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """Summary in one line."""
        text = (
            f"{self.totals.cases_listed} cases found = {self.cases_new} imported + {self.cases_unchanged} "
            f"there already + {self.totals.cases_excluded} left out; {self.totals.teeth_listed} teeth = "
            f"{self.totals.teeth_used} usable + {self.totals.teeth_dropped} not; {self.patients} patients"
        )
        return f"{text}; {self.cases_earlier} more cases from earlier" if self.cases_earlier else text


def importer(name: str, *, matrices: str = "", numbering: str = "", labels: Path | None = None) -> Importer:
    """Make the importer of a format; raises KeyError if there is no format of that name.

    matrices  : for teethalign3d only, the point that its matrices rotate about: a key of
                `matrix_reading.ORIGINS`, or "" to find it from the data
    numbering : for crowns and scan only, "fdi", "universal", or "" to find the notation from the numbers
    labels    : for scan only, a JSON file from label or colour to tooth, see `labelled_scan.read_map`
    """
    importers = (
        TeethAlign3D(matrices), Beijing(), Teeth3DS(), Crowns(numbering), Scan(numbering, labels)
    )  # fmt: skip
    return {one.name: one for one in importers}[name]


def import_cases(importer: Importer, source_folder: Path, dest: Path) -> ImportResult:
    """Import the cases of a source folder into a case store, the folder `dest`.

    Beside json/ and stl/ are written: cases.csv, left_out.csv, import.txt and, if teeth were registered,
    registration.csv. Importers with `shapes_only` write shapes.csv and autoencoder.csv in place of cases.csv,
    importers with `without_t2` write no case list. A later run skips the cases whose files have not changed.

    raises: NothingUsable if no case is found or usable; DentalignError if there is no source folder, or
            `dest` holds something else or cases that were read with other conventions
    """
    source = SourceFolder(source_folder, AGAIN if importer.downloaded else EXPORT_AGAIN)
    found = importer.find(source)
    if not found:
        raise NothingUsable(f"{source_folder}: {importer.missing}")
    opened = ImportStore(dest, importer.name, shapes_only=importer.shapes_only)
    with state_dir.kept_in(dest / FOLDER / "state"), exclusive(dest / FOLDER):
        return _import(importer, source, found, opened)


def _import(
    importer: Importer, source: SourceFolder, found: list[FoundCase], opened: ImportStore
) -> ImportResult:
    decisions = importer.prepare(source, found)
    records = opened.records()
    ids = {case.case_id for case in found}
    earlier = [record for record in records.values() if record.case_id not in ids]
    if others := [record.decisions for record in earlier if record.decisions != decisions]:
        was, now = (", ".join(f"{n}: {value}" for n, value in one.items()) for one in (others[0], decisions))
        raise DentalignError(
            f"{opened.dest}: its earlier cases were read with other conventions ({was}) than these ({now}): "
            "import both downloads together, or use another folder"
        )
    new: list[Record] = []
    unchanged: list[Record] = []
    lines: list[LeftOut] = []
    seen: set[str] = set()
    for number, case in enumerate(track(found, "import", total=len(found)), 1):
        named = ""  # an id is not quoted before it was checked
        try:
            _check_name(case, source, seen)
            named = case.case_id
            mark = store.fingerprint(f"{importer.name}{importer.options}", source, case, decisions)
            known = records.get(case.case_id)
            if known is not None and known.fingerprint == mark:
                unchanged.append(known)
            else:
                opened.remove(case.case_id)  # made of other files
                imported = _read(importer, source, case)
                new.append(_written(importer, opened, case, imported, mark, decisions))
        except CaseDefect as defect:
            whole = defect if defect.file else defect.at(source.location(case.place))
            lines.append(LeftOut.of(named or f"entry {number}", STEP, whole))
    done = new + unchanged
    excluded = len(lines)
    lines = sorted(lines + [line for record in done for line in record.lost])
    totals = Totals(
        cases_listed=len(found),
        cases_used=len(done),
        cases_excluded=excluded,
        teeth_listed=sum(record.teeth for record in done),
        teeth_used=sum(record.teeth - len(dropped_teeth(record.lost)) for record in done),
        teeth_dropped=len(dropped_teeth(line for record in done for line in record.lost)),
    )
    stored = sorted(done + earlier, key=lambda record: record.case_id)
    listed = store.by_patient(stored)
    patients = len({case.patient_id for case in listed})
    notes = Counter(f"{name}: {value}" for record in stored for name, value in record.notes.items())
    result = ImportResult(totals, len(new), len(unchanged), len(earlier), patients, lines, decisions, notes)
    if importer.shapes_only:
        # Not cases.csv, which would be taken for a list to learn alignment from.
        case_list.write(opened.dest / SHAPES, listed)
        case_list.write(opened.dest / AUTOENCODER, case_list.for_autoencoder(listed, len(listed)))
    elif not importer.without_t2:
        case_list.write(opened.dest / CASES, listed)
    left_out.write_csv(opened.dest / LEFT_OUT, lines)
    _write_registrations(opened.dest / REGISTRATION, stored)
    _write_report(opened.dest / REPORT, importer.name, stored, result)
    if not stored:
        first = "; ".join(f"{line.case_id}: {line.seen} ({line.fix}) [{line.file}]" for line in lines[:3])
        raise NothingUsable(f"{source.folder}: none of {len(found)} cases is usable; first: {first}")
    return result


def _read(importer: Importer, source: SourceFolder, case: FoundCase) -> ImportedCase:
    try:
        return importer.read(source, case)
    except (ArithmeticError, LookupError, ValueError, np.linalg.LinAlgError) as error:
        # A fault that no check foresaw costs its case, not the whole run.
        seen = f"unexpected error in the importer ({type(error).__name__})"
        raise CaseDefect(
            "not_understood",
            seen,
            "report this line to the authors of dentalign, if the case id names no person",
        ) from error


def _written(
    importer: Importer,
    opened: ImportStore,
    case: FoundCase,
    imported: ImportedCase,
    mark: str,
    decisions: dict[str, str],
) -> Record:
    """Write a case; raises CaseDefect if the pipeline would refuse it, with a fix for whose file it is."""
    try:
        return opened.write(case, imported, mark, decisions)
    except CaseDefect as defect:
        if not importer.downloaded:
            raise
        fix = "nothing: the download of this case cannot be used as it is"
        raise CaseDefect(defect.code, defect.seen, fix) from None


def _check_name(case: FoundCase, source: SourceFolder, seen: set[str]) -> None:
    """Refuse an id that is no file name, or that was seen before; raises CaseDefect."""
    file = source.location(case.place)
    try:
        case_list.check_id(case.case_id, file)
    except CaseDefect as defect:
        what = "folder" if (source.folder / case.place).is_dir() else "file"
        raise CaseDefect(defect.code, defect.seen, f"rename the {what}; {defect.fix}", file=file) from None
    if case.case_id.casefold() in seen:
        what = "another folder or scan gives the same case id"
        raise CaseDefect("duplicate_case_id", what, "remove one of them", file=file)
    seen.add(case.case_id.casefold())


def _write_registrations(path: Path, records: list[Record]) -> None:
    rows = [
        [record.case_id, tooth, method, f"{residual_mm:.4f}", "yes" if used else "no"]
        for record in records
        for tooth, method, residual_mm, used in record.registrations
    ]
    if rows:
        csv_table.write(path, ["case_id", "tooth", "method", "residual_mm", "used"], rows)


def _write_report(path: Path, data_set: str, records: list[Record], result: ImportResult) -> None:
    figures: dict[str, list[float]] = defaultdict(list)
    for record in records:
        for name, value in record.figures.items():
            figures[name].append(value)
    reasons = Counter(line.code for line in result.lines)
    report = [
        f"{data_set}: {result}",
        "",
        *(f"{name}: {value}" for name, value in sorted(result.decisions.items())),
        *(f"{text} ({count} cases)" for text, count in sorted(result.notes.items())),
        *(f"{name}: mean {fmean(values):.3f}" for name, values in sorted(figures.items())),
        "",
        *(f"left out, {code}: {count}" for code, count in sorted(reasons.items())),
    ]
    atomic.write_text(path, "\n".join(report).rstrip() + "\n")
