"""Check that a mouth is in the head frame and its teeth have our tooth-local axes.

Head frame: right-handed, mm, x to the patient's left, y posterior, z up. Tooth-local: +z from root to
crown tip, +y buccal. The teeth are compared with an average mouth (dentalign.geometry.average_mouth) by
robust least squares, so that crowding, gaps and a few odd teeth do not matter. With too few teeth nothing is
found.
"""

import functools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dentalign.cases.settings import Limits
from dentalign.errors import CaseDefect, ToothDefect
from dentalign.geometry import rigid
from dentalign.geometry.arch_fit import (
    CLEAR_COSINE,
    IN_ARCH,
    MIN_TEETH_OF_ARCH,
    Arch,
    find_arches,
    median,
)
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.rigid import Array
from dentalign.teeth import SLOT_COUNT, SLOTS

Mask = NDArray[np.bool_]

CODES = (
    "pose_reflected",
    "poses_at_one_place",
    "mouth_size",
    "teeth_far_apart",
    "no_arch",
    "mirrored",
    "upside_down",
    "back_to_front",
    "mouth_turned",
    "arches_disagree",
    "upper_below_lower",
    "jaws_apart",
    "crown_axis",
    "rotations_inverted",
    "buccal_axis",
)

MIN_TEETH = 6  # fewer say nothing sure about a frame
SMALL_CHANGE = 1e-3  # of a rotation matrix from orthonormal, beyond rounding in any file
ONE_PLACE = 1e-4  # of an average mouth: even in metres a mouth is ten times larger
MOUTH_MM = 100.0  # no two teeth of a mouth are as far from each other
APART_MM = 1.0  # of an average mouth: arches nearer to each other do not say which is above
CLEARLY_DEG = 40.0  # by so much the inverses of the rotations must fit better, median of an arch
WELL_DEG = 40.0  # within that they must fit

_UNITS = {"metres": 1e-3, "centimetres": 0.1, "inches": 1 / 25.4, "micrometres": 1e3}
_LPS = "x to the patient's left, y to posterior, z up, right-handed"
_NOT_BACK = "export poses from tooth-local to head or jaw, not their inverses"
_AXES = ("x", "y", "z")


def problems(
    pose: Array,
    mask: Mask,
    *,
    file: str = "",
    limits: Limits | None = None,
    arches: Sequence[Arch] | None = None,
) -> list[CaseDefect]:
    """Find what is wrong with the frame of a mouth at T1 or T2.

    pose    : (32, 4, 4) float64, tooth-local (our axes) -> head, mm
    mask    : (32,) bool, slots with a tooth
    file    : path or URL, for the errors
    limits  : None for the default `Limits()`
    arches  : arches fitted to the teeth where mask is True; None to fit them here
    returns : defects, each with a reason code of CODES; empty if nothing is wrong, or there are too few teeth
    raises  : ValueError if a pose where mask is True is not finite
    """
    limits = limits or Limits()
    if not np.isfinite(pose[mask]).all():
        raise ValueError("poses must be finite")
    found = _problems(np.asarray(pose, np.float64), np.asarray(mask, bool), limits, arches)
    return [CaseDefect(code, seen, fix, file=file) for code, seen, fix in found]


def far_off(
    pose: Array,
    mask: Mask,
    limits: Limits | None = None,
    arches: Sequence[Arch] | None = None,
) -> dict[int, float]:
    """Find teeth over limits.max_from_arch_mm away from the arch of the other teeth: slot -> distance, mm.

    Such a pose is wrong: a lost decimal point, or the pose of another case. The result is empty if there are
    fewer than MIN_TEETH teeth. An arch of few teeth cannot be fitted; its teeth are found if they are over
    MOUTH_MM from the median position of all teeth.

    pose   : (32, 4, 4) float64, tooth-local -> head, mm
    mask   : (32,) bool, slots with a tooth
    arches : as for `problems`
    """
    slots = np.flatnonzero(mask)
    if len(slots) < MIN_TEETH:
        return {}
    return _far_off(pose, slots, arches or find_arches(pose, slots), limits or Limits())


