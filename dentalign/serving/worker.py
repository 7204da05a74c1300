"""Process that has one set of models in memory and predicts one case after the other."""

import json
import multiprocessing
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from dentalign.cases import case_document
from dentalign.cases.poses import stage_poses
from dentalign.errors import CaseDefect, DentalignError
from dentalign.files import csv_table
from dentalign.importers.crown_prediction import predict_crowns
from dentalign.planning.prescription import Prescription
from dentalign.planning.staging import Predict
from dentalign.prediction import batch
from dentalign.prediction.files import Moved, OutputOptions
from dentalign.prediction.predictor import Predictor
from dentalign.running import pool
from dentalign.serving.limits import Refused, ServerLimits
from dentalign.serving.upload import unpack

Answer = Literal["json", "report", "zip"]
UPLOAD = "upload.zip"
MEDIA = {"json": "application/json", "report": "text/html; charset=utf-8", "zip": "application/zip"}


@dataclass(frozen=True)
class Job:
    """Prediction of the case in a folder's upload.zip; the answer is written into this folder.

    case_id        : name of a case that comes without JSON and without a folder of its own in the zip
    numbering      : notation of the tooth numbers of crowns without JSON; "" to find it from the numbers
    extract, fixed : FDI numbers, see `Predictor.predict_case`
    wanted         : files of the prediction, see `OutputOptions`
    """

    folder: Path
    limits: ServerLimits
    answer: Answer = "json"
    case_id: str = "case"
    numbering: str = ""
    extract: tuple[int, ...] = ()
    fixed: tuple[int, ...] = ()
    stages: bool = False
    moved: Moved = "none"


class Worker:
    """Process that keeps a `Predictor`; one that takes too long is replaced."""

    def __init__(self, name: str, options: Mapping[str, Any], limits: Predict):
        """Start the process; raises DentalignError if the models cannot be loaded.

        name    : of the models, for the answers
        options : arguments of `Predictor`
        limits  : steps between treatment stages
        """
        self.name, self._arguments = name, (name, dict(options), limits)
        self._one_at_a_time = threading.Lock()
        self.waiting = 0  # number of requests, the one in work included
        self._start()

    def _start(self) -> None:
        """Start the process, and wait until it has loaded the models."""
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, *self._arguments), daemon=True)
        self._process.start()
        other.close()
        try:
            failure = self._pipe.recv()
        except EOFError:
            failure = "the worker ended while it loaded them"
        if failure:
            raise DentalignError(f"models {self.name}: {failure}")

    def predict(self, job: Job) -> Path:
        """Predict a case; waits for its turn.

        returns : file with the answer
        raises  : Refused, with the reason
        """
        with self._one_at_a_time:
            try:
                self._pipe.send(job)
                if not self._pipe.poll(job.limits.work_s):
                    raise Refused(504, f"the prediction took longer than {job.limits.work_s:g} s")
                status, found = self._pipe.recv()
            except (EOFError, OSError, Refused) as error:
                self.close()
                self._start()
                if isinstance(error, Refused):
                    raise
                raise Refused(500, "the worker ended without an answer") from None
        if status != 200:
            raise Refused(status, found)
        return Path(found)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _work(pipe: Connection, name: str, options: dict[str, Any], limits: Predict) -> None:
    pool.follow_the_parent()
    try:
        predictor = Predictor(**options)
    except DentalignError as error:
        pipe.send(str(error))
        return
    pipe.send("")
    while True:
        job = pipe.recv()
        try:
            pipe.send((200, str(_answer(job, predictor, name, limits))))
        except Refused as error:
            pipe.send((error.status, str(error)))
        except (DentalignError, CaseDefect) as error:
            pipe.send((422, _shown(str(error), job)))
        except Exception as error:  # noqa: BLE001  one request never ends the server, and no data are quoted
            pipe.send((500, f"internal, {type(error).__name__}"))


def _answer(job: Job, predictor: Predictor, name: str, limits: Predict) -> Path:
    case, out = job.folder / "case", job.folder / "out"
    document = unpack(job.folder / UPLOAD, case, job.limits)
    wanted = OutputOptions(job.stages, job.moved, job.answer != "json", limits)
    rx = Prescription().joined(extract=job.extract, fixed=job.fixed)
    if document is not None:
        done = batch.predict_cases(document, case / "crowns", out, predictor, wanted, rx)
    else:
        crowns = (case / "crowns").rename(case / job.case_id)
        done = predict_crowns(crowns, out, predictor, wanted, rx, numbering=job.numbering)
    if len(done.files) > 1:
        raise Refused(422, f"the zip has the crowns of {len(done.files)} mouths: send one case at a time")
    (files,) = done.files
    if job.answer == "report":
        return out / "report" / f"{files[0].stem}.html"
    listed, answer = out / "left_out.csv", out / "answer.json"
    listed.write_text(_shown(listed.read_text(encoding="utf-8"), job), encoding="utf-8")
    text = json.dumps(_as_json(name, files[0], files[1], done), allow_nan=False)
    answer.write_text(_shown(text, job), encoding="utf-8")
    if job.answer == "json":
        return answer
    packed = job.folder / "answer.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(out.rglob("*")):
            if path.is_file():  # without its time: the same case gives the same bytes
                entry = zipfile.ZipInfo(path.relative_to(out).as_posix())
                file.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return packed


def _shown(text: str, job: Job) -> str:
    """Replace paths of the server by those in the zip."""
    return text.replace(f"{job.folder / 'case'}/", "").replace(f"{job.folder}/", "")


def _as_json(name: str, document: Path, movement: Path, done: batch.BatchResult) -> dict[str, Any]:
    """Answer as plain values: teeth with their poses, what to look at, what was left out, the case."""
    poses = stage_poses(case_document.read(document, document.stem), str(document))
    at = {"pose_t1": poses.t1, "pose_t2": poses.t2 or {}}
    teeth = [
        {key: _value(key, text) for key, text in row.items()}
        | {key: pose[int(row["fdi"])].tolist() for key, pose in at.items() if int(row["fdi"]) in pose}
        for _, row in csv_table.read(movement, ["fdi"])
    ]
    return {
        "models": name,
        "case_id": document.stem,
        "teeth": teeth,
        "to_look_at": [asdict(look) for look in done.to_look_at],
        "left_out": [asdict(line) for line in done.left_out],
        "plan": json.loads(document.read_bytes()),
    }


def _value(column: str, text: str) -> object:
    if column == "fate":
        return text
    return int(text) if column == "fdi" else float(text) if text else None
