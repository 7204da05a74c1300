"""Predict one case or a folder of cases, each on its own, and list what was left out."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from dentalign.cases import left_out
from dentalign.cases.left_out import LeftOut
from dentalign.errors import CaseDefect, DentalignError, NothingUsable, ParamError
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
    """Result of a batch.

    files    : of each predicted case, see `prediction_files.write`
    left_out : cases refused and teeth not predicted
    to_look_at : cases and teeth that a person should see to
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
    *,
    extract: Collection[int] = (),
    fixed: Collection[int] = (),
) -> BatchResult:
    """Predict and write below `out`; a bad case never loses the good ones.

    Beside the cases `left_out.csv`, and `to_look_at.csv` of those predicted.

    cases          : `<case_id>.json`, or a folder of them (a case store's folder, too)
    extract, fixed : FDI numbers, see `Predictor.predict_case`; for a single case only
    raises         : NothingUsable where no case could be predicted, with the reason of the first;
                     DentalignError where there is no such folder, or numbers are given for many cases;
                     ParamError where `out` would replace a case that is read
    """
    files = _json_files(Path(cases))
    for file in files:
        if (Path(out) / "json" / file.name).resolve() == file.resolve():
            raise ParamError(f"--out {out} would replace {file}: choose another folder")
    if len(files) > 1 and (extract or fixed):
        raise DentalignError("--extract and --fixed name teeth of one case: give one JSON as --case")
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
                extract=extract,
                flat=len(files) == 1,
                find_axis=predictor.find_axis,
                lines=lines,
            )
            prediction = predictor.predict_case(case, extract=extract, fixed=fixed)
            written.append(tuple(prediction_files.write(out, prediction, wanted)))
            looks += prediction.to_look_at
        except CaseDefect as defect:
            defect.file = defect.file or str(file)
            lines.append(LeftOut.of(file.stem, STAGE, defect))
        except DentalignError:
            raise  # of the models, the options or the disk: the next case would meet it too
        except Exception as error:  # noqa: BLE001  one case never ends the batch
            command.show_traceback()
            seen, fix = f"{type(error).__name__} in dentalign", "report it, with the traceback of --debug"
            failure = CaseDefect("internal", seen, fix, file=str(file))
            lines.append(LeftOut.of(file.stem, STAGE, failure))
    left_out.write_csv(Path(out) / "left_out.csv", lines)
    review.write_csv(Path(out) / "to_look_at.csv", looks)
    if not written:
        first = min(line for line in lines if line.whole_case)
        more = next((f"; first: {line.seen} [{line.file}]" for line in sorted(lines) if line.tooth), "")
        raise NothingUsable(f"case {first.case_id}: {first.seen}; {first.fix} [{first.file}]{more}")
    return BatchResult(tuple(written), tuple(sorted(lines)), tuple(looks))


def _json_files(cases: Path) -> list[Path]:
    if not cases.is_dir():
        if not cases.exists():
            raise DentalignError(f"{cases}: no such file or folder")
        return [cases]
    folder = cases / "json" if (cases / "json").is_dir() else cases
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".json")
    if not files:
        raise NothingUsable(f"{folder}: holds no <case_id>.json")
    return files
