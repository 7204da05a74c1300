"""params.yaml, read section by section. Each section's type lives in the room that uses it."""

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


class Section(BaseModel):
    """A part of params.yaml; unknown names and wrong types are refused, never guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


SectionType = TypeVar("SectionType", bound=Section)


def load(path: str | Path, section: type[SectionType], name: str) -> SectionType:
    """Read one section of params.yaml.

    raises: ParamError naming the file, the parameter, what was wanted and what stands there
    """
    values = read_document(path).get(name)
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


def load_shards(path: str | Path, listed: int | None = None) -> tuple[str, ...]:
    """The list `shards`.

    listed : number of shards whose files dvc.yaml lists as deps; default: not compared
    raises : ParamError unless it is a list of different plain names, as many as `listed`
    """
    shards = read_document(path).get("shards")
    if not isinstance(shards, list) or not shards:
        raise ParamError(f"{path}: shards must be a list of names such as [shard-000, shard-001]")
    for shard in shards:
        if not isinstance(shard, str) or not shard.replace("-", "").isalnum():
            raise ParamError(f"{path}: shards: a name is letters, digits and '-', got {shard!r}")
    if len(set(shards)) != len(shards):
        raise ParamError(f"{path}: shards: a name stands there twice")
    if listed not in (None, len(shards)):
        raise ParamError(
            f"{path}: shards names {len(shards)} shards, dvc.yaml lists {listed}: "
            f"`make shards N={len(shards)}` writes both"
        )
    return tuple(shards)


def read_document(path: str | Path) -> dict[str, Any]:
    """All sections as they stand; raises ParamError where the file is no YAML mapping."""
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParamError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(document, dict):
        raise ParamError(f"{path}: must hold sections with names")
    return document
