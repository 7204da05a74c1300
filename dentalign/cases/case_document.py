"""Parser of the planning system's JSON, with the allow-list of its fields.

Only the fields of the models in this module are kept; points of teeth only if asked for. Free text is neither
kept nor quoted in errors, because it may be a name or a date of birth. Where a number is expected, anything
else becomes null (NaN for T2Stage), and so does a number beyond 1e5 or -1e5.
"""

import functools
import json
import math
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from dentalign.cases.case_list import check_id
from dentalign.errors import CaseDefect

# mm, and far beyond a mouth. Larger figures are no poses; they may be telephone numbers or dates.
LARGEST_NUMBER = 1e5
# Values in a document: 64 MB of "{}," would be 2 GB of Python objects. A real case has some ten thousand.
MOST_VALUES = 2_000_000
# Coordinate of a point in the frame of its tooth, mm: no tooth is as long.
LARGEST_LOCAL_MM = 40.0
# Points of a tooth, tooth-local mm, that are kept if asked for: kind -> keys in `Landmarks` and `Bolton`.
POINTS: dict[str, tuple[str, ...]] = {
    "landmarks": (
        "MCPoint", "DCPoint", "MEPoint", "DEPoint", "BCPoint", "DBCPoint", "LCPoint", "MLCPoint", "DLCPoint",
        "FAPoint", "FEGJPoint",
    ),
    "root_apex": ("MRAPoint",),
    "bolton": ("toothBoltonStartPoint", "toothBoltonEndPoint"),
}  # fmt: skip

_NUMBER = re.compile(r"[+-]?(\d{1,32}\.?\d{0,32}|\.\d{1,32})(e[+-]?\d{1,4})?", re.IGNORECASE | re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_TOOTH = re.compile(r"[1-9][0-9]{0,2}")


def _number(value: object) -> float | None:
    """A number, or a text that spells one, as float; None for anything else."""
    if isinstance(value, str):
        text = value.strip()
        if not (_NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text)):
            return None
        value = float(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    return None if math.isfinite(number) and abs(number) > LARGEST_NUMBER else number


def _local_mm(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and abs(number) <= LARGEST_LOCAL_MM else None


def _mapping(value: object) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _pose(value: object) -> object:
    """Coerce a pose: None if absent, a Pose of nulls if it is not a mapping."""
    if isinstance(value, Pose):
        return value
    return None if value is None or value == {} else _mapping(value) or {"rotation": None}


def _t2_stage(value: object) -> float | None:
    if value is None or value == "":
        return None
    number = _number(value)
    return math.nan if number is None else number  # present, and no stage


Number = Annotated[float | None, BeforeValidator(_number)]


class Part(BaseModel):
    """Part of a case document; JSON keys that its model does not define are dropped."""

    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="constants")


class Vector(Part):
    """Components x, y and z; None where the value is missing or not a number."""

    x: Number = None
    y: Number = None
    z: Number = None


class Quaternion(Vector):
    """Quaternion x, y, z, w (scalar last) of any norm; None as in `Vector`."""

    w: Number = None


class Pose(Part):
    """Translation, mm, and rotation; None where the value is missing or not a JSON object."""

    translation: Annotated[Vector | None, BeforeValidator(_mapping)] = None
    rotation: Annotated[Quaternion | None, BeforeValidator(_mapping)] = None


class LocalPoint(Part):
    """Point in the frame of its tooth, mm; None for what is no number, or beyond LARGEST_LOCAL_MM."""

    x: Annotated[float | None, BeforeValidator(_local_mm)] = None
    y: Annotated[float | None, BeforeValidator(_local_mm)] = None
    z: Annotated[float | None, BeforeValidator(_local_mm)] = None


MaybePose = Annotated[Pose | None, BeforeValidator(_pose)]
AnyPoint = Annotated[LocalPoint, BeforeValidator(lambda point: _mapping(point) or {})]
TeethPoints = dict[str, dict[str, AnyPoint]] | None
TeethPoses = dict[str, MaybePose] | None


def _points_asked_for(value: object, info: ValidationInfo, *kinds: str) -> dict[str, Any] | None:
    """Points of the teeth by FDI number and key: those of the kinds that the context asks for."""
    asked = [name for kind in kinds if kind in (info.context or {}).get("keep", ()) for name in POINTS[kind]]
    teeth = {}
    for fdi, points in (_mapping(value) or {}).items() if asked else ():
        kept = {name: point for name, point in (_mapping(points) or {}).items() if name in asked}
        kept = {name: point for name, point in kept.items() if point not in (None, {})}
        if kept and _TOOTH.fullmatch(fdi):
            teeth[fdi] = kept
    return teeth or None


class _Sparse(Part):
    """Base of parts whose absent fields are left out when serialised."""

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: Any) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}