def stray(fdi: int, away_mm: float, file: str = "") -> ToothDefect:
    """Make the defect of a tooth that stands `away_mm` from its expected place, as found by `far_off`."""
    seen = f"it stands {away_mm:.3g} mm from its expected place among the other teeth"
    fix = "correct its pose at T1 and T2 and export again (limits.max_from_arch_mm)"
    return ToothDefect("tooth_far_off", seen, fix, file=file, tooth=fdi)


def turned(
    pose: Array,
    mask: Mask,
    limits: Limits | None = None,
    arches: Sequence[Arch] | None = None,
) -> dict[int, float]:
    """Find teeth turned by over limits.max_tooth_turn_deg from the axes expected in their arch.

    No rotated or tilted tooth is turned so far: it is upside down, back to front, or has the axes of another
    slot. Teeth of an arch without a `normal` are not checked.

    pose, mask, arches : as for `far_off`
    returns            : slot -> angle, degrees
    """
    slots = np.flatnonzero(mask)
    limit = (limits or Limits()).max_tooth_turn_deg
    return {
        slot: angle
        for arch in arches or find_arches(pose, slots)
        if arch.normal is not None
        for slot, angle in zip(arch.slots.tolist(), _off_deg(pose, arch).tolist(), strict=True)
        if angle > limit
    }


def turned_tooth(fdi: int, angle_deg: float, file: str = "") -> ToothDefect:
    """Defect of a tooth that `turned` found with an angle of `angle_deg`."""
    seen = f"its axes are turned by {angle_deg:.0f} deg from those expected in its arch"
    fix = "correct the rotation of its pose at T1 and T2 and export again (limits.max_tooth_turn_deg)"
    return ToothDefect("tooth_turned", seen, fix, file=file, tooth=fdi)


def _problems(
    pose: Array, mask: Mask, limits: Limits, arches: Sequence[Arch] | None
) -> Iterator[tuple[str, str, str]]:
    """Yield (code, seen, fix) of each problem."""
    slots = np.flatnonzero(mask)
    yield from _reflected(pose, slots)
    if len(slots) < MIN_TEETH:
        return
    size = _size(pose[slots, :3, 3], slots)
    in_millimetres = limits.min_mouth_size <= size <= limits.max_mouth_size
    if not in_millimetres:
        yield _wrong_size(size, pose[slots, :3, 3], limits)
    if size < ONE_PLACE:
        return
    # From here on in millimetres of a mouth of average size, whatever the unit.
    in_mm = pose.copy()
    in_mm[:, :3, 3] /= size
    arches = [arch.scaled(1 / size) for arch in arches] if arches else find_arches(in_mm, slots)
    if far := _far_off(in_mm, slots, arches, limits, 1 / size if in_millimetres else 1.0):
        teeth = ", ".join(f"{SLOTS[slot]} ({mm * size:.3g} mm)" for slot, mm in far.items())
        seen = f"teeth far from the arch that the other teeth form, in slots {teeth}"
        yield "teeth_far_apart", seen, "correct the poses of these teeth, or take the teeth out of the case"
        arches = find_arches(in_mm, np.array([slot for slot in slots if slot not in far], dtype=np.intp))
    yield from _no_arch(arches, size, limits)
    yield from list(_directions(in_mm, arches, limits.max_turn_deg)) or _jaws_apart(in_mm, arches, limits)
    yield from list(_inverted(in_mm, arches)) or _buccal(in_mm, arches)


