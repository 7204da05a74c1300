"""Published sizes of crowns, and the shape constants of each kind of tooth.

A kind is (arch, position): ("upper", 6) is the upper first molar; primary molars are positions 4 and 5
with primary=True. Shapes are written for quadrants 1 and 3: +x mesial, +y buccal, +z towards the tip.
"""

from dataclasses import dataclass

from dentalign import teeth


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


# Wheeler's table: S. J. Nelson and M. M. Ash, Wheeler's Dental Anatomy, Physiology and Occlusion,
# 9th ed. 2010, ch. 1, table 1-1.
UPPER_SIZES = {
    1: Size(10.5, 8.5, 7.0, 7.0, 6.0),
    2: Size(9.0, 6.5, 5.0, 6.0, 5.0),
    3: Size(10.0, 7.5, 5.5, 8.0, 7.0),
    4: Size(8.5, 7.0, 5.0, 9.0, 8.0),
    5: Size(8.5, 7.0, 5.0, 9.0, 8.0),
    6: Size(7.5, 10.0, 8.0, 11.0, 10.0),
    7: Size(7.0, 9.0, 7.0, 11.0, 10.0),
    8: Size(6.5, 8.5, 6.5, 10.0, 9.5),
}
LOWER_SIZES = {
    1: Size(9.0, 5.0, 3.5, 6.0, 5.3),
    2: Size(9.5, 5.5, 4.0, 6.5, 5.8),
    3: Size(11.0, 7.0, 5.5, 7.5, 7.0),
    4: Size(8.5, 7.0, 5.0, 7.5, 6.5),
    5: Size(8.0, 7.0, 5.0, 8.0, 7.0),
    6: Size(7.5, 11.0, 9.0, 10.5, 9.0),
    7: Size(7.0, 10.5, 8.0, 10.0, 9.0),
    8: Size(7.0, 10.0, 7.5, 9.5, 9.0),
}
# Primary molars: the same book, ch. 3 (after G. V. Black).
PRIMARY_UPPER_SIZES = {4: Size(5.1, 7.3, 5.2, 8.5, 6.9), 5: Size(5.7, 8.2, 6.4, 10.0, 8.3)}
PRIMARY_LOWER_SIZES = {4: Size(6.0, 7.7, 6.5, 7.0, 5.3), 5: Size(5.5, 9.9, 7.2, 8.7, 6.4)}


def size_of(fdi: int) -> Size:
    """Published mean crown dimensions of a tooth; raises KeyError for primary incisors and canines."""
    primary = fdi in teeth.PRIMARY
    if teeth.is_upper(fdi):
        return (PRIMARY_UPPER_SIZES if primary else UPPER_SIZES)[fdi % 10]
    return (PRIMARY_LOWER_SIZES if primary else LOWER_SIZES)[fdi % 10]


def is_mirrored(fdi: int) -> bool:
    """Whether +x of the tooth-local frame points distally (quadrants 2, 4, 6 and 8)."""
    return fdi // 10 % 2 == 0