class Stage(_Sparse):
    """Treatment stage: jaw poses, and tooth poses by FDI number (a text such as "11") in one of three fields.

    mandible, maxilla : jaw -> head
    teeth, teeth_head : tooth-local -> head
    teeth_jaw         : tooth-local -> jaw of the tooth
    landmarks         : at T1, points of each tooth that `parse` was asked to keep
    """

    stage: Number = Field(None, alias="Stage")
    mandible: MaybePose = Field(None, alias="MandibularTransform")
    maxilla: MaybePose = Field(None, alias="MaxillaryTransform")
    teeth: TeethPoses = Field(None, alias="ToothTransforms")
    teeth_head: TeethPoses = Field(None, alias="RelativeToothTransformsHead")
    teeth_jaw: TeethPoses = Field(None, alias="RelativeToothTransforms")
    landmarks: TeethPoints = Field(None, alias="Landmarks")

    @field_validator("teeth", "teeth_head", "teeth_jaw", mode="before")
    @classmethod
    def _only_numbers(cls, value: object, info: ValidationInfo) -> dict[str, Any] | None:
        teeth = _mapping(value) or {}
        kept = {key: pose for key, pose in teeth.items() if _TOOTH.fullmatch(key)}
        if info.context is not None:
            info.context["unknown_tooth_keys"].update(teeth.keys() - kept.keys())
        return kept or None

    @field_validator("landmarks", mode="before")
    @classmethod
    def _only_points(cls, value: object, info: ValidationInfo) -> dict[str, Any] | None:
        return _points_asked_for(value, info, "landmarks", "root_apex")


MaybeStage = Annotated[Stage, BeforeValidator(lambda stage: _mapping(stage) or {})]


class CaseDocument(_Sparse):
    """Allow-listed fields of a case: its id, T2Stage, jaw poses, and the treatment stages in their order.

    t2_stage           : None if absent, NaN if present but not a number
    mandible, maxilla  : jaw -> head, for treatment stages that have no jaw pose of their own
    bolton             : both ends of the width of each tooth, if `parse` was asked to keep them
    unknown_tooth_keys : number of different tooth keys that are not numbers; not serialised
    """

    case_id: str = Field(alias="CaseID")
    t2_stage: Annotated[float | None, BeforeValidator(_t2_stage)] = Field(None, alias="T2Stage")
    mandible: MaybePose = Field(None, alias="mandibularRelativeTransform")
    maxilla: MaybePose = Field(None, alias="maxillaRelativeTransform")
    staging: list[MaybeStage] = Field(alias="Staging")
    bolton: TeethPoints = Field(None, alias="Bolton")
    unknown_tooth_keys: int = Field(0, exclude=True)

    @field_validator("bolton", mode="before")
    @classmethod
    def _only_points(cls, value: object, info: ValidationInfo) -> dict[str, Any] | None:
        return _points_asked_for(value, info, "bolton")


def parse(
    data: bytes,
    case_id: str,
    file: str = "",
    max_mb: float = math.inf,
    *,
    ends_only: bool = False,
    keep: Collection[str] = (),
) -> CaseDocument:
    """Parse the JSON of a case: the planning system's export, or a case that was sanitised before.

    data      : UTF-8, with or without a byte order mark; numbers may be strings; NaN and Infinity are kept
    case_id   : stem of the file's name; a different `CaseID` in the JSON excludes the case
    file      : path or URL, for the errors
    max_mb    : largest size of `data`, MB
    ends_only : if True, the treatment stages between T1 and T2 come out empty, which saves most of the time
    keep      : kinds of POINTS to keep; those of teeth at T1 only
    raises    : CaseDefect, which quotes no content of the JSON except a CaseID that is a valid file name
    """
    values = _load(data, file, max_mb, keep)
    inside = values.get("CaseID")
    if inside is not None and (isinstance(inside, bool) or str(inside).strip() != case_id):
        raise _case_id_differs(str(inside).strip(), file)
    stages = values.get("Staging")
    if not isinstance(stages, list) or not stages:
        raise CaseDefect(
            "no_stages", "Staging is missing, empty or not a list", "export the staging too", file=file
        )
    numbers = [_number(stage.get("Stage")) for stage in stages if isinstance(stage, dict)]
    known = [number for number in numbers if number is not None]
    if known != sorted(set(known)):
        seen, fix = "the Stage numbers do not increase along Staging", "export the stages in order"
        raise CaseDefect("stage_order", seen, fix, file=file)
    if ends_only:
        ends = {0, position_of_t2(_t2_stage(values.get("T2Stage")), len(stages))}
        stages = [stage if index in ends else {} for index, stage in enumerate(stages)]
    if keep:
        stages = [stages[0], *({**(_mapping(stage) or {}), "Landmarks": None} for stage in stages[1:])]
    unknown: set[str] = set()
    document = CaseDocument.model_validate(
        {**values, "Staging": stages, "CaseID": case_id, "unknown_tooth_keys": 0},
        context={"unknown_tooth_keys": unknown, "keep": keep},
    )
    return document.model_copy(update={"unknown_tooth_keys": len(unknown)})


def _case_id_differs(inside: str, file: str) -> CaseDefect:
    fix = "export it again under its own name"
    with suppress(CaseDefect):
        check_id(inside)
        fix = f"rename the file to {inside}.json, its folder of meshes to {inside}"
    seen = "the CaseID in the JSON is not the file's name"
    return CaseDefect("case_id_differs", seen, f"{fix}; remove it if it is a copy of another case", file=file)


