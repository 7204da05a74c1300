"""Sections `source`, `fetch`, `limits` and `sample` of params.yaml."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from dentalign.params import NotNegative, NotNegativeFloat, Positive, PositiveFloat, Section, Share

BuccalAxis = Literal["+y", "-y"]
Keep = Literal["landmarks", "bolton", "root_apex"]


def _moved(value: str) -> str:
    if value:
        text = "run `dentalign pseudonymise SRC DEST`, name DEST's files under `source`, and delete this line"
        raise PydanticCustomError("moved", text)
    return value


class Source(Section):
    """Section `source`: locations of the cases.

    cases         : case list (CSV)
    json_, meshes : folder, URL prefix, or `.url` file with a URL prefix in it
    buccal_axis   : buccal axis of the exporter's tooth-local frame
    """

    cases: str
    json_: str = Field(alias="json")
    meshes: str
    buccal_axis: BuccalAxis = "+y"
    # Before `dentalign pseudonymise` existed, the pipeline stages renamed cases by this file.
    pseudonym_map: Annotated[str, AfterValidator(_moved)] = ""


class Fetch(Section):
    """Section `fetch`: requests to a server, and what of an export is kept beside the poses.

    keep : kinds of points to keep, see `case_document.POINTS`; none by default
    """

    concurrency: Positive = 8
    timeout_s: PositiveFloat = 30.0
    retries: NotNegative = 4
    backoff_s: PositiveFloat = 0.5
    max_failed_share: Share = 0.2
    keep: list[Keep] = Field(default=[])


class Limits(Section):
    """Section `limits`: bounds beyond which a file, tooth or case is left out."""

    max_dropped_teeth: NotNegative = 4
    max_json_mb: PositiveFloat = 64.0
    max_mesh_mb: PositiveFloat = 64.0
    min_crown_mm: PositiveFloat = 2.0
    max_crown_mm: PositiveFloat = 40.0
    max_crown_height_mm: PositiveFloat = 15.0
    max_from_origin_mm: PositiveFloat = 8.0
    min_mouth_size: PositiveFloat = 0.5
    max_mouth_size: PositiveFloat = 2.0
    max_turn_deg: PositiveFloat = 45.0
    max_from_arch_mm: PositiveFloat = 20.0
    max_off_arch_mm: PositiveFloat = 5.0
    max_jaws_apart_mm: PositiveFloat = 15.0
    max_tooth_turn_deg: PositiveFloat = 140.0
    max_turn_away_deg: PositiveFloat = 40.0
    min_movement_mm: NotNegativeFloat = 0.01
    max_tooth_movement_mm: PositiveFloat = 18.0
    max_arch_movement_mm: PositiveFloat = 12.0
    max_arch_turn_deg: PositiveFloat = 20.0
    max_jaw_movement_mm: PositiveFloat = 12.0
    max_extracted_of_arch: NotNegative = 6


class Sample(Section):
    """Section `sample`: sampling of points on a crown."""

    points: Annotated[int, Field(ge=8, multiple_of=2)] = 256
    oversampling: Annotated[int, Field(ge=2, le=64)] = 8
    seed: NotNegative = 0
    workers: NotNegative = 0
