"""Predict one case or a folder of cases; a case that fails is listed, and the next one is predicted."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dentalign.cases import left_out
from dentalign.cases.left_out import LeftOut
from dentalign.errors import CaseDefect, DentalignError, NothingUsable, ParamError
from dentalign.files import atomic, csv_table
from dentalign.planning.prescription import Prescription
from dentalign.prediction import files as prediction_files
from dentalign.prediction import new_case, review
from dentalign.prediction.files import OutputOptions
from dentalign.prediction.new_case import STAGE
from dentalign.prediction.predictor import Predictor
from dentalign.prediction.review import ReviewItem
from dentalign.running import command
from dentalign.running.progress import track


@dataclass(frozen=True)
class BatchResult:
    """Result of `predict_cases`.

    files      : files of each predicted case, as `files.write` returns them
    left_out   : lines of the cases that were refused and of the teeth that were not predicted
    to_look_at : review items of the predicted cases
    """

    files: tuple[tuple[Path, ...], ...]
    left_out: tuple[LeftOut, ...]
    to_look_at: tuple[ReviewItem, ...]

    @property
    def refused(self) -> int:
        """Number of cases that could not be predicted."""
        return sum(line.whole_case for line in self.left_out)


def predict_cases(
    cases: str | Path,
    meshes: str | Path,
    out: str | Path,
    predictor: Predictor,
    wanted: OutputOptions,
    prescription: Prescription | None = None,
    proposals: int = 1,
) -> BatchResult:
    """Predict cases and write their files below `out`; a bad case does not stop the others.

    Also written are `left_out.csv`, the review list `to_look_at.csv`, and `teeth.tsv`, see `write_teeth`.

    cases          : a `<case_id>.json`, a folder of such files, or a case store
    meshes         : folder or URL of the crowns, see `new_case.read`
    wanted         : options of what is written
    prescription   : wishes for the plan; `extract`, `fixed` and `only` for a single case only
    proposals      : most plans per case
    raises         : NothingUsable if no case could be predicted, with the reason of the first one;
                     DentalignError if there is no such file or folder, or if `extract` or `fixed` names
                     teeth and there are several cases; ParamError if `out` would overwrite an input file
    """
    rx = prescription or Prescription()
    files = _json_files(Path(cases))
    for file in files:
        if (Path(out) / "json" / file.name).resolve() == file.resolve():
            raise ParamError(f"--out {out} would replace {file}: choose another folder")
    if len(files) > 1 and (rx.extract or rx.fixed or rx.only):
        raise DentalignError("--extract, --fixed and --only name teeth of one case: give one JSON as --case")
    written: list[tuple[Path, ...]] = []
    lines: list[LeftOut] = []
    looks: list[ReviewItem] = []
    for file in track(files, "predicting", len(files)):
        try:
            case = new_case.read(
                file,
                meshes,
                predictor.sampler,
                fetch=predictor.fetch,
                extract=rx.extract,
                flat=len(files) == 1,
                find_axis=predictor.find_axis,
                lines=lines,
            )
            first, *others = predictor.propose_case(case, rx, proposals)
            plan = prediction_files.staged(first, wanted)
            written.append(tuple(prediction_files.write(out, first, wanted, plan, others)))
            looks += first.to_look_at
            looks += review.collisions(case, plan) if plan else ()
        except CaseDefect as defect:
            defect.file = defect.file or str(file)
            lines.append(LeftOut.of(file.stem, STAGE, defect))
        except DentalignError:
            raise  # of the models, the options or the disk: the next case would meet it too
        except Exception as error:  # noqa: BLE001  one case never ends the batch
            command.show_traceback()
            prediction_files.remove(out, file.stem)
            seen, fix = f"{type(error).__name__} in dentalign", "report it, with the traceback of --debug"
            failure = CaseDefect("internal", seen, fix, file=str(file))
            lines.append(LeftOut.of(file.stem, STAGE, failure))
    left_out.write_csv(Path(out) / "left_out.csv", lines)
    review.write_csv(Path(out) / "to_look_at.csv", looks)
    write_teeth(Path(out) / "teeth.tsv", [files[1] for files in written], looks)
    if not written:
        worst = min(line for line in lines if line.whole_case)
        more = next((f"; first: {line.seen} [{line.file}]" for line in sorted(lines) if line.tooth), "")
        raise NothingUsable(f"case {worst.case_id}: {worst.seen}; {worst.fix} [{worst.file}]{more}")
    return BatchResult(tuple(written), tuple(sorted(lines)), tuple(looks))


def write_teeth(path: Path, tables: Iterable[Path], looks: Iterable[ReviewItem]) -> None:
    """Write the movement tables of all cases as one tab-separated table for spreadsheets, a row per tooth.

    Columns: case_id, those of `files.table` (a figure that a case lacks is an empty cell), and to_look_at
    with the reason codes of the tooth in the review list.

    tables : `movement/<case_id>.csv` of each predicted case
    """
    codes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for look in looks:
        codes[look.case_id, look.tooth].append(look.code)
    with atomic.replacing(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(
            file, ["case_id", *prediction_files.COLUMNS, "to_look_at"], restval="", delimiter="\t",
            lineterminator="\n",
        )  # fmt: skip
        table.writeheader()
        for name in tables:
            for _, row in csv_table.read(name, ["fdi"]):
                look_at = " ".join(codes[name.stem, row["fdi"]])
                table.writerow({"case_id": name.stem, **row, "to_look_at": look_at})


def _json_files(cases: Path) -> list[Path]:
    if not cases.is_dir():
        if not cases.exists():
            raise DentalignError(f"{cases}: no such file or folder")
        if cases.suffix.lower() == ".csv":
            raise ParamError(f"--case {cases} is a case list: name a JSON file, or a folder of them")
        return [cases]
    folder = cases / "json" if (cases / "json").is_dir() else cases
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".json")
    if not files:
        raise NothingUsable(f"{folder}: holds no <case_id>.json")
    return files