def position_of_t2(stage: float | None, count: int) -> int | None:
    """Index of T2 in a list of `count` treatment stages, from T2Stage (`stage`); None if there is none."""
    if stage is None or not stage.is_integer() or not 0 <= stage <= count:
        return None
    return min(int(stage), count - 1)  # real exports also give the number of stages


def as_json(document: CaseDocument) -> dict[str, Any]:
    """Plain JSON values; NaN and infinities become the strings "nan", "inf" and "-inf"."""
    plain: dict[str, Any] = _finite(document.model_dump(by_alias=True))
    return plain


def as_exported(document: CaseDocument) -> dict[str, Any]:
    """Plain JSON values as planning systems write them: those of `as_json`, but T2Stage as a string."""
    plain = as_json(document)
    return plain if document.t2_stage is None else plain | {"T2Stage": str(plain["T2Stage"])}


def canonical(document: CaseDocument) -> bytes:
    """Serialise as JSON with sorted keys and no spaces; the same content gives the same bytes."""
    text = json.dumps(as_json(document), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8") + b"\n"


def read(
    path: str | Path,
    case_id: str,
    max_mb: float = math.inf,
    *,
    ends_only: bool = False,
    keep: Collection[str] = (),
) -> CaseDocument:
    """Parse a local file, see `parse`; raises CaseDefect, also if the file cannot be read."""
    limit = None if math.isinf(max_mb) else int(max_mb * 1e6)
    try:
        with open(path, "rb") as stream:
            data = stream.read() if limit is None else stream.read(limit + 1)
    except OSError as error:
        seen = f"cannot be read: {error.strerror or type(error).__name__}"
        raise CaseDefect("not_found", seen, "put the file there", file=str(path)) from error
    return parse(data, case_id, str(path), max_mb, ends_only=ends_only, keep=keep)


# First bytes of a file that is no JSON -> what it is, and the fix.
_NOT_JSON = {
    b"<": ("a web page or XML", "check the address; is DENTALIGN_TOKEN needed?"),
    b"version https://git-lfs": ("a Git LFS pointer", "run `git lfs pull` where the cases are"),
    b"\x1f\x8b": ("a gzip file", "unpack it"),
    b"PK\x03\x04": ("a zip file", "unpack it"),
}


def _load(data: bytes, file: str, max_mb: float, keep: Collection[str]) -> dict[str, Any]:
    def defect(code: str, seen: str, fix: str) -> CaseDefect:
        return CaseDefect(code, seen, fix, file=file)

    if len(data) > max_mb * 1e6:
        raise too_large(max_mb, file)
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    for first, (seen, fix) in _NOT_JSON.items():
        if start.startswith(first):
            raise defect("not_json", f"not JSON: {seen}", fix)
    if sum(data.count(mark) for mark in (b",", b"{", b"[")) > MOST_VALUES:
        raise defect("too_many_values", f"more than {MOST_VALUES} values", "export one case per file")
    try:
        text = data.decode("utf-8-sig")
        asked = {name for kind in keep for name in (*_POINT_FIELDS, *POINTS[kind])}
        without_doubles = functools.partial(_without_doubles, kept=_KEPT | asked)
        values = json.loads(text, parse_int=_integer, object_pairs_hook=without_doubles)
    except UnicodeDecodeError as error:
        raise defect("not_utf8", f"byte {error.start} is not UTF-8", "export it as UTF-8") from None
    except json.JSONDecodeError as error:
        seen = f"not JSON at line {error.lineno} column {error.colno}"
        raise defect("not_json", seen, "the file may be cut short; export or copy it again") from None
    except RecursionError:
        raise defect("nested_too_deep", "JSON nested too deep", "export it again") from None
    except _DoubleKeyError:
        raise defect("double_key", "a key occurs twice in one JSON object", "export it again") from None
    if not isinstance(values, dict):
        raise defect("not_a_case", "the JSON is not an object", "export the case, not a list or a value")
    return values


def too_large(max_mb: float, file: str) -> CaseDefect:
    """Defect of a file over the limit `max_mb`, MB."""
    return CaseDefect(
        "too_large", f"over {max_mb:g} MB", "raise limits.max_json_mb if the file is a case", file=file
    )


class _DoubleKeyError(Exception):
    """An allow-listed key occurs twice in one object: which value is right would be a guess."""


def _without_doubles(pairs: list[tuple[str, Any]], kept: Collection[str]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen and (key in kept or _TOOTH.fullmatch(key)):
                raise _DoubleKeyError
            seen.add(key)
    return values


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 else float(digits)  # int() of thousands of digits raises


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return (int(value) if value.is_integer() else value) if math.isfinite(value) else str(value)
    return value


_POINT_FIELDS = {"Landmarks", "Bolton"}  # which are kept only if they are asked for
_KEPT = {
    field.alias or name
    for model in (CaseDocument, Stage, Pose, Quaternion)
    for name, field in model.model_fields.items()
} - _POINT_FIELDS
