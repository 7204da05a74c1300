"""Poses of the teeth at T1, before treatment.

The well-aligned arches of a patient are disturbed in three ways: the jaws relative to each other (class II
and III, open and deep bite, crossbite, midline), the space for the teeth (crowding, spacing), and each tooth
by itself (tip, torque, rotation, position). Then crowns that overlap are pushed apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dentalign import teeth
from dentalign.demo_clinic import contact, crowns, treatment_plan
from dentalign.demo_clinic.crowns import Crown
from dentalign.demo_clinic.treatment_plan import Poses
from dentalign.geometry import rigid
from dentalign.geometry.arch_form import ArchForm
from dentalign.geometry.rigid import Array, unit

_RELIEF_PASSES = 14
_TOLERATED_MM = 0.03


@dataclass(frozen=True)
class Findings:
    """Malocclusion of a patient; lengths in mm."""

    severity: float  # 0.5 mild to 1.8 severe: factor of each tooth's own displacement
    sagittal: float  # lower arch behind (class II, positive) or before the class I relation
    midline: float  # lower midline to the patient's left
    space: tuple[float, float]  # share of room lacking (positive) or left over, lower and upper arch
    narrow: float  # width that the upper arch lacks (crossbite, positive)
    bite: float  # incisors over-erupted (deep bite, positive) or held back (open bite)
    incisors: tuple[float, float]  # proclination of the upper and the lower incisors, degrees
    lower: ArchForm  # form of the lower arch


def draw(rng: np.random.Generator, crowded: bool = False) -> Findings:
    """Draw the findings of one patient at random; `crowded`: the teeth have too little room."""
    lack = rng.normal(0.06, 0.03) if crowded else rng.normal(0.01, 0.045)
    return Findings(
        severity=float(np.clip(rng.lognormal(0.0, 0.35), 0.5, 1.8)),
        sagittal=float(np.clip(rng.normal(1.2, 1.8), -4.5, 5.5)),
        midline=float(rng.normal(0, 0.9)),
        space=(float(lack + rng.normal(0, 0.02)), float(lack + rng.normal(0, 0.02))),
        narrow=float(rng.normal(1.2, 1.8)),
        bite=float(rng.normal(1.1, 1.3)),
        incisors=(float(rng.normal(0, 7.0)), float(rng.normal(0, 6.0))),
        lower=ArchForm(
            treatment_plan.NORM_LOWER.width_mm * float(np.exp(rng.normal(0, 0.045))),
            treatment_plan.NORM_LOWER.depth_mm * float(np.exp(rng.normal(0, 0.04))),
        ),
    )


def disturb(mouth: Mapping[int, Crown], findings: Findings, rng: np.random.Generator) -> Poses:
    """Make the poses at T1: FDI -> (4, 4), tooth-local -> head, mm."""
    taken = {teeth.successor(f) for f in mouth}
    # A tooth missing from birth leaves its space open: a mean crown holds the place.
    gaps = {f: crowns.make(f) for f in teeth.SLOTS if f % 10 < 8 and f not in taken}
    order = sorted(mouth)
    poses = treatment_plan.arrange(gaps | dict(mouth), findings.lower, class_one=False)
    rotations = {f: poses[f][:3, :3] @ _own_rotation(f, findings, rng) for f in order}
    places = {f: _own_place(f, poses[f], findings, rng) for f in order}
    turned = {f: mouth[f].vertices @ rotations[f].T for f in order}
    _relieve(turned, places)
    _bite(turned, places, rng)
    turn = rigid.rotation_matrix(rng.normal(0, np.radians(2.0), 3))
    head = rigid.from_rotation(turn, rng.normal(0, 2.0, 3))
    return {f: head @ rigid.from_rotation(rotations[f], places[f]) for f in order}


def _own_rotation(fdi: int, findings: Findings, rng: np.random.Generator) -> Array:
    """Rotation (3, 3) in the tooth's own axes: torque about x, tip about y, rotation about z."""
    front = treatment_plan.slot_position(fdi) <= 3
    sd = np.array([5.0, 4.0, 9.0] if front else [4.0, 4.0, 5.5]) * findings.severity
    degrees = rng.normal(0, sd)
    if front:
        # A negative rotation about x brings the edge outwards.
        degrees[0] -= findings.incisors[0 if teeth.is_upper(fdi) else 1]
    degrees[2] += 60.0 * abs(findings.space[1 if teeth.is_upper(fdi) else 0]) * rng.choice([-1.0, 1.0])
    return np.asarray(rigid.rotation_matrix(np.radians(np.clip(degrees, -38, 38))))


