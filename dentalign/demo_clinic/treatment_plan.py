"""Set-up (T2): planned poses of the crowns, by the rules of a textbook.

Crowns stand in contact along a symmetric arch form with the tip and torque of L. F. Andrews, "The six
keys to normal occlusion", Am J Orthod 1972;62(3):296-309, and the crown prominences of his "Straight
Wire: the concept and appliance" (1989); the arches are co-ordinated to an overjet, an overbite and a
class I molar relation, and placed where the teeth were at T1. T1 and the crowns determine T2.
"""

from collections.abc import Mapping, Set
from functools import cache

import numpy as np

from dentalign import teeth
from dentalign.demo_clinic import anatomy, contact, crowns
from dentalign.demo_clinic.crowns import Crown
from dentalign.geometry import rigid
from dentalign.geometry.arch_form import ArchForm
from dentalign.geometry.rigid import Array

# Position in the quadrant 1 .. 8 -> degrees: the prescription of Andrews' straight-wire appliance, which
# follows the means he measured (1972); third molars continue the row.
UPPER_TIP_DEG = (5, 9, 11, 2, 2, 5, 5, 4)
LOWER_TIP_DEG = (2, 2, 5, 2, 2, 2, 2, 4)
UPPER_TORQUE_DEG = (7, 3, -7, -7, -7, -9, -9, -9)
LOWER_TORQUE_DEG = (-1, -1, -11, -17, -22, -30, -33, -33)
# Bulge of the crown outwards of the embrasure line, mm (Andrews 1989).
UPPER_PROMINENCE_MM = (2.1, 1.65, 2.5, 2.4, 2.4, 2.9, 2.9, 2.7)
LOWER_PROMINENCE_MM = (1.2, 1.2, 1.9, 2.35, 2.35, 2.5, 2.5, 2.4)
# Height of the crown's tip over the occlusal plane of its own arch, mm, towards the other arch.
UPPER_LEVEL_MM = (0.3, -0.2, 0.4, 0.0, -0.1, -0.1, -0.4, -0.9)
LOWER_LEVEL_MM = (0.8, 0.8, 0.9, 0.2, 0.0, 0.0, 0.3, 0.8)

OVERJET_MM = 2.6
OVERBITE_MM = 2.0
MOLAR_RELATION_MM = 1.1  # upper first molar's centroid behind the lower one's: class I
UPPER_WIDER_MM = 4.0
CONTACT_GAP_MM = 0.03
NORM_LOWER = ArchForm(width_mm=61.0, depth_mm=41.5)

_FACE_LEVELS = (0.30, 0.40, 0.50, 0.60, 0.70)  # of the crown's height: around the facial axis point

Poses = dict[int, Array]


def slot_position(fdi: int) -> int:
    """Position of a tooth's slot in its quadrant: 1 .. 8, counted from the midline."""
    return teeth.successor(fdi) % 10


def side(fdi: int) -> float:
    """Side of a tooth: +1 on the patient's left, -1 on the right."""
    return 1.0 if teeth.successor(fdi) // 10 in (2, 3) else -1.0


