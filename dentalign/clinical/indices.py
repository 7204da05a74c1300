"""Occlusal indices: the PAR index, and the parts of the ABO's objective grading that landmarks allow."""

from itertools import pairwise

import numpy as np

from dentalign.clinical import arch, bite
from dentalign.clinical.mouth_points import SIDES, MouthPoints, NotMeasurable, arch_teeth
from dentalign.teeth import successor

# Weights of the components in the British system; displacements in the buccal segments have none.
PAR_WEIGHTS = {
    "upper_anterior": 1, "lower_anterior": 1, "buccal_right": 1, "buccal_left": 1,
    "overjet": 6, "overbite": 2, "centreline": 4,
}  # fmt: skip
# Parts of the objective grading that landmarks do not show.
OGS_NOT_MEASURABLE = {
    "alignment": "needs grooves and incisal surfaces; see irregularity_upper_mm and irregularity_lower_mm",
    "overjet": "needs the surfaces of both arches; see overjet_mm",
    "occlusal_contacts": "needs the surfaces of both arches",
    "root_angulation": "needs a panoramic radiograph",
}
_UNIT_MM = 7.0  # width of a premolar: from Class I to a full Class II
_INTERDIGITATED_MM, _HALF_UNIT_MM = 1.0, 3.0
_EDGE_TO_EDGE_MM = 0.5
_TENDENCY_MM = 0.5  # a buccal cusp that stands no farther out tends to a crossbite
_OPEN_MM = 2.0
_CROWN_MM = 9.0  # mean height of a lower central incisor's crown (Nelson, "Wheeler's Dental Anatomy")


def par_components(mouth: MouthPoints) -> dict[str, int]:
    """Components of the PAR index, points before weighting.

    upper_anterior, lower_anterior : for each pair of neighbours from canine to canine, the distance of their
        contact points in the occlusal plane: 1 point above 1 mm, 2 above 2, 3 above 4, 4 above 8. Spaces of
        missing teeth are not counted; neither is impaction, which models do not show
    buccal_right, buccal_left : sagittal: distance of the molar relation from full interdigitation, which
        comes every 7 mm: 1 above 1 mm, 2 above 3 mm (half a unit); vertical: 1 if two teeth are open by more
        than 2 mm; transverse: 1 for a tendency to crossbite (0.5 mm), 2 one tooth in crossbite, 3 several, 4
        several in scissor bite
    overjet    : 1 above 3 mm, 2 above 5, 3 above 7, 4 above 9; added: anterior crossbite, 1 edge to edge (0.5
                 mm), 2 one tooth, 3 two, 4 more
    overbite   : share of a lower incisor of 9 mm that is covered: 1 above a third, 2 above two thirds, 3 all;
                 or open bite: 1 up to 1 mm, 2 up to 2 mm, 3 up to 3 mm, 4 more
    centreline : distance of the two midlines: 1 above a quarter of the lower incisor's width, 2 above a half

    Raises NotMeasurable where a part lacks its teeth, or has primary ones: central incisors, first molars,
    two front teeth in each arch. Source: Richmond et al. 1992, "The development of the PAR Index (Peer
    Assessment Rating): reliability and validity", Eur J Orthod 14(2):125-139, doi:10.1093/ejo/14.2.125.
    """
    overjet, overbite = bite.overjet_and_overbite_mm(mouth)
    over = bite.antagonists(mouth)
    front = [one.outwards for fdi, one in over.items() if fdi % 10 <= 3]
    return {
        "upper_anterior": _anterior(mouth, "upper"),
        "lower_anterior": _anterior(mouth, "lower"),
        "buccal_right": _buccal(mouth, "right", over),
        "buccal_left": _buccal(mouth, "left", over),
        "overjet": _above(round(overjet, 1), 3, 5, 7, 9) + _anterior_crossbite(front),
        "overbite": _overbite(overbite),
        "centreline": _centreline(mouth),
    }


def par(components: dict[str, int]) -> int:
    """Weighted PAR score of components, with PAR_WEIGHTS. 0 is perfect, above 30 a severe malocclusion."""
    return sum(PAR_WEIGHTS[name] * points for name, points in components.items())


def _above(value: float, *limits: float) -> int:
    """Number of limits that a value exceeds."""
    return sum(value > limit for limit in limits)


def _neighbours(mouth: MouthPoints, name: str, last: int) -> list[tuple[int, int]]:
    """Pairs of neighbours of an arch that both stand, from right to left."""
    return [pair for pair in pairwise(arch_teeth(name, last)) if all(map(mouth.is_there, pair))]


def _anterior(mouth: MouthPoints, name: str) -> int:
    mouth.without_primary(name, 3)
    pairs = _neighbours(mouth, name, 3)
    if not pairs:
        raise NotMeasurable(f"no two neighbouring {name} front teeth stand")
    return sum(_above(arch.displacements_mm(mouth, list(pair))[0], 1, 2, 4, 8) for pair in pairs)


