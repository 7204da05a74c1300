"""Published sizes of crowns, and the shape constants of each kind of tooth, from `crowns.toml`.

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
    """Crown dimensions in mm.

    height       : crown length on the buccal side
    width        : greatest mesio-distal diameter
    neck_width   : mesio-distal diameter at the cervix
    depth        : greatest bucco-lingual (labio-lingual) diameter
    neck_depth   : bucco-lingual diameter at the cervix
    """

    height: float
    width: float
    neck_width: float
    depth: float
    neck_depth: float


@dataclass(frozen=True)
class Front:
    """Shape of an incisor or canine; lengths as shares of half the width, half the depth or the height.

    contacts      : heights of the mesial and distal contact points
    edge          : mesial and distal half width of the incisal edge
    edge_place    : place of the edge between lingual (-1) and labial (+1)
    edge_half_mm  : half thickness of the edge, mm
    point         : depth of the mesial and distal ends of the edge below its top
    rounding      : fall of the very corners
    fossa         : depth of the lingual fossa
    labial_ridge  : height of the ridge down the labial face
    neck_curve    : rise of the cervical line on the mesial and distal sides
    """

    contacts: tuple[float, float]
    edge: tuple[float, float]
    edge_place: float
    edge_half_mm: float
    point: tuple[float, float]
    rounding: tuple[float, float]
    fossa: float
    labial_ridge: float
    neck_curve: tuple[float, float]


@dataclass(frozen=True)
class Cusp:
    """Place of a cusp as shares of half the width (+ mesial) and half the depth (+ buccal).

    drop  : depth of the tip below the highest cusp, mm
    slope : steepness of its sides
    """

    x: float
    y: float
    drop: float
    slope: float = 0.62


@dataclass(frozen=True)
class Back:
    """Shape of a premolar or molar.

    cusps        : the cusps
    ridges       : crests with their drop: marginal ridges, oblique ridge
    grooves      : fissures with their depth
    rim          : half size of the occlusal table, mesial, distal, buccal, lingual
    equator      : heights of the greatest contour: proximal, buccal, lingual
    square       : exponent of the outline, 2 is an ellipse
    taper        : lingual convergence of the proximal sides (negative: buccal)
    shear        : distal displacement of the lingual side, as a share of half the width
    notches      : grooves on the sides, each (angle in degrees from mesial over buccal, depth share)
    """

    cusps: tuple[Cusp, ...]
    ridges: tuple[Segment, ...]
    grooves: tuple[Segment, ...]
    rim: tuple[float, float, float, float]
    equator: tuple[float, float, float]
    square: float
    taper: float
    shear: float
    notches: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Kind:
    """Kind of tooth; `shape` may name another kind, (arch, position), that it looks like."""

    size: Size
    shape: Front | Back | tuple[str, str]


def size_of(fdi: int) -> Size:
    """Published mean crown dimensions of a tooth; raises KeyError for primary incisors and canines."""
    return _kind(fdi).size


def shape_of(fdi: int) -> Front | Back:
    """Shape constants of a tooth; raises KeyError for primary incisors and canines."""
    shape = _kind(fdi).shape
    if isinstance(shape, tuple):
        arch, position = shape
        shape = _kinds()[arch][position].shape
    assert not isinstance(shape, tuple)
    return shape


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