def _far_off(
    pose: Array, slots: NDArray[np.intp], arches: Sequence[Arch], limits: Limits, unit: float = 1.0
) -> dict[int, float]:
    """Distances as in `far_off`, from the arch fit, or from the mouth's centroid if teeth are too few.

    unit : a millimetre in the coordinates of the poses
    """
    place = pose[slots, :3, 3]
    away, limit = np.zeros(SLOT_COUNT), np.full(SLOT_COUNT, MOUTH_MM)
    away[slots] = np.linalg.norm(place - median(place), axis=1)
    for arch in arches:
        if arch.away is not None and len(arch.slots) > MIN_TEETH_OF_ARCH:
            away[arch.slots], limit[arch.slots] = arch.away, limits.max_from_arch_mm
    return {slot: float(away[slot]) for slot in slots[away[slots] > unit * limit[slots]].tolist()}


def _reflected(pose: Array, slots: NDArray[np.intp]) -> Iterator[tuple[str, str, str]]:
    rotation = pose[slots, :3, :3]
    off = np.abs(rotation @ np.swapaxes(rotation, -1, -2) - np.eye(3)).max((1, 2))
    bad = (np.linalg.det(rotation) < 0) | ~(off < SMALL_CHANGE)
    if bad.any():
        teeth = ", ".join(str(SLOTS[slot]) for slot in slots[bad])
        seen = f"the pose is not rigid (a reflection, or scaled) in slots {teeth}"
        yield "pose_reflected", seen, "mirror or scale the meshes instead, and give each tooth a rigid pose"


def _wrong_size(size: float, place: Array, limits: Limits) -> tuple[str, str, str]:
    spread = float(np.linalg.norm(place.max(0) - place.min(0)))
    if size < ONE_PLACE:
        seen = f"all teeth stand within {spread:.2g} mm"
        return (
            "poses_at_one_place",
            seen,
            "export poses in head or jaw coordinates",
        )
    unit = next((name for name, factor in _UNITS.items() if 0.5 <= size / factor <= 2), "")
    seen = f"the teeth span {spread:.3g} mm, {size:.3g} times an average mouth" + (unit and f"; in {unit}?")
    wanted = f"{limits.min_mouth_size:g} to {limits.max_mouth_size:g} times an average mouth"
    return (
        "mouth_size",
        seen,
        f"export in millimetres ({wanted}: limits.min_mouth_size, limits.max_mouth_size)",
    )


def _no_arch(arches: Sequence[Arch], size: float, limits: Limits) -> Iterator[tuple[str, str, str]]:
    for arch in arches:
        if arch.away is None or len(arch.slots) <= MIN_TEETH_OF_ARCH:
            continue
        away = float(median(arch.away))
        if away > limits.max_off_arch_mm:
            seen = (
                f"the {len(arch.slots)} teeth of the {arch.name} arch form no arch: half of the teeth stand "
                f"{away * size:.3g} mm or more from their places in the average arch"
            )
            yield "no_arch", seen, f"{_NOT_BACK}, and number the teeth by FDI"
            return


def _directions(pose: Array, arches: Sequence[Arch], max_turn_deg: float) -> Iterator[tuple[str, str, str]]:
    """Yield problems of direction: mirrored, rotated, arches or crowns the wrong way up.

    Three things say where up is: each arch's left and back (by the right-hand rule), the way from the
    lower to the upper arch, and the crowns. Two that agree overrule the third, which is then the fault.
    """
    sure = [arch for arch in arches if arch.normal is not None]
    if not sure:
        return
    if len(sure) == 2:
        apart = _turn_deg(sure[0].frame, sure[1].frame)
        if apart > max_turn_deg:
            seen = f"the upper arch is turned by {apart:.0f} deg against the lower one"
            yield (
                "arches_disagree",
                seen,
                "correct the poses of the jaws in the export",
            )
            return
    frame = max(sure, key=lambda arch: len(arch.slots)).frame
    up = frame[:, 2]
    above = _above(arches, up)
    crowns = _crowns(pose, arches, up)
    if abs(crowns) < CLEAR_COSINE:
        lies = f"{np.degrees(np.arccos(crowns)):.0f} deg from root-to-tip"
        yield (
            "crown_axis",
            f"tooth-local +z lies {lies} in most teeth",
            _axis_fix("+z from root to crown tip"),
        )
        crowns = 0.0
    if above < 0 and crowns > 0:
        fix = "check the poses of the jaws, and whether upper and lower are exchanged"
        yield "upper_below_lower", f"the upper teeth stand {-above:.1f} mm below the lower ones", fix
    elif above > 0 and crowns < 0:
        yield _crowns_flipped(pose, arches)
    elif above < 0 or crowns < 0:
        straight = _turn_deg(frame, np.eye(3)) <= max_turn_deg
        if straight and not above:  # one arch, left and right and back where they belong
            yield _crowns_flipped(pose, arches)
            return
        frame = frame * [1.0, 1.0, -1.0]
        yield "mirrored", f"the mouth is a mirror image: {_wrong_axes(frame)}", _frame_fix()
        return
    turn = _turn_deg(frame, np.eye(3))
    if turn > max_turn_deg:
        code = "mouth_turned"
        if turn > 135:
            code = "upside_down" if frame[2, 2] < 0 else "back_to_front"
        seen = f"the mouth is turned by {turn:.0f} deg: {_wrong_axes(frame)}"
        yield code, seen, f"{_frame_fix()}, or raise limits.max_turn_deg ({max_turn_deg:g} deg)"