def _buccal(mouth: MouthPoints, side: str, over: dict[int, bite.Antagonist]) -> int:
    relation = bite.molar_relation_mm(mouth, side)
    off = abs((relation + _UNIT_MM / 2) % _UNIT_MM - _UNIT_MM / 2)
    sagittal = _above(off, _INTERDIGITATED_MM, _HALF_UNIT_MM)
    quadrant = SIDES[side][0]
    mine = [one for fdi, one in over.items() if successor(fdi) // 10 == quadrant and fdi % 10 >= 4]
    crossed = sum(one.outwards < 0 for one in mine)
    if sum((one.lingual_outwards or -1.0) > 0 for one in mine) > 1:
        transverse = 4
    elif crossed:
        transverse = 3 if crossed > 1 else 2
    else:
        transverse = int(any(one.outwards < _TENDENCY_MM for one in mine))
    return sagittal + transverse + int(sum(one.above > _OPEN_MM for one in mine) >= 2)


def _anterior_crossbite(outwards: list[float]) -> int:
    crossed = sum(mm < 0 for mm in outwards)
    return min(crossed + 1, 4) if crossed else int(any(mm < _EDGE_TO_EDGE_MM for mm in outwards))


def _overbite(overbite: float) -> int:
    if overbite < 0:
        return 1 + _above(-overbite, 1, 2, 3)
    return _above(overbite / _CROWN_MM, 1 / 3, 2 / 3) + int(overbite >= _CROWN_MM)


def _centreline(mouth: MouthPoints) -> int:
    apart = abs(bite.midline_x(mouth, "upper") - bite.midline_x(mouth, "lower"))
    width = (mouth.width(31) + mouth.width(41)) / 2
    return _above(apart / width, 0.25, 0.5)


def ogs_parts(mouth: MouthPoints) -> dict[str, int]:
    """Points lost in the parts of the ABO's objective grading system that landmarks allow.

    marginal_ridges : difference in height of the ridges of neighbouring premolars and molars, 1 point above
        0.5 mm, 2 above 1 mm; without the lower premolars against each other
    buccolingual_inclination : difference in height of buccal and lingual cusps of premolars and molars, from
        a straight edge over both sides, which lies on the upper lingual and the lower buccal cusps: 1 above 1
        mm, 2 above 2 mm; without the lower first premolars
    occlusal_relationship : of canines and premolars to the contact behind the lower tooth, and of molars to
        the buccal groove, as `bite.canine_relation_mm` and `bite.molar_relation_mm`: 1 above 1 mm, 2 above 2
        mm
    interproximal_contacts : gap of neighbours, along the line of their crowns: 1 above 0.5 mm, 2 above 1 mm

    Missing and primary teeth lose no points. Alignment, overjet, occlusal contacts and root angulation are
    not measurable, see OGS_NOT_MEASURABLE. Source: Casko et al. 1998, "Objective grading system for dental
    casts and panoramic radiographs", Am J Orthod Dentofacial Orthop 114(5):589-599,
    doi:10.1016/s0889-5406(98)70179-9.
    """
    found = dict.fromkeys(
        ("marginal_ridges", "buccolingual_inclination", "occlusal_relationship", "interproximal_contacts"), 0
    )
    for name in ("upper", "lower"):
        for right, left in _neighbours(mouth, name, 7):
            found["interproximal_contacts"] += _above(_gap_mm(mouth, right, left), 0.5, 1)
            if min(right % 10, left % 10) >= (4 if name == "upper" else 5):
                found["marginal_ridges"] += _above(_ridge_step_mm(mouth, right, left), 0.5, 1)
        for position in range(4 if name == "upper" else 5, 8):
            for step in _inclinations_mm(mouth, name, position):
                found["buccolingual_inclination"] += _above(step, 1, 2)
    for side in SIDES:
        for position in range(3, 8):
            relation = bite.canine_relation_mm if position < 6 else bite.molar_relation_mm
            if all(mouth.is_there(10 * quadrant + position) for quadrant in SIDES[side]):
                found["occlusal_relationship"] += _above(abs(relation(mouth, side, position)), 1, 2)
    return found


def _gap_mm(mouth: MouthPoints, right: int, left: int) -> float:
    one, other = (point[:2] for point in arch.contact_points(mouth, right, left))
    centres = [
        (mouth.at(fdi, "mesial_contact") + mouth.at(fdi, "distal_contact"))[:2] / 2 for fdi in (right, left)
    ]
    along = (centres[1] - centres[0]) / np.linalg.norm(centres[1] - centres[0])
    return float((other - one) @ along)


def _ridge_step_mm(mouth: MouthPoints, right: int, left: int) -> float:
    """Difference in height of the ridges that face each other."""
    front, behind = sorted((right, left), key=lambda fdi: fdi % 10)
    return abs(float(mouth.at(front, "distal_ridge")[2] - mouth.at(behind, "mesial_ridge")[2]))


def _inclinations_mm(mouth: MouthPoints, name: str, position: int) -> list[float]:
    """Height of the other cusp of each of two antimeres over the straight edge on both."""
    teeth = [10 * quadrant + position for quadrant in ((1, 2) if name == "upper" else (4, 3))]
    if not all(map(mouth.is_there, teeth)):
        return []
    on, off = ("lingual_cusp", "buccal_cusp") if name == "upper" else ("buccal_cusp", "lingual_cusp")
    right, left = (mouth.at(fdi, on) for fdi in teeth)
    slope = (left[2] - right[2]) / (left[0] - right[0])
    cusps = [mouth.at(fdi, off) for fdi in teeth]
    return [abs(float(cusp[2] - right[2] - slope * (cusp[0] - right[0]))) for cusp in cusps]
