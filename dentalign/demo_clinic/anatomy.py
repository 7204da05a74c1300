"""Published sizes of crowns, and shape constants of each kind of tooth, from `crowns.toml`.

Shapes are written for quadrants 1 and 3: +x mesial, +y buccal, +z towards the tip.
"""

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources

from pydantic import TypeAdapter

from dentalign import teeth

Segment = tuple[float, float, float, float, float]  # x0, y0, x1, y1, and its drop or depth in mm


@dataclass(frozen=True)
class Size:
    """Crown dimensions in mm."""

    height: float  # crown length on the buccal side
    width: float  # greatest mesio-distal diameter
    neck_width: float  # mesio-distal diameter at the cervix
    depth: float  # greatest bucco-lingual (labio-lingual) diameter
    neck_depth: float  # bucco-lingual diameter at the cervix


@dataclass(frozen=True)
class Front:
    """Shape of an incisor or canine; lengths are shares of half the width, half the depth or the height."""

    contacts: tuple[float, float]  # heights of the mesial and distal contact points
    edge: tuple[float, float]  # mesial and distal half width of the incisal edge
    edge_place: float  # place of the edge between lingual (-1) and labial (+1)
    edge_half_mm: float  # half thickness of the edge, mm
    point: tuple[float, float]  # depth of the mesial and distal ends of the edge below its top
    rounding: tuple[float, float]  # fall of the very corners
    fossa: float  # depth of the lingual fossa
    labial_ridge: float  # height of the ridge down the labial face
    neck_curve: tuple[float, float]  # rise of the cervical line on the mesial and distal sides


@dataclass(frozen=True)
class Cusp:
    """Cusp; x is a share of half the crown's width (+ mesial), y a share of half its depth (+ buccal)."""

    x: float
    y: float
    drop: float  # depth of the tip below the highest cusp, mm
    slope: float = 0.62  # steepness of its sides


@dataclass(frozen=True)
class Back:
    """Shape of a premolar or molar."""

    cusps: tuple[Cusp, ...]
    ridges: tuple[Segment, ...]  # crests with their drop: marginal ridges, oblique ridge
    grooves: tuple[Segment, ...]  # fissures with their depth
    rim: tuple[float, float, float, float]  # half size of the occlusal table, mesial, distal, buccal, lingual
    equator: tuple[float, float, float]  # heights of the greatest contour: proximal, buccal, lingual
    square: float  # exponent of the outline, 2 is an ellipse
    taper: float  # lingual convergence of the proximal sides (negative: buccal)
    shear: float  # distal displacement of the lingual side, as a share of half the width
    # Grooves on the sides: angle in degrees from mesial over buccal, depth share.
    notches: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Kind:
    """Kind of tooth: its size, and its shape or the FDI number of another tooth that has the same shape."""

    size: Size
    shape: Front | Back | int


def size_of(fdi: int) -> Size:
    """Published mean dimensions of a crown, mm; raises KeyError for primary incisors and canines."""
    return _kind(fdi).size


def shape_of(fdi: int) -> Front | Back:
    """Shape constants of a tooth; raises KeyError for primary incisors and canines."""
    shape = _kind(fdi).shape
    return shape_of(shape) if isinstance(shape, int) else shape


def is_mirrored(fdi: int) -> bool:
    """True if +x of the tooth-local frame points distally (quadrants 2, 4, 6 and 8)."""
    return fdi // 10 % 2 == 0


def _kind(fdi: int) -> Kind:
    arch = "upper" if teeth.is_upper(fdi) else "lower"
    return _kinds()[f"primary_{arch}" if fdi in teeth.PRIMARY else arch][str(fdi % 10)]


@functools.cache
def _kinds() -> dict[str, dict[str, Kind]]:
    text = resources.files("dentalign.demo_clinic").joinpath("crowns.toml").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, dict[str, Kind]]).validate_python(tomllib.loads(text))