@dataclass(frozen=True)
class Front:
    """Shape of an incisor or canine; lengths as shares of half the width, half the depth or the height.

    contacts      : heights of the mesial and distal contact points
    edge          : mesial and distal half width of the incisal edge
    edge_place    : where the edge stands between lingual (-1) and labial (+1)
    edge_half_mm  : half thickness of the edge, mm
    point         : how far the mesial and distal ends of the edge lie below its top
    rounding      : how far the very corners fall off
    fossa         : depth of the lingual fossa
    labial_ridge  : height of the ridge down the labial face
    neck_curve    : how far the cervical line rises on the mesial and distal sides
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


FRONT = {
    ("upper", 1): Front(
        (0.82, 0.68), (0.94, 0.90), 0.10, 0.55, (0.0, 0.01), (0.02, 0.09), 0.16, 0.0, (0.30, 0.22)
    ),
    ("upper", 2): Front(
        (0.76, 0.60), (0.88, 0.80), 0.08, 0.50, (0.01, 0.03), (0.05, 0.14), 0.16, 0.02, (0.30, 0.20)
    ),
    ("upper", 3): Front(
        (0.66, 0.55), (0.84, 0.84), 0.14, 0.80, (0.20, 0.27), (0.03, 0.06), 0.05, 0.07, (0.24, 0.15)
    ),
    ("lower", 1): Front(
        (0.88, 0.88), (0.96, 0.96), -0.02, 0.45, (0.0, 0.0), (0.02, 0.02), 0.07, 0.0, (0.32, 0.22)
    ),
    ("lower", 2): Front(
        (0.86, 0.82), (0.95, 0.93), -0.02, 0.47, (0.0, 0.015), (0.02, 0.04), 0.07, 0.0, (0.31, 0.21)
    ),
    ("lower", 3): Front(
        (0.72, 0.62), (0.86, 0.86), 0.02, 0.72, (0.14, 0.22), (0.03, 0.06), 0.04, 0.05, (0.22, 0.10)
    ),
}


@dataclass(frozen=True)
class Cusp:
    """A cusp: place as shares of half the width (+ mesial) and half the depth (+ buccal), drop in mm.

    drop  : how far the tip lies below the highest cusp
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
    ridges       : crests, each (x0, y0, x1, y1, drop in mm): marginal ridges, oblique ridge
    grooves      : fissures, each (x0, y0, x1, y1, depth in mm)
    rim          : half size of the occlusal table, mesial, distal, buccal, lingual
    equator      : heights of the greatest contour: proximal, buccal, lingual
    square       : exponent of the outline, 2 is an ellipse
    taper        : lingual convergence of the proximal sides (negative: buccal)
    shear        : how far the lingual side is shifted distally, as a share of half the width
    notches      : grooves on the sides, each (angle in degrees from mesial over buccal, depth share)
    """

    cusps: tuple[Cusp, ...]
    ridges: tuple[tuple[float, float, float, float, float], ...]
    grooves: tuple[tuple[float, float, float, float, float], ...]
    rim: tuple[float, float, float, float]
    equator: tuple[float, float, float]
    square: float
    taper: float
    shear: float
    notches: tuple[tuple[float, float], ...] = ()


_UPPER_PREMOLAR = Back(
    cusps=(Cusp(0.0, 0.58, 0.0, 0.62), Cusp(0.08, -0.52, 0.9, 0.55)),
    ridges=((0.80, 0.42, 0.80, -0.38, 2.0), (-0.80, 0.42, -0.80, -0.38, 2.1)),
    grooves=((0.52, 0.04, -0.52, 0.04, 0.55),),
    rim=(0.84, 0.82, 0.70, 0.66),
    equator=(0.62, 0.34, 0.50),
    square=2.35,
    taper=0.14,
    shear=-0.04,
)
_LOWER_SECOND_PREMOLAR = Back(
    cusps=(Cusp(0.02, 0.36, 0.0, 0.58), Cusp(0.32, -0.62, 1.3, 0.55), Cusp(-0.36, -0.60, 1.7, 0.55)),
    ridges=((0.80, 0.3, 0.78, -0.45, 2.0), (-0.80, 0.3, -0.78, -0.45, 2.1)),
    grooves=((0.5, -0.10, -0.5, -0.10, 0.5), (-0.02, -0.10, -0.02, -0.75, 0.4)),
    rim=(0.84, 0.82, 0.56, 0.76),
    equator=(0.64, 0.32, 0.55),
    square=2.4,
    taper=0.02,
    shear=0.0,
)
_UPPER_MOLAR_NOTCHES = ((93.0, 0.07), (-112.0, 0.05))
_LOWER_SECOND_MOLAR = Back(
    cusps=(Cusp(0.46, 0.52, 0.4), Cusp(-0.46, 0.50, 0.5), Cusp(0.46, -0.66, 0.0), Cusp(-0.46, -0.64, 0.15)),
    ridges=((0.84, 0.4, 0.84, -0.5, 1.8), (-0.84, 0.4, -0.84, -0.5, 1.9)),
    grooves=((0.6, -0.04, -0.6, -0.04, 0.6), (0.0, 0.75, 0.0, -0.8, 0.55)),
    rim=(0.86, 0.84, 0.66, 0.80),
    equator=(0.62, 0.30, 0.55),
    square=2.9,
    taper=0.03,
    shear=0.0,
    notches=((90.0, 0.07), (-90.0, 0.05)),
)
BACK = {
    ("upper", 4): _UPPER_PREMOLAR,
    ("upper", 5): Back(
        cusps=(Cusp(0.0, 0.56, 0.0, 0.55), Cusp(0.06, -0.54, 0.4, 0.52)),
        ridges=((0.78, 0.42, 0.78, -0.40, 1.7), (-0.78, 0.42, -0.78, -0.40, 1.8)),
        grooves=((0.40, 0.02, -0.40, 0.02, 0.5),),
        rim=(0.83, 0.81, 0.70, 0.68),
        equator=(0.62, 0.34, 0.50),
        square=2.3,
        taper=0.08,
        shear=-0.02,
    ),
    ("upper", 6): Back(
        cusps=(
            Cusp(0.50, 0.58, 0.1),
            Cusp(-0.36, 0.60, 0.3),
            Cusp(0.34, -0.54, 0.0, 0.55),
            Cusp(-0.58, -0.58, 1.0),
        ),
        ridges=(
            (0.86, 0.5, 0.84, -0.45, 1.7),
            (-0.82, 0.5, -0.90, -0.5, 1.9),
            (0.30, -0.44, -0.34, 0.5, 1.1),
        ),
        grooves=(
            (0.55, 0.02, 0.06, 0.10, 0.6),
            (0.06, 0.10, 0.08, 0.85, 0.55),
            (-0.66, 0.0, -0.38, -0.30, 0.4),
            (-0.38, -0.30, -0.16, -0.85, 0.55),
        ),
        rim=(0.86, 0.84, 0.72, 0.72),
        equator=(0.62, 0.32, 0.50),
        square=2.9,
        taper=-0.02,
        shear=0.14,
        notches=_UPPER_MOLAR_NOTCHES,
    ),
    ("upper", 7): Back(
        cusps=(
            Cusp(0.46, 0.58, 0.1),
            Cusp(-0.40, 0.56, 0.5),
            Cusp(0.30, -0.54, 0.0, 0.55),
            Cusp(-0.60, -0.50, 1.6),
        ),
        ridges=(
            (0.85, 0.5, 0.82, -0.45, 1.7),
            (-0.82, 0.45, -0.86, -0.4, 2.0),
            (0.26, -0.44, -0.36, 0.46, 1.2),
        ),
        grooves=(
            (0.52, 0.02, 0.04, 0.08, 0.55),
            (0.04, 0.08, 0.05, 0.8, 0.5),
            (-0.42, -0.24, -0.24, -0.8, 0.45),
        ),
        rim=(0.86, 0.82, 0.72, 0.72),
        equator=(0.62, 0.32, 0.50),
        square=2.7,
        taper=0.06,
        shear=0.16,
        notches=_UPPER_MOLAR_NOTCHES,
    ),
    ("upper", 8): Back(
        cusps=(Cusp(0.42, 0.56, 0.1), Cusp(-0.40, 0.50, 0.8), Cusp(0.10, -0.54, 0.2, 0.52)),
        ridges=((0.82, 0.45, 0.76, -0.4, 1.7), (-0.80, 0.40, -0.76, -0.4, 2.0)),
        grooves=((0.5, 0.04, -0.5, 0.06, 0.5), (0.02, 0.05, 0.02, 0.75, 0.45)),
        rim=(0.84, 0.80, 0.72, 0.72),
        equator=(0.62, 0.32, 0.50),
        square=2.4,
        taper=0.14,
        shear=0.10,
        notches=((93.0, 0.05),),
    ),
    ("lower", 4): Back(
        cusps=(Cusp(0.03, 0.26, 0.0, 0.62), Cusp(0.08, -0.66, 3.0, 0.5)),
        ridges=((0.78, 0.2, 0.66, -0.55, 2.9), (-0.78, 0.2, -0.68, -0.55, 2.6)),
        grooves=((0.45, -0.34, -0.45, -0.30, 0.45), (0.60, -0.34, 0.48, -0.8, 0.3)),
        rim=(0.82, 0.80, 0.50, 0.80),
        equator=(0.66, 0.30, 0.62),
        square=2.2,
        taper=0.16,
        shear=0.0,
    ),
    ("lower", 5): _LOWER_SECOND_PREMOLAR,
    ("lower", 6): Back(
        cusps=(
            Cusp(0.56, 0.52, 0.4),
            Cusp(-0.10, 0.54, 0.5),
            Cusp(-0.68, 0.30, 1.0),
            Cusp(0.46, -0.66, 0.0),
            Cusp(-0.42, -0.64, 0.15),
        ),
        ridges=((0.86, 0.4, 0.86, -0.5, 1.8), (-0.88, 0.2, -0.84, -0.5, 2.0)),
        grooves=(
            (0.64, -0.04, -0.62, -0.06, 0.6),
            (0.24, -0.02, 0.26, 0.85, 0.55),
            (-0.42, -0.04, -0.46, 0.75, 0.45),
            (0.02, -0.04, 0.02, -0.85, 0.5),
        ),
        rim=(0.86, 0.84, 0.66, 0.80),
        equator=(0.62, 0.30, 0.55),
        square=2.9,
        taper=0.06,
        shear=-0.03,
        notches=((74.0, 0.07), (122.0, 0.05), (-88.0, 0.05)),
    ),
    ("lower", 7): _LOWER_SECOND_MOLAR,
    ("lower", 8): Back(
        cusps=(
            Cusp(0.46, 0.48, 0.4),
            Cusp(-0.44, 0.44, 0.7),
            Cusp(0.44, -0.62, 0.0),
            Cusp(-0.42, -0.58, 0.5),
        ),
        ridges=((0.82, 0.4, 0.80, -0.45, 1.7), (-0.80, 0.35, -0.78, -0.45, 1.9)),
        grooves=((0.55, -0.04, -0.55, -0.04, 0.5), (0.0, 0.7, 0.0, -0.75, 0.45)),
        rim=(0.84, 0.80, 0.66, 0.78),
        equator=(0.62, 0.30, 0.55),
        square=2.5,
        taper=0.05,
        shear=0.0,
        notches=((90.0, 0.05), (-90.0, 0.04)),
    ),
}
# A second primary molar looks like the first permanent molar behind it; a first primary molar is
# nearest to a premolar with a broad base.
PRIMARY_MODEL = {
    ("upper", 4): ("upper", 5),
    ("upper", 5): ("upper", 6),
    ("lower", 4): ("lower", 8),
    ("lower", 5): ("lower", 6),
}
