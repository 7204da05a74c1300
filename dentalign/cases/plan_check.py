"""Check that a treatment can move the mouth from T1 to T2, because a model would learn an impossible T2, too.

T1 and T2 are in one head frame, so the checks measure movements: of each tooth, of an arch as a whole, and of
one jaw against the other. The limits (section `limits` of params.yaml) are well above the movements of real
plans. `frame_check` checks T1 and T2 each by itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dentalign.cases.settings import Limits
from dentalign.cases.slots import to_our_frame
from dentalign.errors import CaseDefect, ToothDefect
from dentalign.geometry import rigid
from dentalign.geometry.arch_fit import Arch, median
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2, Mouth
from dentalign.teeth import ARCHES, MIRRORED_SLOT

MIN_TEETH = 3  # of an arch at both stages: fewer do not say how the arch moves
SAME_AXES_DEG = 20.0  # axes of an arch at T1 and T2: 12 at most where nothing is wrong
WIDE_MM = 8.0  # root mean square across the line of the teeth; less does not say how they turn together
CROWN_RADIUS_MM = 4.0  # turns the rotation of a tooth into mm on its surface
REVERSED_COSINE = -0.5  # between the ways from one tooth to another, before and after
IN_ORDER_MM = 2.0  # teeth nearer to each other have no order that could be reversed
CLEARLY_DEG = 8.0  # by so much an inverted rotation at T2 must fit better; 6 at most where nothing is wrong
CLEARLY_ALONE_DEG = 20.0  # the same where there is no antimere
CLEARLY_AT_BOTH_DEG = 40.0  # and inverted ones at T1 and T2; 20 where nothing is wrong
WELL_DEG = 40.0  # within that they must fit

_MIRROR = np.diag([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class ArchMovement:
    """Movement of one arch from T1 to T2, measured on its teeth that stand at both.

    name     : "lower" or "upper"
    slots    : (n,) slots of these teeth
    shift    : (3,) mm in the head frame, median of their translations; 0 if they are fewer than MIN_TEETH
    beyond   : (n,) mm, length of (translation minus `shift`) of each tooth
    rotation : (2, 3, 32, 3, 3), at [T1 or T2, kind, slot]. Kinds, from the rotation tooth-local -> head: 0 as
               it is; 1 its inverse; 2 its inverse if the exporter has buccal at -y. Each is turned into the
               axes of the arch at T1 or T2 (head axes if these are unknown or differ too much)
    turn     : degrees, rotation of the arch as a whole; 0 if its teeth are too few, or almost in a row
    """

    name: str
    slots: NDArray[np.intp]
    shift: Array
    beyond: Array
    rotation: Array
    turn: float


def arch_movements(mouth: Mouth, arches: Sequence[Sequence[Arch]]) -> list[ArchMovement]:
    """Measure the movement of each arch from T1 to T2; an arch without a tooth at both is left out.

    mouth  : poses in our frames; points are not used
    arches : the arches at T1 and the arches at T2, each as `arch_fit.find_arches` returns them
    """
    return [_movement(mouth, arches, name) for name in ARCHES if mouth.stays[ARCHES[name]].any()]


def problems(
    mouth: Mouth, movements: Sequence[ArchMovement], limits: Limits, file: str = ""
) -> list[CaseDefect]:
    """Find defects of T2 as a whole: a missing arch, an arch or jaw moved too far, or no movement at all."""
    return [*_gone(mouth, limits, file), *_moved(movements, limits, file), *_unmoved(mouth, limits, file)]


def odd_teeth(
    mouth: Mouth, movements: Sequence[ArchMovement], limits: Limits, file: str = ""
) -> dict[int, ToothDefect]:
    """Find single teeth whose movement is impossible: slot -> defect."""
    found: dict[int, ToothDefect] = {}
    for arch in movements:
        odd = (*_exchanged(mouth, arch), *_moved_too_far(arch, limits), *_turned(mouth, arch, limits))
        for slot, one in odd:
            named = ToothDefect(one.code, one.seen, one.fix, file=file, tooth=int(mouth.fdi[slot]))
            found.setdefault(slot, named)
    return dict(sorted(found.items()))


def surface_movements(mouth: Mouth) -> Array:
    """Movements (n,) mm from T1 to T2 of the teeth that stand at both.

    The movement is the shift of the tooth's origin plus its rotation, as an arc of radius CROWN_RADIUS_MM.
    """
    before, after = mouth.pose[:, mouth.stays]
    rotation = np.radians(_deg(before[:, :3, :3], after[:, :3, :3]))
    return np.linalg.norm(after[:, :3, 3] - before[:, :3, 3], axis=1) + CROWN_RADIUS_MM * rotation


def _movement(mouth: Mouth, arches: Sequence[Sequence[Arch]], name: str) -> ArchMovement:
    slots = ARCHES[name][mouth.stays[ARCHES[name]]]
    moved = mouth.pose[T2, slots, :3, 3] - mouth.pose[T1, slots, :3, 3]
    shift = median(moved) if len(slots) >= MIN_TEETH else np.zeros(3)
    found = [next(arch for arch in arches[stage] if arch.name == name) for stage in (T1, T2)]
    frames = [np.eye(3) if arch.normal is None else arch.frame for arch in found]
    if _deg(*frames) > SAME_AXES_DEG:  # of few teeth, which do not say, or say it wrongly
        frames = [np.eye(3)] * 2
    rotation = np.stack(
        [frame.T @ _with_inverses(pose) for frame, pose in zip(frames, mouth.pose, strict=True)]
    )
    turn = _arch_turn(*mouth.pose[:, slots][..., :3, 3])
    return ArchMovement(name, slots, shift, np.linalg.norm(moved - shift, axis=1), rotation, turn)


def _arch_turn(before: Array, after: Array) -> float:
    """Angle of the best rigid motion of places (n, 3), degrees; 0.0 where they are too few or in a row."""
    if len(before) < MIN_TEETH or np.linalg.svd(before - before.mean(0))[1][1] < WIDE_MM * len(before) ** 0.5:
        return 0.0
    return float(rigid.angle_deg(rigid.fit(before, after)[:3, :3]))


def _with_inverses(pose: Array) -> Array:
    rotation, exporter = pose[:, :3, :3], to_our_frame("-y")
    inverse = np.swapaxes(rotation, 1, 2)
    return np.stack([rotation, inverse, exporter @ inverse @ exporter])


def _gone(mouth: Mouth, limits: Limits, file: str) -> Iterator[CaseDefect]:
    for name, slots in ARCHES.items():
        before, after = int(mouth.present[T1, slots].sum()), int(mouth.stays[slots].sum())
        if before - after > limits.max_extracted_of_arch or (before >= MIN_TEETH and not after):
            seen = f"{before - after} of the {before} teeth of the {name} arch are missing at T2"
            fix = "export T2 with all teeth that stay (limits.max_extracted_of_arch)"
            yield CaseDefect("arch_missing", seen, fix, file=file)


def _unmoved(mouth: Mouth, limits: Limits, file: str) -> Iterator[CaseDefect]:
    if (most := float(surface_movements(mouth).max(initial=0.0))) < limits.min_movement_mm:
        seen = f"T2 is T1: no tooth moves by more than {most:.2g} mm"
        fix = (
            "check that T2Stage is the right stage; for cases without treatment set limits.min_movement_mm: 0"
        )
        yield CaseDefect("no_movement", seen, fix, file=file)


def _moved(movements: Sequence[ArchMovement], limits: Limits, file: str) -> Iterator[CaseDefect]:
    arches = [arch for arch in movements if len(arch.slots) >= MIN_TEETH]
    far = [
        arch
        for arch in arches
        if _mm(arch.shift) > limits.max_arch_movement_mm or arch.turn > limits.max_arch_turn_deg
    ]
    if far:
        ways = (f"the {arch.name} arch by {_mm(arch.shift):.3g} mm and {arch.turn:.0f} deg" for arch in far)
        seen = f"from T1 to T2 all teeth move together: {' and '.join(ways)}"
        fix = (
            "export T1 and T2 in one head frame, with the jaws' poses at both "
            "(limits.max_arch_movement_mm, limits.max_arch_turn_deg)"
        )
        yield CaseDefect("arch_moved", seen, fix, file=file)
    elif len(arches) == 2 and (apart := _mm(arches[0].shift - arches[1].shift)) > limits.max_jaw_movement_mm:
        seen = f"from T1 to T2 the jaws move by {apart:.3g} mm against each other"
        fix = "correct the jaws' poses at T1 and T2 (limits.max_jaw_movement_mm)"
        yield CaseDefect("jaws_moved_apart", seen, fix, file=file)


def _exchanged(mouth: Mouth, arch: ArchMovement) -> Iterator[tuple[int, ToothDefect]]:
    """Yield teeth that stand in each other's place at T2.

    The way from one to the other is reversed, and exchanged back they move less, both together.
    """
    before = mouth.pose[T1, arch.slots, :3, 3]
    after = mouth.pose[T2, arch.slots, :3, 3] - arch.shift
    while True:
        ways = [place[:, None] - place for place in (before, after)]
        length = [np.linalg.norm(way, axis=-1) for way in ways]
        reversed_ = (ways[0] * ways[1]).sum(-1) < REVERSED_COSINE * length[0] * length[1]
        in_order = np.minimum(*length) > IN_ORDER_MM
        cost = np.linalg.norm(before[:, None] - after, axis=-1)
        own = np.diag(cost)
        gain = np.where(reversed_ & in_order, own[:, None] + own - cost - cost.T, 0.0)
        one, other = np.unravel_index(gain.argmax(), gain.shape)
        if gain[one, other] <= 0:
            return
        after[[one, other]] = after[[other, one]]
        for index, rival in ((one, other), (other, one)):
            seen = f"at T2 it stands in the place of tooth {mouth.fdi[arch.slots[rival]]}"
            fix = "check whether the two teeth are exchanged at T1 or T2, and export again"
            yield int(arch.slots[index]), ToothDefect("teeth_exchanged", seen, fix)


def _moved_too_far(arch: ArchMovement, limits: Limits) -> Iterator[tuple[int, ToothDefect]]:
    for slot, mm in zip(arch.slots.tolist(), arch.beyond.tolist(), strict=True):
        if mm > limits.max_tooth_movement_mm:
            seen = f"from T1 to T2 it moves by {mm:.3g} mm relative to its arch"
            fix = "correct its pose at T1 or T2 and export again (limits.max_tooth_movement_mm)"
            yield slot, ToothDefect("moved_too_far", seen, fix)


def _turned(mouth: Mouth, arch: ArchMovement, limits: Limits) -> Iterator[tuple[int, ToothDefect]]:
    """Yield teeth that turn too far, or away from where they belong, or whose rotation is an inverse."""
    average, (start, end) = average_mouth().rotation, arch.rotation
    turn, off = _deg(start[0], end[0]), _deg(average, arch.rotation)
    away = off[T2, 0] - off[T1, 0]
    # A plan turns a tooth to where its antimere stands at T2.
    mirrored = mouth.stays[MIRRORED_SLOT][:, None, None]
    aim = np.where(mirrored, _MIRROR @ end[0, MIRRORED_SLOT] @ _MIRROR, average)
    from_start, from_aim = _deg(start[0], end), _deg(aim, end)
    # Degrees by which an inverse fits better.
    at_both = (off[:, 0, None] - off[:, 1:]).min(0).max(0)
    at_t2 = np.minimum(from_start[0] - from_start[1:], from_aim[0] - from_aim[1:]).max(0)
    fits = from_aim[1:].min(0) < WELL_DEG
    least = np.where(mirrored[:, 0, 0], CLEARLY_DEG, CLEARLY_ALONE_DEG)
    for slot in arch.slots.tolist():
        if fits[slot] and (at_both[slot] > CLEARLY_AT_BOTH_DEG or at_t2[slot] > least[slot]):
            when = "T1 and T2" if at_both[slot] > CLEARLY_AT_BOTH_DEG else "T2"
            seen = f"the inverse of its rotation at {when} fits, its rotation does not"
            fix = "export poses from tooth-local to head or jaw, not their inverses"
            yield slot, ToothDefect("rotation_inverted", seen, fix)
        elif turn[slot] > limits.max_tooth_turn_deg or away[slot] > limits.max_turn_away_deg:
            seen = (
                f"from T1 to T2 it turns by {turn[slot]:.0f} deg, "
                f"to {off[T2, 0, slot]:.0f} deg from the average rotation of its slot"
            )
            fix = "correct its rotation at T1 or T2 (limits.max_tooth_turn_deg, limits.max_turn_away_deg)"
            yield slot, ToothDefect("turned_too_far", seen, fix)


def _deg(one: Array, other: Array) -> Array:
    return rigid.angle_deg(np.swapaxes(one, -1, -2) @ other)


def _mm(vector: Array) -> float:
    return float(np.linalg.norm(vector))
