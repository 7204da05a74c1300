"""Reader of params.yaml, section by section; the type of a section is in the package that uses it."""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dentalign.errors import ParamError

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NotNegativeFloat = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Device = Literal["auto", "cpu", "cuda"]


class Section(BaseModel):
    """Base class of the sections of params.yaml: immutable; unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


SectionType = TypeVar("SectionType", bound=Section)


class _Loader(yaml.SafeLoader):
    """PyYAML loader with the rules of DVC's: floats of YAML 1.2 (`1e-05`), and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in lines:
                raise ParamError(
                    f"{self.name}: {key.value} occurs twice, in lines {lines[key.value]} and {line}; "
                    "delete one of them"
                )
            lines[str(key.value)] = line
        return super().construct_mapping(node, deep)


# DVC writes 0.00001 as 1e-05, which YAML 1.1 takes for text: its floats need a point and a sign.
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def load(path: str | Path, section: type[SectionType], name: str) -> SectionType:
    """Read one section of params.yaml.

    raises: ParamError, which names the file, the parameter, what is expected and the value found
    """
    values = read_document(path).get(name)
    if not isinstance(values, dict):
        raise ParamError(f"{path}: section '{name}' is missing")
    return parse(values, section, f"{path}: {name}.")


def parse(values: dict[str, Any], section: type[SectionType], where: str) -> SectionType:
    """Check the values of one section.

    where  : text to put in front of the parameter's name in an error, such as "params.yaml: fetch."
    raises : ParamError
    """
    try:
        return section.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        parameter = ".".join(str(part) for part in first["loc"] if part != "[key]")
        if first["type"] == "extra_forbidden":
            raise ParamError(f"{where}{parameter}: unknown key{_nearest(section, first['loc'])}") from None
        if first["type"] == "value_error":  # of a validator, whose message names the value
            said = first["msg"].removeprefix("Value error, ")
            raise ParamError(f"{where}{parameter}{': ' if parameter else ''}{said}") from None
        raise ParamError(f"{where}{parameter}: {first['msg']}, got {first['input']!r}") from None


def _nearest(section: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """The keys that an unknown one could be: the nearest, else all of its section."""
    for part in location[:-1]:
        inner = section.model_fields[str(part)].annotation if part in section.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ""
        section = inner
    known = [field.alias or name for name, field in section.model_fields.items()]
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; the nearest known one is {near[0]}" if near else f"; known are {', '.join(known)}"


def load_shards(path: str | Path, listed: int | None = None) -> tuple[str, ...]:
    """Read the list `shards` of params.yaml.

    listed : number of shards that dvc.yaml lists; None to skip the comparison
    raises : ParamError unless it is a list of unique names of letters, digits and '-', and has `listed` names
    """
    shards = read_document(path).get("shards")
    if not isinstance(shards, list) or not shards:
        raise ParamError(f"{path}: shards must be a list of names such as [shard-000, shard-001]")
    for shard in shards:
        if not isinstance(shard, str) or not shard.replace("-", "").isalnum():
            raise ParamError(f"{path}: shards: a name may have letters, digits and '-', got {shard!r}")
    if twice := sorted({shard for shard in shards if shards.count(shard) > 1}):
        raise ParamError(f"{path}: shards: {twice[0]} is listed twice")
    if listed not in (None, len(shards)):
        raise ParamError(
            f"{path}: shards lists {len(shards)} shards, dvc.yaml lists {listed}; "
            f"`make shards N={len(shards)}` updates both files"
        )
    return tuple(shards)


def read_document(path: str | Path) -> dict[str, Any]:
    """Read all sections, values unchecked; raises ParamError if it is no YAML mapping or has a key twice."""
    try:
        with open(path, encoding="utf-8") as file:
            document = yaml.load(file, _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParamError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(document, dict):
        raise ParamError(
            f"{path}: must be a mapping of sections, such as `train:` with indented values below"
        )
    return document