def _own_place(fdi: int, pose: Array, findings: Findings, rng: np.random.Generator) -> Array:
    """Place of the crown's origin, (3,) mm in the set-up frame, before crowns are pushed apart."""
    upper = teeth.is_upper(fdi)
    position = treatment_plan.slot_position(fdi)
    place = np.array(pose[:3, 3])
    outward = unit([*pose[:2, 1], 0.0])
    along = np.array([-outward[1], outward[0], 0.0])
    lack = findings.space[1 if upper else 0]
    place[:2] *= 1 - lack  # the arch's origin lies between the last molars
    place[1] -= 15.0 * lack
    if upper:
        place[0] *= 1 - findings.narrow / 2 / 26.0
    own = findings.severity * (np.array([0.35, 0.8, 0.5]) if position <= 5 else np.array([0.2, 0.4, 0.3]))
    step = rng.normal(0, own)
    if lack > 0.02 and position in (2, 3, 5):
        # Crowding moves laterals inwards, canines outwards, and late premolars either way.
        step[1] += 25.0 * lack * {2: -1.0, 3: 1.0, 5: rng.choice([-1.0, 1.0])}[position]
    place += step[0] * along + step[1] * outward
    eruption = step[2] + findings.bite * {1: 0.8, 2: 0.8, 3: 0.4}.get(position, -0.1)
    place[2] += eruption * (-1.0 if upper else 1.0)
    half = 0.5 if upper else -0.5
    place[:2] += [-half * findings.midline, -half * findings.sagittal]
    return place


def _relieve(turned: Mapping[int, Array], places: dict[int, Array]) -> None:
    """Push overlapping neighbours apart in small steps until none overlaps much."""
    pairs = []
    for arch in (teeth.LOWER, teeth.UPPER):
        row = [f for slot in arch for f in turned if teeth.successor(f) == slot]
        pairs += [*pairwise(row), *zip(row[:-2], row[2:], strict=True)]
    moved = set(turned)
    for _ in range(_RELIEF_PASSES):
        now: set[int] = set()
        for a, b in pairs:
            if a not in moved and b not in moved:
                continue
            towards = places[b] - places[a]
            if np.linalg.norm(towards) > 13.0:
                continue
            towards = unit(towards)
            overlap = -contact.clearance(turned[a] + places[a], turned[b] + places[b], towards)
            if overlap > _TOLERATED_MM:
                push = 0.5 * min(overlap, 1.5) * towards
                places[a], places[b] = places[a] - push, places[b] + push
                now |= {a, b}
        moved = now


def _bite(turned: Mapping[int, Array], places: dict[int, Array], rng: np.random.Generator) -> None:
    """Close the jaws: raise the lower arch until it meets the upper."""
    above = [turned[f] + places[f] for f in turned if teeth.is_upper(f)]
    below = [turned[f] + places[f] for f in turned if not teeth.is_upper(f)]
    gaps = contact.height_clearances(np.concatenate(above), np.concatenate(below))
    rise = float(np.clip(np.quantile(gaps, 0.03), -4.0, 4.0)) if len(gaps) else 0.0
    for f in places:
        places[f] = places[f] + np.array([0.0, 0.0, -0.5 if teeth.is_upper(f) else 0.5]) * rise