def along(fdis: Set[int], quadrant: int) -> list[int]:
    """FDI numbers of the teeth in a quadrant (1 to 4), sorted from the midline backwards."""
    return sorted((f for f in fdis if teeth.successor(f) // 10 == quadrant), key=teeth.successor)


def arrange(mouth: Mapping[int, Crown], form: ArchForm = NORM_LOWER, class_one: bool = True) -> Poses:
    """Make the set-up of a mouth in its own frame: midline at x = 0, occlusal plane near z = 0.

    mouth     : FDI -> crown, the teeth of the set-up
    form      : form of the lower arch, from which that of the upper arch is derived
    class_one : True to bend the upper arch until the first molars are in class I
    returns   : FDI -> (4, 4) pose, tooth-local -> set-up frame
    """
    lower = _arch(mouth, (3, 4), form, {})
    depth = form.depth_mm + 1.0
    arcs: dict[int, float] = {}

    def upper_arch(depth_mm: float) -> Poses:
        upper_form = ArchForm(form.width_mm + UPPER_WIDER_MM, depth_mm)
        return _co_ordinate(mouth, _arch(mouth, (1, 2), upper_form, arcs), lower)

    upper = upper_arch(depth)
    error = _molar_error(upper, lower)
    if class_one and error is not None:
        # A deeper arch is narrower in front and brings the molars further back: solve for class I.
        last_depth, last_error, step = depth, error, 2.0
        for _ in range(2):
            trial = float(np.clip(last_depth + step, 0.86 * depth, 1.16 * depth))
            upper = upper_arch(trial)
            error = _molar_error(upper, lower) or 0.0
            slope = (error - last_error) / (trial - last_depth) if trial != last_depth else 0.0
            if abs(error) < 0.15 or abs(slope) < 1e-3:
                break
            last_depth, last_error, step = trial, error, float(np.clip(-error / slope, -4, 4))
    return lower | _settle(mouth, upper, lower)


def plan(mouth: Mapping[int, Crown], t1: Mapping[int, Array], keep: Set[int]) -> Poses:
    """Plan T2 of a patient, without noise.

    mouth   : FDI -> crown of every tooth at T1
    t1      : FDI -> pose (4, 4), tooth-local -> head, mm
    keep    : FDI numbers of the teeth that stay; the other teeth are extracted, and their gaps closed
    returns : FDI -> pose (4, 4) at T2, tooth-local -> head, mm
    """
    norm = np.array([_norm()[teeth.successor(f)][:3, 3] for f in t1])
    frame = rigid.fit(norm, np.array([pose[:3, 3] for pose in t1.values()]))
    local = {f: rigid.inverse(frame) @ t1[f] for f in t1}
    form = _fitted_form(np.array([pose[:3, 3] for pose in local.values()]), norm)
    placed = arrange({f: mouth[f] for f in mouth if f in keep}, form)
    # Molars are the anchorage: the set-up stands where they were, between the two arches.
    weights = np.array([3.0 if slot_position(f) >= 6 else 1.0 for f in placed])
    shift = np.array([local[f][:3, 3] - placed[f][:3, 3] for f in placed])
    upper = np.array([teeth.is_upper(f) for f in placed])
    halves = [
        np.average(shift[part], axis=0, weights=weights[part]) for part in (upper, ~upper) if part.any()
    ]
    anchor = rigid.from_rotation(np.eye(3), np.mean(halves, axis=0))
    return {f: frame @ anchor @ pose for f, pose in placed.items()}


@cache
def _norm() -> Poses:
    """Set-up of mean crowns on the mean arch form."""
    return arrange({f: crowns.make(f) for f in teeth.SLOTS})


def _fitted_form(here: Array, norm: Array) -> ArchForm:
    """Arch form of a patient from places (N, 3) at T1 and in the norm, shrunk to it (ridge regression)."""
    here, norm = (points[:, :2] - points[:, :2].mean(axis=0) for points in (here, norm))
    size = (norm**2).sum(axis=0)
    ridge = np.array([0.1, 0.25]) * size
    scale = ((here * norm).sum(axis=0) + ridge) / (size + ridge)
    return ArchForm(NORM_LOWER.width_mm * float(scale[0]), NORM_LOWER.depth_mm * float(scale[1]))


def _face_slope_deg(fdi: int) -> float:
    """Outward inclination of the mean crown's facial surface to its long axis, degrees.

    Andrews measured torque on the facial surface, not on the long axis.
    """
    v = crowns.make(fdi).vertices
    z = (v[:, 2] - v[:, 2].min()) / np.ptp(v[:, 2])
    bands = [(np.abs(v[:, 0]) < 0.3 * np.ptp(v[:, 0])) & (np.abs(z - level) < 0.06) for level in _FACE_LEVELS]
    heights = [float(v[band, 2].mean()) for band in bands]
    slope = np.polyfit(heights, [float(v[band, 1].max()) for band in bands], 1)[0]
    return float(np.degrees(np.arctan(slope)))


@cache
def _in_arch(fdi: int) -> Array:
    """Rotation (3, 3) of a crown in (x, outward, occlusal) axes: its tip and torque."""
    k, upper = slot_position(fdi) - 1, teeth.is_upper(fdi)
    tip = np.radians((UPPER_TIP_DEG if upper else LOWER_TIP_DEG)[k])
    torque = np.radians((UPPER_TORQUE_DEG if upper else LOWER_TORQUE_DEG)[k] - _face_slope_deg(fdi))
    mesial = -1.0 if anatomy.is_mirrored(fdi) else 1.0
    return np.asarray(rigid.rotation_matrix([-torque, 0, 0]) @ rigid.rotation_matrix([0, mesial * tip, 0]))


def _stand(crown: Crown, form: ArchForm, arc_mm: float) -> tuple[Array, Array]:
    """Place a crown at an arc length: its pose (4, 4), and its vertices there."""
    upper = teeth.is_upper(crown.fdi)
    k = slot_position(crown.fdi) - 1
    point, outward = form.at(arc_mm, side(crown.fdi))
    occlusal = -1.0 if upper else 1.0  # along z
    ox, oy, _ = outward
    axes = np.array([[oy * occlusal, ox, 0], [-ox * occlusal, oy, 0], [0, 0, occlusal]])
    rotation = axes @ _in_arch(crown.fdi)
    points = crown.vertices @ rotation.T
    prominence = (UPPER_PROMINENCE_MM if upper else LOWER_PROMINENCE_MM)[k]
    level = (UPPER_LEVEL_MM if upper else LOWER_LEVEL_MM)[k]
    shift = point + outward * (prominence - (points @ outward).max())
    shift[2] += occlusal * level - (points[:, 2].min() if upper else points[:, 2].max())
    return rigid.from_rotation(rotation, shift), points + shift


def _arch(
    mouth: Mapping[int, Crown], quadrants: tuple[int, int], form: ArchForm, arcs: dict[int, float]
) -> Poses:
    """Set up one arch: from the midline backwards, each crown in contact with the one before.

    arcs : FDI -> arc length on a form like this one, to start from; updated
    """
    poses: Poses = {}
    for quadrant in quadrants:
        arc, before, last = 0.0, None, np.eye(4)
        for fdi in along(mouth.keys(), quadrant):
            crown = mouth[fdi]
            half = 0.5 * float(np.ptp(crown.vertices[:, 0]))
            arc = arcs.get(fdi, arc + half)
            pose, points = _stand(crown, form, arc)
            for _ in range(3):  # repeated, as moving along the curve rotates the crown
                if before is None:
                    gap = float((points[:, 0] * side(fdi)).min())
                else:
                    towards = pose[:3, 3] - last[:3, 3]
                    towards[2] = 0.0
                    gap = contact.clearance(before, points, rigid.unit(towards))
                gap -= CONTACT_GAP_MM
                arc -= min(max(gap, -2.0), 2.0)
                pose, points = _stand(crown, form, arc)
                if abs(gap) < 0.02:
                    break
            poses[fdi], before, last = pose, points, pose
            arcs[fdi] = arc
            arc += half
    return poses


def incisal_edge(crown: Crown, pose: Array) -> Array:
    """Centre (3,) of the incisal edge after `pose`, mm: mean of the vertices within 0.4 mm of the tip."""
    points = rigid.apply(pose, crown.vertices)
    height = points[:, 2] * (-1.0 if teeth.is_upper(crown.fdi) else 1.0)
    return np.asarray(points[height > height.max() - 0.4].mean(axis=0))


def _front_edge(mouth: Mapping[int, Crown], poses: Poses) -> Array | None:
    """Mean incisal edge of the most mesial teeth of an arch."""
    first = [row[0] for q in (1, 2, 3, 4) if (row := along(poses.keys(), q))]
    return np.mean([incisal_edge(mouth[f], poses[f]) for f in first], axis=0) if first else None


def _co_ordinate(mouth: Mapping[int, Crown], upper: Poses, lower: Poses) -> Poses:
    """Move the upper arch to the planned overjet and overbite."""
    above, below = _front_edge(mouth, upper), _front_edge(mouth, lower)
    if above is None or below is None:
        return upper
    wanted = below + np.array([0.0, -OVERJET_MM, -OVERBITE_MM])
    motion = rigid.from_rotation(np.eye(3), [0.0, *(wanted - above)[1:]])
    return {f: motion @ pose for f, pose in upper.items()}


def _molar_error(upper: Poses, lower: Poses) -> float | None:
    """Distance of the first molars from class I, mm (positive: class II).

    None if class I is not the plan: the arches lost different numbers of teeth in front of the molars.
    """
    errors = []
    for above, below in ((1, 4), (2, 3)):
        rows = along(upper.keys(), above), along(lower.keys(), below)
        ahead = [[f for f in row if slot_position(f) < 6] for row in rows]
        molars = [[f for f in row if slot_position(f) == 6] for row in rows]
        if len(ahead[0]) != len(ahead[1]) or not (molars[0] and molars[1]):
            return None
        errors.append(upper[molars[0][0]][1, 3] - lower[molars[1][0]][1, 3] - MOLAR_RELATION_MM)
    return float(np.mean(errors))


def _settle(mouth: Mapping[int, Crown], upper: Poses, lower: Poses) -> Poses:
    """Bring the upper buccal teeth up or down until they meet the lower ones."""
    back = {f for f in upper if slot_position(f) >= 4}
    above = [rigid.apply(upper[f], mouth[f].vertices) for f in back]
    below = [rigid.apply(p, mouth[f].vertices) for f, p in lower.items() if slot_position(f) >= 4]
    if not above or not below:
        return upper
    gaps = contact.height_clearances(np.concatenate(above), np.concatenate(below))
    if len(gaps) < 20:
        return upper
    drop = float(np.clip(np.quantile(gaps, 0.01), -1.5, 1.5))
    settled = {}
    for f, pose in upper.items():
        settled[f] = pose.copy()
        settled[f][2, 3] -= drop * (1.0 if f in back else 0.35 if slot_position(f) == 3 else 0.0)
    return settled