def _jaws_apart(pose: Array, arches: Sequence[Arch], limits: Limits) -> Iterator[tuple[str, str, str]]:
    """Compare the way from the lower arch to the upper one with that in the average mouth."""
    sure = [arch for arch in arches if arch.normal is not None]
    if len(sure) < 2:
        return
    frame = max(sure, key=lambda arch: len(arch.slots)).frame
    lower, upper = (arch.centroid - frame @ average_mouth().position[arch.slots].mean(0) for arch in sure)
    apart = float(np.linalg.norm(upper - lower))
    if apart > limits.max_jaws_apart_mm:
        seen = f"the upper arch stands {apart:.3g} mm from its place over the lower arch"
        fix = f"correct the poses of the jaws (limits.max_jaws_apart_mm = {limits.max_jaws_apart_mm:g})"
        yield "jaws_apart", seen, fix


def _crowns_flipped(pose: Array, arches: Sequence[Arch]) -> tuple[str, str, str]:
    slots = np.concatenate([arch.slots for arch in arches])
    wrong = int((np.sum(pose[slots, :3, 2] * average_mouth().crown[slots], axis=1) < 0).sum())
    seen = f"tooth-local +z points from crown tip to root in {wrong} of {len(slots)} teeth"
    return "crown_axis", seen, _axis_fix("+z from root to crown tip")


def _buccal(pose: Array, arches: Sequence[Arch]) -> Iterator[tuple[str, str, str]]:
    """Compare buccal axes with the outward direction of the arch."""
    cosines = buccal_cosines(pose, arches)
    if not len(cosines):
        return
    middle = float(median(cosines))
    if middle >= CLEAR_COSINE:
        return
    if middle > -CLEAR_COSINE:
        lies = np.degrees(np.arccos(middle))
        seen = f"tooth-local +y lies {lies:.0f} deg from buccal in most teeth"
        yield "buccal_axis", seen, f"{_axis_fix('+y buccal')}, and quaternions under the keys x, y, z, w"
        return
    inward = int((cosines < 0).sum())
    fix = 'set source.buccal_axis: "-y" in params.yaml (if it is "-y" already: "+y")'
    yield "buccal_axis", f"tooth-local +y points inwards in {inward} of {len(cosines)} teeth", fix


def _inverted(pose: Array, arches: Sequence[Arch]) -> Iterator[tuple[str, str, str]]:
    """Compare the rotations, and their inverses, with those of the average mouth.

    In the lower arch it shows: a tooth's rotation is about the vertical there, to the left on one side and to
    the right on the other. In the upper one rotations are half turns, nearly, which are their own inverses.
    """
    for arch in arches:
        if arch.normal is None:
            continue
        off = float(median(_off_deg(pose, arch)))
        inverse = float(median(_off_deg(pose, arch, inverse=True)))
        if off - inverse > CLEARLY_DEG and inverse < WELL_DEG:
            seen = (
                f"the teeth of the {arch.name} arch are turned by {off:.0f} deg from the average arch, but "
                f"with inverse rotations by {inverse:.0f} deg"
            )
            yield "rotations_inverted", seen, f"{_NOT_BACK}; the inverse of a quaternion is (-x, -y, -z, w)"
            return


