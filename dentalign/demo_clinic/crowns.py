"""Made-up crowns: closed triangle meshes with the sizes and the look of real teeth.

A crown is lofted from rings. The wall rings rise from the cervical line over the height of contour to
the occlusal rim (or the incisal edge); the inner rings close the top over a height field with cusps,
ridges and fissures, and a shallow cap closes the cervix. All crowns of a kind share their faces.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline

from dentalign import teeth
from dentalign.demo_clinic import anatomy
from dentalign.geometry.rigid import Array

AROUND = 40  # vertices in a ring
_ANGLE = 2 * np.pi * np.arange(AROUND) / AROUND
_COS, _SIN = np.cos(_ANGLE), np.sin(_ANGLE)
# Heights of the wall rings as shares of the wall's, sizes of the inner rings and of the base's.
_FRONT_WALL = np.array([[0, 0.05, 0.12, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.79, 0.87, 0.94, 1.0]]).T
_BACK_WALL = np.array([[0, 0.06, 0.14, 0.24, 0.34, 0.44, 0.54, 0.64, 0.74, 0.84, 0.93, 1.0]]).T
_FRONT_TOP = np.array([[0.9, 0.72, 0.48, 0.24]]).T
_BACK_TOP = np.array([[0.91, 0.81, 0.70, 0.59, 0.48, 0.37, 0.26, 0.13]]).T
_BASE = np.array([0.45, 0.8])


@dataclass(frozen=True)
class Crown:
    """Crown in its tooth-local frame.

    fdi      : FDI number
    vertices : (V, 3) float64, mm; origin at the area centroid, +z to the tip, +y buccal
    faces    : (F, 3) int, wound outwards
    """

    fdi: int
    vertices: Array
    faces: NDArray[np.int64]


@dataclass(frozen=True)
class Variation:
    """Deviation of one patient's tooth from the published mean of its kind.

    size  : (3,) factors of width, depth and height
    shape : (6,) standard scores: cusp heights, depth of fossa or fissures, squareness, neck, taper, contour
    """

    size: Array
    shape: Array


def make(fdi: int, variation: Variation | None = None) -> Crown:
    """Make the crown of a tooth; without a variation, the mean tooth of its kind.

    The greatest width, depth and height are those of `anatomy.size_of` times the variation's factors.
    Antimeres made with one variation are exact mirror images in x.
    """
    change = variation or Variation(np.ones(3), np.zeros(6))
    size, form = anatomy.size_of(fdi), anatomy.shape_of(fdi)
    if isinstance(form, anatomy.Front):
        points = _front(form, size, change.shape)
    else:
        points = _back(form, size, change.shape, bulge=fdi in teeth.PRIMARY)
    wanted = np.array([size.width, size.depth, size.height]) * change.size
    points = points * (wanted / np.ptp(points, axis=0))
    faces = _faces(len(points))
    if anatomy.is_mirrored(fdi):
        points = points * [-1.0, 1.0, 1.0]
        faces = faces[:, ::-1]
    return Crown(fdi, points - _area_centroid(points, faces), faces)


def _area_centroid(points: Array, faces: NDArray[np.int64]) -> Array:
    a, b, c = points[faces[:, 0]], points[faces[:, 1]], points[faces[:, 2]]
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    return np.asarray(area @ (a + b + c) / (3 * area.sum()))


def _curve(places: Array, knots: dict[float, float]) -> Array:
    """Evaluate a shape-preserving curve through knots (place -> value)."""
    x = np.array(sorted(knots))
    y = np.array([knots[k] for k in sorted(knots)])
    rise = np.diff(y) / np.diff(x)
    # Fritsch and Butland 1984, doi:10.1137/0905021 (harmonic mean slopes).
    slope = np.zeros(len(x))
    same = rise[:-1] * rise[1:] > 0
    slope[1:-1][same] = 2 * rise[:-1][same] * rise[1:][same] / (rise[:-1][same] + rise[1:][same])
    slope[0], slope[-1] = rise[0], rise[-1]
    return np.asarray(CubicHermiteSpline(x, y, slope)(places))


def _ring(reach: Sequence[Array], square: tuple[Array, Array]) -> tuple[Array, Array]:
    """Superellipse rings: x and y (K, AROUND).

    reach  : half sizes (K, 1), mesial, distal, buccal, lingual
    square : exponents (K, 1), buccal, lingual
    """
    mesial, distal, buccal, lingual = reach
    upper = _SIN >= 0
    power = 2 / np.where(upper, square[0], square[1])
    x = np.sign(_COS) * np.abs(_COS) ** power * np.where(_COS > 0, mesial, distal)
    y = np.sign(_SIN) * np.abs(_SIN) ** power * np.where(upper, buccal, lingual)
    return x, y


def _front(form: anatomy.Front, size: anatomy.Size, score: Array) -> Array:
    """Vertices (V, 3) of an incisor or canine, mm, before the exact scaling."""
    t = _FRONT_WALL
    half_w, half_d, height = size.width / 2, size.depth / 2, size.height
    neck_w, neck_d = size.neck_width / 2 * (1 + 0.03 * score[3]), size.neck_depth / 2
    sides = []
    for contact, edge in zip(form.contacts, form.edge, strict=True):
        swell = neck_w + (half_w - neck_w) * 0.62
        sides.append(_curve(t, {0.0: neck_w, contact * 0.5: swell, contact: half_w, 1.0: half_w * edge}))
    edge_y, edge_half = form.edge_place * half_d, form.edge_half_mm
    labial = {
        0.0: neck_d,
        0.16: half_d,
        0.45: half_d * 0.93 + 0.07 * edge_y,
        0.75: 0.55 * half_d + 0.45 * (edge_y + edge_half),
        1.0: edge_y + edge_half,
    }
    lingual = {
        0.0: neck_d,
        0.14: half_d * (1 + 0.04 * score[5]),
        0.30: half_d * 0.86,
        0.55: 0.40 * half_d + 0.6 * (edge_half - edge_y),
        0.8: 0.10 * half_d + 0.9 * (edge_half - edge_y),
        1.0: edge_half - edge_y,
    }
    square_b = _curve(t, {0.0: 2.1, 0.5: 2.5, 1.0: 3.0}) * (1 + 0.03 * score[2])
    square_l = _curve(t, {0.0: 1.9, 0.35: 1.7, 0.7: 2.2, 1.0: 3.0})
    x, y = _ring((*sides, _curve(t, labial), _curve(t, lingual)), (square_b, square_l))

    def top(x: Array, y: Array) -> Array:
        mesial = x > 0
        u = np.abs(x) / half_w
        fall = np.where(mesial, *form.point) * (1 + 0.15 * score[0])
        corner = np.where(mesial, *form.rounding)
        soft = np.sqrt(u**2 + 0.012) - np.sqrt(0.012)
        return np.asarray(height * (1 - fall * soft - corner * u**5))

    cervix = np.where(_COS > 0, *form.neck_curve) * height * 0.8 * _COS**2
    # The lingual face: a fossa between marginal ridges; the labial face: a ridge or faint furrows.
    u = x / half_w
    hollow = form.fossa * (1 + 0.2 * score[1]) * half_d * np.exp(-(((t - 0.62) / 0.20) ** 2))
    hollow = hollow * np.clip(1 - (u / 0.62) ** 2, 0, 1) * np.clip(-_SIN, 0, None) ** 0.5
    bump = form.labial_ridge * half_d * (np.exp(-((u / 0.35) ** 2)) * np.sin(np.pi * t))
    y = y + np.where(_SIN < 0, hollow, 0.0) + np.where(_SIN > 0, bump, 0.0)
    # The edge is rounded across its thickness: lower at the rim than in the middle.
    return _assemble(x, y, t, cervix, _FRONT_TOP, (0.0, edge_y), top, 0.35 * edge_half)


def _back(form: anatomy.Back, size: anatomy.Size, score: Array, bulge: bool) -> Array:
    """Vertices (V, 3) of a premolar or molar, mm, before the exact scaling."""
    t = _BACK_WALL
    half = np.array([size.width, size.width, size.depth, size.depth]) / 2
    neck = np.array([size.neck_width, size.neck_width, size.neck_depth, size.neck_depth]) / 2
    neck = neck * (1 + 0.02 * score[3])
    proximal, buccal, lingual = np.array(form.equator) + 0.02 * score[5]
    belly = 0.9 if bulge else 0.72  # a primary molar swells right above the cervix
    reach = []
    for k, equator in enumerate((proximal, proximal, buccal, lingual)):
        rim = half[k] * form.rim[k]
        knots = {
            0.0: neck[k],
            equator * 0.45: neck[k] + (half[k] - neck[k]) * belly,
            equator: half[k],
            0.5 * (1 + equator): half[k] * 0.62 + rim * 0.38,
            0.92: half[k] * 0.2 + rim * 0.8,
            1.0: rim * 0.97,
        }
        reach.append(_curve(t, knots))
    square = _curve(t, {0.0: 2.1, 0.5: form.square, 1.0: form.square}) * (1 + 0.03 * score[2])
    x, y = _ring(reach, (square, square))
    half_w, half_d = half[0], half[2]
    for angle, depth in form.notches:
        away = np.angle(np.exp(1j * (_ANGLE - np.radians(angle))))
        dent = 1 - depth * np.exp(-((away / 0.21) ** 2)) * _curve(t, {0.0: 0.25, 0.5: 0.7, 1.0: 1.0})
        x, y = x * dent, y * dent
    x, y = _skew(form, x, y, half_w, half_d, score)

    def top(x: Array, y: Array) -> Array:
        return size.height + _relief(form, x, y, half_w, half_d, score)

    centre = float(x[-1].mean()), float(y[-1].mean())
    return _assemble(x, y, t, 0.10 * size.height * _COS**2, _BACK_TOP, centre, top)


def _skew(
    form: anatomy.Back, x: Array, y: Array, half_w: float, half_d: float, score: Array
) -> tuple[Array, Array]:
    """Apply lingual convergence and rhomboid shear to the outline."""
    v = y / half_d
    return x * (1 + (form.taper + 0.02 * score[4]) * v) + form.shear * half_w * v, y


def _relief(form: anatomy.Back, x: Array, y: Array, half_w: float, half_d: float, score: Array) -> Array:
    """Height above the highest cusp's level (mm, mostly negative) at points of the occlusal table."""

    def from_segment(x0: float, y0: float, x1: float, y1: float) -> tuple[Array, Array]:
        """Distance of the points to a segment of the table, and the nearest place along it (0 to 1)."""
        ends = np.array([x0, x1]) * half_w, np.array([y0, y1]) * half_d
        (ax, bx), (ay, by) = _skew(form, *ends, half_w, half_d, score)
        dx, dy = bx - ax, by - ay
        along = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
        return np.hypot(x - ax - along * dx, y - ay - along * dy), along

    steep = 1 + 0.08 * score[0]
    parts = []
    for cusp in form.cusps:
        px, py = _skew(form, np.array(cusp.x * half_w), np.array(cusp.y * half_d), half_w, half_d, score)
        away = np.sqrt((x - px) ** 2 + (y - py) ** 2 + 0.5) - np.sqrt(0.5)
        parts.append(-cusp.drop * steep - cusp.slope * steep * away)
    for *ends, drop in form.ridges:
        away, share = from_segment(*ends)
        sag = 0.45 * (1 - (2 * share - 1) ** 2)  # a crest hangs between its cusps
        parts.append(-(drop - 0.25 + sag) * steep - 0.55 * (np.sqrt(away**2 + 0.16) - 0.4))
    stacked = np.stack(parts)
    softness = 0.14  # mm: rounding where two slopes meet
    highest = stacked.max(axis=0)
    height = highest + softness * np.log(np.exp((stacked - highest) / softness).sum(axis=0))
    for *ends, depth in form.grooves:
        away, _ = from_segment(*ends)
        height = height - depth * (1 + 0.2 * score[1]) * np.exp(-((away / 0.6) ** 2))
    return np.asarray(height)


