"""Prediction from crowns alone: import of crowns in one common frame, and prediction of their cases."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from dentalign.cases import left_out
from dentalign.errors import NothingUsable
from dentalign.importers.crowns import Crowns
from dentalign.importers.import_run import import_cases
from dentalign.planning.prescription import Prescription
from dentalign.prediction import batch
from dentalign.prediction.batch import BatchResult
from dentalign.prediction.files import OutputOptions
from dentalign.prediction.predictor import Predictor


def predict_crowns(
    crowns: Path,
    out: Path,
    predictor: Predictor,
    wanted: OutputOptions,
    prescription: Prescription | None = None,
    *,
    numbering: str = "",
    proposals: int = 1,
) -> BatchResult:
    """Import crowns and predict their cases, as `dentalign import crowns` and `dentalign predict` do.

    Beside the files of `batch.predict_cases` are written the crowns in tooth-local coordinates that
    `json/<case_id>.json` belongs to: `crowns/<case_id>/<FDI>.stl`. `left_out.csv` has the lines of both.

    crowns    : folder of one case, whose name becomes the case id, or with a folder for each case
    numbering : "fdi", "universal", or "" to find the notation from the numbers
    wanted, prescription, proposals, raises : as for `batch.predict_cases`; NothingUsable also if no case is
                                              imported
    """
    with tempfile.TemporaryDirectory(prefix="dentalign-crowns-") as folder:
        store, kept = Path(folder) / "cases", out / "crowns"
        imported = import_cases(Crowns(numbering), crowns, store)

        def shown(text: str) -> str:
            return text.replace(str(store / "stl"), str(kept)).replace(str(store), str(out))

        try:
            done = batch.predict_cases(
                store / "json", store / "stl", out, predictor, wanted, prescription, proposals
            )
        except NothingUsable as error:
            raise NothingUsable(shown(str(error))) from None
        for case in sorted((store / "stl").iterdir()):
            shutil.copytree(case, kept / case.name, dirs_exist_ok=True)
    lines = [replace(line, file=shown(line.file)) for line in done.left_out]
    said = {(line.case_id, line.tooth, line.code) for line in lines}
    # The import has already listed the teeth that the prediction will drop.
    lines += [line for line in imported.lines if (line.case_id, line.tooth, line.code) not in said]
    left_out.write_csv(out / "left_out.csv", lines)
    return replace(done, left_out=tuple(sorted(lines)))
