"""params.yaml: one typed section per stage, checked as it is read."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dentalign.errors import ParamError

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Device = Literal["auto", "cpu", "cuda"]
Engine = Literal["local", "dask"]


class Section(BaseModel):
    """A part of params.yaml; unknown names and wrong types are refused, never guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Source(Section):
    """Where the cases are: a list, and for JSONs and meshes a directory, a URL, or a `.url` file."""

    cases: str
    json_: str = Field(alias="json")
    meshes: str
    buccal_axis: Literal["+y", "-y"] = "+y"
    pseudonym_map: str = ""


class Fetch(Section):
    """How JSONs are fetched."""

    concurrency: Positive = 8
    timeout_s: PositiveFloat = 30.0
    retries: NotNegative = 4
    backoff_s: PositiveFloat = 0.5
    max_failed_share: Share = 0.2


class Limits(Section):
    """What is still taken for a usable case."""

    max_dropped_teeth: NotNegative = 4
    max_json_mb: PositiveFloat = 64.0
    max_mesh_mb: PositiveFloat = 64.0
    min_crown_mm: PositiveFloat = 2.0
    max_crown_mm: PositiveFloat = 40.0
    max_from_origin_mm: PositiveFloat = 500.0
    min_mouth_size: PositiveFloat = 0.5
    max_mouth_size: PositiveFloat = 2.0
    max_turn_deg: PositiveFloat = 45.0
    max_from_arch_mm: PositiveFloat = 30.0


class Sample(Section):
    """Points on a tooth."""

    points: Annotated[int, Field(ge=8, multiple_of=2)] = 256
    oversampling: Annotated[int, Field(ge=2, le=64)] = 8
    seed: NotNegative = 0
    workers: NotNegative = 0


class Parallel(Section):
    """Where cases are worked on."""

    engine: Engine = "local"


class Weights(Section):
    """A weights file."""

    weights: str


class Encoder(Weights):
    """The encoder in use."""

    device: Device = "auto"
    threads: Positive = 2


SectionType = TypeVar("SectionType", bound=Section)


def load(path: str | Path, section: type[SectionType], name: str) -> SectionType:
    """Read one section of params.yaml.

    raises: ParamError naming the file, the parameter, what was wanted and what stands there
    """
    values = _document(path).get(name)
    if not isinstance(values, dict):
        raise ParamError(f"{path}: section '{name}' is missing")
    return parse(values, section, f"{path}: {name}")


def parse(values: dict[str, Any], section: type[SectionType], where: str) -> SectionType:
    """Check the values of one section; `where` goes in front of the parameter in an error."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        parameter = ".".join(str(part) for part in first["loc"])
        raise ParamError(f"{where}.{parameter}: {first['msg']}, got {first['input']!r}") from None


def load_engine(path: str | Path) -> Engine:
    """`parallel.engine`; this machine where nothing is said."""
    return parse(_document(path).get("parallel", {}), Parallel, f"{path}: parallel").engine


def load_shards(path: str | Path) -> tuple[str, ...]:
    """The list `shards`; raises ParamError unless it is a list of different plain names."""
    shards = _document(path).get("shards")
    if not isinstance(shards, list) or not shards:
        raise ParamError(f"{path}: shards must be a list of names such as [shard-000, shard-001]")
    for shard in shards:
        if not isinstance(shard, str) or not shard.replace("-", "").isalnum():
            raise ParamError(f"{path}: shards: a name is letters, digits and '-', got {shard!r}")
    if len(set(shards)) != len(shards):
        raise ParamError(f"{path}: shards: a name stands there twice")
    return tuple(shards)


def _document(path: str | Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParamError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(document, dict):
        raise ParamError(f"{path}: must hold sections with names")
    return document