def _assemble(
    x: Array,
    y: Array,
    share: Array,
    cervix: Array,
    inner: Array,
    centre: tuple[float, float],
    top: Callable[[Array, Array], Array],
    rounding: float = 0.0,
) -> Array:
    """Stack base centre, base rings, wall rings, cap rings and top centre: (V, 3).

    x, y     : (K, AROUND) wall rings, the last the rim; `share` (K, 1) of the way up from `cervix` (AROUND,)
    inner    : (C, 1) sizes of the cap rings, which shrink towards `centre`
    top      : height of the cap at x and y
    rounding : height of the middle of the cap above that, mm, which falls to 0 at the rim
    """
    sizes = np.append(inner, [[0.0]], axis=0)
    cap_x, cap_y = (middle + (ring[-1] - middle) * sizes for middle, ring in zip(centre, (x, y), strict=True))
    cap = np.stack([cap_x, cap_y, top(cap_x, cap_y) + rounding * np.sqrt(1 - sizes**2)], axis=-1)
    wall = np.stack([x, y, cervix + share * (top(x[-1], y[-1]) - cervix)], axis=-1)
    foot = wall[0].mean(axis=0) - [0, 0, 0.25]
    base = foot + (wall[0] - foot) * _BASE[:, None, None]
    rings = np.concatenate([base, wall, cap[:-1]])
    return np.concatenate([foot[None], rings.reshape(-1, 3), cap[-1, :1]])


def _faces(count: int) -> NDArray[np.int64]:
    """Faces (F, 3) of a stack of rings between two poles, wound outwards."""
    ring = np.arange(1, count - 1).reshape(-1, AROUND)
    after = np.roll(ring, -1, axis=1)
    a, b, c, d = ring[:-1], after[:-1], ring[1:], after[1:]
    # The diagonal is mirrored from quarter to quarter, so that the mesh is as symmetric as the tooth.
    odd = (np.arange(AROUND) // (AROUND // 4)) % 2 == 1
    first = np.stack([a, b, np.where(odd, d, c)], axis=-1)
    second = np.stack([np.where(odd, a, b), d, c], axis=-1)
    bottom = np.stack([np.zeros_like(a[0]), after[0], ring[0]], axis=-1)
    top = np.stack([ring[-1], after[-1], np.full_like(a[0], count - 1)], axis=-1)
    return np.concatenate([bottom, np.stack([first, second], axis=1).reshape(-1, 3), top])
