"""Model of params.yaml with all its sections, for the command `dentalign` and the docs.

No pipeline stage imports this module: a stage reads its own sections with `dentalign.params.load`, so that a
change of another section's type does not make it stale for DVC.
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
from dentalign.planning.solver import Planning
from dentalign.planning.staging import Predict
from dentalign.running.pool import Parallel
from dentalign.validation.measurement import Validate


class Settings(Section):
    """Contents of a params.yaml file; the defaults are the values of the file in this repository."""

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
    planning: Planning = Planning()
    predict: Predict = Predict()


def load(path: Path | None, *names: str) -> Settings:
    """Read the named sections of a file; their missing keys and all other sections have default values.

    path   : None for params.yaml in the working folder, if there is one. That file may be of another project:
             if it has none of the sections, the defaults are used, with a warning on stderr.
    raises : ParamError for an unknown key or a wrong value in one of the sections, or if the file at a `path`
             other than None has none of the sections
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
