"""Measures between the arches: overjet, overbite, midlines, molar and canine relation, crossbites. In mm."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dentalign.clinical.landmarks import LANDMARK_INDEX
from dentalign.clinical.mouth_points import QUADRANTS, SIDES, MouthPoints, NotMeasurable
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.rigid import Array
from dentalign.mouth import EDGE_POINTS
from dentalign.teeth import ARCHES, LOWER, SLOT_INDEX

CLASS_LIMIT_MM = 2.0  # half of the width of one cusp
NEAR_MM = 8.0  # an upper tooth farther from the lower teeth has no antagonist
_BEYOND_MM = 2.0  # nor has one that stands so far beyond an end of the lower line
_EDGE = [LANDMARK_INDEX[name] for name in ("edge_mesial", "edge_middle", "edge_distal", *EDGE_POINTS)]
LEVEL_MM = 0.03  # points of an edge that differ by less, which a scanner cannot tell apart, are level
# Mid-plane: widths and depths of the arch vary by this share, teeth stray by so many mm.
_FORM_SPREAD, _STRAY_MM, _FAR_MM = np.array([0.06, 0.06, 0.12]), 1.2, 2.5


def overjet_and_overbite_mm(mouth: MouthPoints, level_mm: float = LEVEL_MM) -> tuple[float, float]:
    """Overjet and overbite of the central incisors.

    The point of each incisal edge that stands farthest towards the other arch is taken, and the mean of the
    two sides in each arch. Overjet: how far the upper point lies in front of the lower one, along the
    occlusal plane; norm 1 to 3 mm. Overbite: how far it reaches below the lower one, perpendicular to the
    plane; norm 1 to 3 mm, negative for an open bite. A missing or primary central incisor leaves that of the
    other side; not measurable where both of an arch are. Source: Proffit, "Contemporary Orthodontics"; edge
    to edge.

    level_mm : points of an edge that differ less in height count as level, and the point midway between the
               two that are farthest apart is taken; 0 for the highest point alone
    """
    lower, upper = (_front_edge(mouth, arch, level_mm) for arch in ("lower", "upper"))
    return float(lower[1] - upper[1]), float(lower[2] - upper[2])


def _front_edge(mouth: MouthPoints, arch: str, level_mm: float) -> Array:
    """Mean of the highest edge points (3,) of the central incisors."""
    teeth = mouth.present_of(*(10 * quadrant + 1 for quadrant in QUADRANTS[arch]))
    return np.mean([edge_point(mouth, tooth, level_mm) for tooth in teeth], axis=0)


def edge_point(mouth: MouthPoints, fdi: int, level_mm: float) -> Array:
    """Point (3,) of an incisal edge farthest towards the other arch; of a level edge the middle."""
    mouth.at(fdi, "edge_middle")
    points = mouth.points[SLOT_INDEX[fdi], _EDGE]
    points = points[np.isfinite(points).all(1)]
    height = points[:, 2] * (-1.0 if fdi // 10 in (1, 2) else 1.0)
    level = points[height >= height.max() - level_mm]
    apart = np.linalg.norm(level[:, None] - level, axis=-1)
    one, other = np.unravel_index(np.argmax(apart), apart.shape)
    return np.asarray((level[one] + level[other]) / 2)


def midline_mm(mouth: MouthPoints, arch: str) -> float:
    """Dental midline of an arch, positive to the patient's left of the arch's own mid-plane.

    The midline lies midway between the centres of the central incisors, each midway between its contact
    points, so that a rotated incisor moves it little. The mid-plane is that of a symmetric arch fitted to all
    teeth, see `mid_plane_mm`; it is parallel to the sagittal plane of the mouth (both arches). Norm 0 +- 1
    mm. Not measurable where a central incisor is missing, extracted or primary.
    """
    return float(midline_x(mouth, arch) - mid_plane_mm(mouth, arch))


def midline_x(mouth: MouthPoints, arch: str) -> float:
    """Position x of the dental midline of an arch in the axes of the mouth, see `midline_mm`."""
    teeth = [10 * quadrant + 1 for quadrant in QUADRANTS[arch]]
    mouth.require(*teeth)
    ends = [mouth.at(fdi, f"{side}_contact")[0] for fdi in teeth for side in ("mesial", "distal")]
    return float(np.mean(ends))


def mid_plane_mm(mouth: MouthPoints, arch: str) -> float:
    """Position x of an arch's mid-plane in the axes of the mouth.

    The average arch, moved and made wider, more tapered or deeper, is fitted to the points midway between the
    contact points of each tooth, by least squares of the distance outwards, so that incisors which all lean
    to one side do not move it. Teeth out of line count less (Cauchy weights). Raises NotMeasurable with fewer
    than six teeth.
    """
    average = average_mouth()
    ends = [LANDMARK_INDEX["mesial_contact"], LANDMARK_INDEX["distal_contact"]]
    place = mouth.points[:, ends].mean(1)
    slots = ARCHES[arch][mouth.present[ARCHES[arch]] & np.isfinite(place[ARCHES[arch]]).all(1)]
    if len(slots) < 6:
        raise NotMeasurable(f"the {arch} mid-plane needs 6 teeth, {len(slots)} stand")
    x, y = average.position[slots, :2].T
    y = y - y.mean()
    out = average.outward[slots, :2]
    away = place[slots, :2] - np.stack([x, y], axis=1)
    # Columns: x and y of the arch; its width, taper and depth.
    taper = x * (x / np.abs(x).max()) ** 2
    design = np.stack([out[:, 0], out[:, 1], x * out[:, 0], taper * out[:, 0], y * out[:, 1]], axis=1)
    rest = (away * out).sum(1)
    prior = np.diag([0.0, 0.0, *(_STRAY_MM / _FORM_SPREAD) ** 2])
    weight = np.ones(len(slots))
    for _ in range(8):
        weighted = design.T * weight
        solution = np.linalg.solve(weighted @ design + prior, weighted @ rest)
        weight = 1 / (1 + ((rest - design @ solution) / _FAR_MM) ** 2)
    return float(solution[0])


def molar_relation_mm(mouth: MouthPoints, side: str, position: int = 6) -> float:
    """Molar relation: how far the lower first molar stands distal of Class I.

    In Class I the mesiobuccal cusp of the upper first molar meets the buccal groove of the lower one, which
    lies midway between its mesiobuccal and distobuccal cusps. The distance of the two points from front to
    back is positive where the lower molar is too far distal (towards Class II). Norm -1 to 1 mm. Not
    measurable where one of the two molars is missing, extracted or primary. Source: Angle 1899,
    "Classification of malocclusion", Dent Cosmos 41:248-264; cusp and groove as in Andrews 1972.

    position : 7 for the second molars, in the same way
    """
    upper, lower = (10 * quadrant + position for quadrant in SIDES[side])
    mouth.require(upper, lower)
    groove = (mouth.at(lower, "buccal_cusp") + mouth.at(lower, "distobuccal_cusp")) / 2
    return float(groove[1] - mouth.at(upper, "buccal_cusp")[1])


def canine_relation_mm(mouth: MouthPoints, side: str, position: int = 3) -> float:
    """Canine relation: how far the lower canine stands distal of Class I.

    In Class I the cusp of the upper canine stands over the distal contact point of the lower one. The
    distance of the two points in the occlusal plane, in the direction in which the average lower arch runs
    distally at the canine, is positive where the lower canine is too far distal. Norm -1 to 1 mm. Not
    measurable where one of the two canines is missing, extracted or primary. Source: as `molar_relation_mm`.

    position : 4 or 5 for the premolars, in the same way
    """
    upper, lower = (10 * quadrant + position for quadrant in SIDES[side])
    mouth.require(upper, lower)
    outward = average_mouth().outward[SLOT_INDEX[lower], :2]
    distal = np.array([-outward[1], outward[0]])
    distal = distal * np.sign(distal[1])
    return float((mouth.at(lower, "distal_contact") - mouth.at(upper, "buccal_cusp"))[:2] @ distal)


def angle_class(relation_mm: float) -> str:
    """Class "I", "II" or "III" of a molar or canine relation.

    Class I up to half of the width of one cusp, 2 mm, in either direction (Angle 1899).
    """
    if abs(relation_mm) <= CLASS_LIMIT_MM:
        return "I"
    return "II" if relation_mm > 0 else "III"


@dataclass(frozen=True)
class Antagonist:
    """Position of an upper tooth over the lower arch, mm.

    outwards : of its edge or buccal cusp from the line along the lower edges and buccal cusps, positive on
               the side of lip and cheek
    above    : of the same point over that line, perpendicular to the occlusal plane; positive for an open
               bite
    lingual_outwards : of its lingual cusp from the line; None for front teeth
    """

    outwards: float
    above: float
    lingual_outwards: float | None = None


def crossbites(mouth: MouthPoints) -> tuple[list[int], list[int]]:
    """FDI numbers of the upper teeth in crossbite, and of those in scissor bite.

    Compared with the line along the edges and buccal cusps of the lower arch, in the occlusal plane.
    Crossbite: edge or buccal cusp of the upper tooth stands lingual of it. Scissor bite: the lingual cusp of
    an upper premolar or molar stands buccal of it. Norm: none. Primary teeth are measured too. A tooth over a
    gap of the lower arch, or more than 8 mm from the line, is left out. Not measurable where no lower tooth
    stands. Source: Richmond et al. 1992 (PAR), transverse and anterior crossbite.
    """
    found = antagonists(mouth)
    crossed = sorted(fdi for fdi, one in found.items() if one.outwards < 0)
    scissor = sorted(
        fdi for fdi, one in found.items() if one.lingual_outwards is not None and one.lingual_outwards > 0
    )
    return crossed, scissor


def antagonists(mouth: MouthPoints) -> dict[int, Antagonist]:
    """Find how the upper teeth stand over the lower arch: FDI number in the file -> `Antagonist`."""
    pieces = lower_line(mouth)
    if not len(pieces):
        raise NotMeasurable("no lower tooth stands")
    found = {}
    for slot in ARCHES["upper"][mouth.present[ARCHES["upper"]]].tolist():
        edge, buccal, lingual = (
            mouth.points[slot, LANDMARK_INDEX[name]]
            for name in ("edge_middle", "buccal_cusp", "lingual_cusp")
        )
        near = _over_line(buccal if np.isfinite(buccal).all() else edge, pieces)
        if near is not None:
            inner = _over_line(lingual, pieces)
            found[int(mouth.fdi[slot])] = Antagonist(*near, None if inner is None else inner[0])
    return found


def lower_line(mouth: MouthPoints) -> Array:
    """Pieces (K, 2, 3) of the line along edges and buccal cusps of the lower arch, from left to right.

    Neighbouring teeth are joined; over a missing tooth the line is interrupted.
    """
    names = ("edge_distal", "edge_middle", "edge_mesial", "distobuccal_cusp", "buccal_cusp")
    columns = [LANDMARK_INDEX[name] for name in names]
    pieces: list[tuple[Array, Array]] = []
    last: list[Array] = []
    for slot, fdi in enumerate(LOWER):
        points = mouth.points[slot, columns]
        points = points[np.isfinite(points).all(1)] if mouth.present[slot] else points[:0]
        along = list(points if fdi // 10 == 3 else points[::-1])  # on the right mesial comes first
        pieces += pairwise([*last, *along])
        last = along[-1:]
    return np.array(pieces).reshape(-1, 2, 3)


def _over_line(point: Array, pieces: Array) -> tuple[float, float] | None:
    """Distance of a point (3,) outwards from the nearest piece of the line, and above it.

    None for NaN, if the line is more than NEAR_MM away, or if the point lies beyond an end of it.
    """
    if not np.isfinite(point).all():
        return None
    start, step = pieces[:, 0], pieces[:, 1] - pieces[:, 0]
    flat = step[:, :2]
    length = np.sqrt(np.maximum((flat**2).sum(1), 1e-12))
    share = ((point - start)[:, :2] * flat).sum(1) / length**2
    foot = start + np.clip(share, 0, 1)[:, None] * step
    away = np.linalg.norm((point - foot)[:, :2], axis=1)
    one = int(np.argmin(away))
    if away[one] > NEAR_MM:
        return None
    over = max(-share[one], share[one] - 1) * length[one]
    end = pieces[one, 0 if share[one] < 0 else 1]
    if over > _BEYOND_MM and (pieces == end).all(-1).sum() < 2:
        return None
    normals = np.stack([-flat[:, 1], flat[:, 0]], axis=1) / length[:, None]  # up cross from left to right
    # Of a corner both pieces are nearest; their mean normal tells its sides (Baerentzen and Aanaes 2005).
    outwards = normals[away < away[one] + 1e-9].mean(0)
    side = float(np.sign((point - foot[one])[:2] @ outwards))
    return side * float(away[one]), float((point - foot[one])[2])