def _off_deg(pose: Array, arch: Arch, *, inverse: bool = False) -> Array:
    """Angles (n,) between the rotations of an arch's teeth, or their inverses, and the average ones."""
    rotation = pose[arch.slots, :3, :3]
    average = arch.frame @ average_mouth().rotation[arch.slots]
    return rigid.angle_deg((rotation if inverse else np.swapaxes(rotation, 1, 2)) @ average)


def buccal_cosines(pose: Array, arches: Sequence[Arch]) -> Array:
    """Cosines (n,) between tooth-local +y and outwards, of the teeth in arches that have a `normal`.

    pose   : (32, 4, 4) float64, tooth-local -> head, mm
    arches : arches fitted to the teeth of the mouth
    """
    sure = [arch for arch in arches if arch.normal is not None]
    if not sure:
        return np.empty(0)
    slots = np.concatenate([arch.slots for arch in sure])
    outward = np.concatenate([average_mouth().outward[arch.slots, :2] @ arch.frame[:, :2].T for arch in sure])
    cosines: Array = np.sum(pose[slots, :3, 1] * outward, axis=1)
    return cosines


def _size(place: Array, slots: NDArray[np.intp]) -> float:
    """Size of the mouth, 1 being average: median over pairs of teeth in one arch."""
    first, second = np.triu_indices(len(slots), 1)
    same = IN_ARCH["upper"][slots[first]] == IN_ARCH["upper"][slots[second]]
    first, second = first[same], second[same]
    real = np.linalg.norm(place[first] - place[second], axis=1)
    return float(median(real / _average_distances()[slots[first], slots[second]]))


@functools.cache
def _average_distances() -> Array:
    """Distances between the teeth of an average mouth, (32, 32) mm."""
    position = average_mouth().position
    return np.asarray(np.linalg.norm(position[:, None] - position, axis=-1))


def _above(arches: Sequence[Arch], up: Array) -> float:
    """Height of the upper arch over the lower along `up`, mm; 0.0 if small, or an arch has few teeth."""
    by_name = {arch.name: arch for arch in arches if len(arch.slots) >= MIN_TEETH_OF_ARCH}
    if len(by_name) < 2:
        return 0.0
    apart = float((by_name["upper"].centroid - by_name["lower"].centroid) @ up)
    return apart if abs(apart) > APART_MM else 0.0


def _crowns(pose: Array, arches: Sequence[Arch], up: Array) -> float:
    """Median cosine between crown axes and the direction they should have, `up` being up."""
    slots = np.concatenate([arch.slots for arch in arches])
    return float(median((pose[slots, :3, 2] @ up) * average_mouth().crown[slots, 2]))


def _turn_deg(one: Array, other: Array) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(one.T @ other) - 1) / 2, -1, 1))))


def _wrong_axes(frame: Array) -> str:
    """Describe those of the mouth's axes left, posterior and up that do not point as they should."""
    told = []
    for column, name in enumerate(("the patient's left", "posterior", "up")):
        axis = int(np.abs(frame[:, column]).argmax())
        sign = "+" if frame[axis, column] > 0 else "-"
        if (axis, sign) != (column, "+"):
            told.append(f"{name} is at {sign}{_AXES[axis]}, not +{_AXES[column]}")
    return "; ".join(told) or "it is oblique to the axes"


def _frame_fix() -> str:
    return f"export in the head frame ({_LPS})"


def _axis_fix(wanted: str) -> str:
    return f"export tooth-local meshes and poses with {wanted}"
