"""Measures of one arch: widths, length, irregularity, crowding, curve of Spee. All lengths in mm."""

from itertools import pairwise

import numpy as np

from dentalign.clinical.mouth_points import QUADRANTS, SIDES, MouthPoints, NotMeasurable, arch_teeth, listed
from dentalign.geometry.rigid import Array

_ARCH_ORDER = 4  # of the polynomial that stands for the arch


def width_mm(mouth: MouthPoints, arch: str, position: int) -> float:
    """Width of an arch: distance of the cusp tips of the two teeth at a position.

    Canine cusps (3), buccal cusps of the premolars (4, 5), mesiobuccal cusps of the first molars (6). Not
    measurable where one of the two is missing, extracted or primary. Source: Moorrees 1959, "The dentition of
    the growing child"; buccal cusps, not fossae, so that all widths are measured alike.
    """
    right, left = (10 * quadrant + position for quadrant in QUADRANTS[arch])
    mouth.require(right, left)
    return float(np.linalg.norm(mouth.tip(right) - mouth.tip(left)))


def length_mm(mouth: MouthPoints, arch: str) -> float:
    """Arch length: distance of the incisors from the line through the mesial contacts of the first molars.

    From midway between the mesial contact points of the central incisors, perpendicular, in the occlusal
    plane. Not measurable where a central incisor or first molar is missing, extracted or primary. Source:
    Moorrees 1959.
    """
    right, left = (10 * quadrant for quadrant in QUADRANTS[arch])
    mouth.require(right + 1, left + 1, right + 6, left + 6)
    front = (mouth.at(right + 1, "mesial_contact") + mouth.at(left + 1, "mesial_contact"))[:2] / 2
    start, end = (mouth.at(tooth, "mesial_contact")[:2] for tooth in (right + 6, left + 6))
    across = (end - start) / np.linalg.norm(end - start)
    away = start - front
    return float(abs(across[0] * away[1] - across[1] * away[0]))


def displacements_mm(mouth: MouthPoints, teeth: list[int]) -> list[float]:
    """Distance of the contact points of each pair of neighbours, in the occlusal plane."""
    pairs = [contact_points(mouth, *pair) for pair in pairwise(teeth)]
    return [float(np.linalg.norm((one - other)[:2])) for one, other in pairs]


def contact_points(mouth: MouthPoints, right: int, left: int) -> tuple[Array, Array]:
    """Contact points (3,) with which two neighbours, in the order from right to left, face each other."""
    facing = []
    for fdi, leftwards in ((right, True), (left, False)):
        on_the_left = fdi // 10 in (2, 3)
        facing.append(mouth.at(fdi, "distal_contact" if on_the_left == leftwards else "mesial_contact"))
    return facing[0], facing[1]


def irregularity_mm(mouth: MouthPoints, arch: str) -> float:
    """Little's irregularity index: sum of the five contact displacements from canine to canine.

    Each is the distance of the contact points of two neighbours in the occlusal plane. 0 is perfect
    alignment, up to 3.5 mm minimal, above 6.5 mm severe. Not measurable where one of the six permanent teeth
    is missing, extracted or primary. Source: Little 1975, "The irregularity index", Am J Orthod
    68(5):554-563; defined there for the lower arch, and used here for both.
    """
    teeth = arch_teeth(arch, 3)
    mouth.require(*teeth)
    return sum(displacements_mm(mouth, teeth))


def crowding_mm(mouth: MouthPoints, arch: str) -> float:
    """Crowding: widths of the teeth in front of the first molars, less the length of the arch there.

    Positive where space is lacking, negative for spacing. The arch is a polynomial of fourth degree, fitted
    by least squares to the contact points, in the occlusal plane, from the mesial contact of one first molar
    to that of the other. A missing or extracted tooth adds no width: its space counts as space. Not
    measurable where a first molar is missing, fewer than six teeth stand before them, or a primary tooth
    stands there. Source: space analysis as in Proffit, "Contemporary Orthodontics"; smooth curve instead of a
    brass wire.
    """
    ends = [10 * quadrant + 6 for quadrant in QUADRANTS[arch]]
    mouth.require(*ends)
    mouth.without_primary(arch, 5)
    teeth = mouth.arch(arch, 5)
    if len(teeth) < 6:
        raise NotMeasurable(f"only {len(teeth)} teeth stand between {listed(ends)}")
    start, end = (mouth.at(tooth, "mesial_contact")[:2] for tooth in ends)
    inner = [mouth.at(tooth, f"{side}_contact")[:2] for tooth in teeth for side in ("mesial", "distal")]
    curve = smooth_arch(np.array([start, *inner, end]))
    available = float(np.linalg.norm(np.diff(curve, axis=0), axis=1).sum())
    return sum(mouth.width(tooth) for tooth in teeth) - available


def smooth_arch(points: Array) -> Array:
    """Fit the arch of `crowding_mm` to contact points (N, 2), mm; returns points (401, 2) along it.

    The arch begins and ends exactly at the first and the last point.
    """
    start, end = points[0], points[-1]
    middle, across = (start + end) / 2, (end - start) / np.linalg.norm(end - start)
    x = (points - middle) @ across
    y = (points - middle) @ [-across[1], across[0]]
    half = float(np.linalg.norm(end - start)) / 2
    # Exactly through the molars: y = (x^2 - half^2) (a + b x + c x^2).
    bow = x**2 - half**2
    design = np.stack([bow * x**power for power in range(_ARCH_ORDER - 1)], axis=1)
    form = np.linalg.lstsq(design, y, rcond=None)[0]
    along = np.linspace(-half, half, 401)
    curve = (along**2 - half**2) * sum(value * along**power for power, value in enumerate(form))
    outwards = np.array([-across[1], across[0]])
    return np.asarray(middle + along[:, None] * across + curve[:, None] * outwards)


def spee_mm(mouth: MouthPoints, side: str) -> float:
    """Depth of the lower curve of Spee on one side.

    Largest distance, perpendicular to the occlusal plane, of the buccal cusps (canine, premolars, first
    molar) from the line through the edge of the central incisor and the distobuccal cusp of the second molar,
    seen from the side. Positive where the curve is concave, the cusps below the line. Norm 0 to 1.5 mm.
    Missing teeth between are left out; not measurable where the central incisor, the second molar, or all
    teeth between are missing or primary. Source: Andrews 1972, "The six keys to normal occlusion", Am J
    Orthod 62(3):296-309.
    """
    quadrant = 10 * SIDES[side][1]
    mouth.require(quadrant + 1, quadrant + 7)
    front, back = mouth.tip(quadrant + 1), mouth.at(quadrant + 7, "distobuccal_cusp")
    between = mouth.present_of(*(quadrant + position for position in (3, 4, 5, 6)))
    cusps = np.array([mouth.tip(tooth) for tooth in between])
    line = front[2] + (cusps[:, 1] - front[1]) / (back[1] - front[1]) * (back[2] - front[2])
    depth = line - cusps[:, 2]
    return float(depth[np.argmax(np.abs(depth))])
