"""Root model of params.yaml, which joins the sections of all rooms, for the command `dentalign` and the docs.

No stage imports it: a stage reads its own sections (`dentalign.params.load`), so that an edit of another
section's type leaves it up to date.
"""

import sys
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from dentalign import params
from dentalign.alignment.base import TrainSection
from dentalign.alignment.training import Train
from dentalign.autoencoder.settings import Autoencoder, DecoderFile, EncoderFile
from dentalign.cases.settings import Fetch, Limits, Sample, Source
from dentalign.demo_clinic.clinic import DemoClinic
from dentalign.errors import ParamError
from dentalign.params import Section
from dentalign.prediction.staging import Predict
from dentalign.running.pool import Parallel
from dentalign.validation.measurement import Validate


class Settings(Section):
    """Contents of a params.yaml; the defaults are the values of the one in this repository."""

    demo_clinic: DemoClinic = DemoClinic()
    source: Source = Source(cases="data/demo/cases.csv", json="data/demo/json", meshes="data/demo/stl")
    fetch: Fetch = Fetch()
    limits: Limits = Limits()
    shards: list[str] = Field(default=[f"shard-{number:03d}" for number in range(8)])
    parallel: Parallel = Parallel()
    sample: Sample = Sample()
    autoencoder: Autoencoder = Autoencoder(cases="data/autoencoder_cases.csv")
    encoder: EncoderFile = EncoderFile(weights="models/encoder.pt")
    decoder: DecoderFile = DecoderFile(weights="models/decoder.pt")
    train: Annotated[TrainSection, BeforeValidator(Train.model_validate)] = Train()
    validate_: Validate = Field(default=Validate(), alias="validate")
    predict: Predict = Predict()


def load(path: Path | None, *names: str) -> Settings:
    """Read the named sections of a file; whatever is missing from them, and all others, keep their defaults.

    path   : None for params.yaml in the working folder, if there is one. It may be another project's: if it
             has none of the sections, a line on stderr says so, and it is not used.
    raises : ParamError for an unknown key or a wrong value in one of the sections, and for a file that was
             asked for by its path and has none of them
    """
    file = path or Path("params.yaml")
    if path is None and not file.is_file():
        return Settings()
    document = params.read_document(file)
    found = [name for name in names if name in document]
    if not found:
        message = f"{file}: has no section {' or '.join(names)}"
        if path is not None:
            raise ParamError(message)
        print(f"{message}; defaults are used", file=sys.stderr)
    defaults, values = Settings().model_dump(by_alias=True), {}
    for name in found:
        given = {} if document[name] is None else document[name]
        values[name] = defaults[name] | given if isinstance(given, dict) else given
    return params.parse(values, Settings, f"{file}: ")
