"""From tooth numbers to the 32 slots: which tooth stands where, and which cannot."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dentalign.cases.poses import StagePoses
from dentalign.cases.settings import BuccalAxis
from dentalign.errors import CaseDefect, ToothDefect
from dentalign.geometry.rigid import Array
from dentalign.teeth import SLOT_COUNT, SLOT_INDEX, SLOTS, is_known, successor


@dataclass(frozen=True)
class Placement:
    """A case in slots (dentalign.teeth.SLOTS). A dropped tooth is in no mask, but it is not absent.

    fdi     : (32,) int64, number as in the file of the tooth at T1, 0 if none is used
    t1_mask : (32,) bool, a tooth stands there at T1 (input)
    t2_mask : (32,) bool, it stays until T2 (label); False for an extraction, and without a T2
    t1_pose : (32, 4, 4) float64, tooth-local -> head, mm, identity where masked
    t2_pose : the same at T2
    dropped : slot -> number of the tooth there that cannot be used
    defects : of the teeth dropped, with or without a slot
    listed  : teeth to be listed that are neither input nor label, nor dropped (those of T2 only)
    """

    fdi: NDArray[np.int64]
    t1_mask: NDArray[np.bool_]
    t2_mask: NDArray[np.bool_]
    t1_pose: Array
    t2_pose: Array
    dropped: dict[int, int]
    defects: tuple[ToothDefect, ...]
    listed: tuple[ToothDefect, ...]


def place(poses: StagePoses, max_dropped_teeth: int, file: str = "") -> Placement:
    """Put the teeth of a case into their slots; a primary tooth takes that of its successor.

    raises: CaseDefect if two teeth want one slot, if more than `max_dropped_teeth` had to be dropped,
            or if no tooth is left
    """
    _refuse_shared_slots({*poses.t1, *poses.defects, *poses.t2_only}, file)
    refuse_too_many_dropped(len(poses.defects), max_dropped_teeth, file)
    fdi = np.zeros(SLOT_COUNT, dtype=np.int64)
    masks = np.zeros((2, SLOT_COUNT), dtype=np.bool_)
    matrices = np.tile(np.eye(4), (2, SLOT_COUNT, 1, 1))
    for stage, teeth in enumerate((poses.t1, poses.t2 or {})):
        for number, pose in teeth.items():
            slot = slot_of(number)
            fdi[slot], masks[stage, slot], matrices[stage, slot] = number, True, pose
    refuse_nothing_left(masks[0], masks[1] if poses.t2 is not None else None, file)
    return Placement(
        fdi=fdi,
        t1_mask=masks[0],
        t2_mask=masks[1],
        t1_pose=matrices[0],
        t2_pose=matrices[1],
        dropped={slot_of(number): number for number in sorted(poses.defects) if is_known(number)},
        defects=tuple(poses.defects.values()),
        listed=tuple(_t2_only(number, file) for number in poses.t2_only),
    )


def slot_of(fdi: int) -> int:
    """Index 0..31 of a tooth's slot; KeyError for a number not in the FDI scheme."""
    return SLOT_INDEX[successor(fdi)]


def refuse_too_many_dropped(dropped: int, limit: int, file: str = "") -> None:
    """Exclude a case that lost more teeth than `limits.max_dropped_teeth`; raises CaseDefect."""
    if dropped > limit:
        seen = f"{dropped} teeth cannot be used, more than limits.max_dropped_teeth = {limit}"
        raise CaseDefect("too_many_dropped", seen, "mend the teeth listed, or raise the limit", file=file)


def refuse_nothing_left(
    t1_mask: NDArray[np.bool_], t2_mask: NDArray[np.bool_] | None, file: str = ""
) -> None:
    """Exclude a case with no tooth at T1 or, where there is a T2, none at both; raises CaseDefect."""
    if not t1_mask.any():
        raise CaseDefect("no_teeth", "no usable tooth at T1", "mend the teeth listed", file=file)
    if t2_mask is not None and not (t1_mask & t2_mask).any():
        seen, mend = "no usable tooth stands at both T1 and T2", "see whether T2Stage is the right stage"
        raise CaseDefect("no_pairs", seen, mend, file=file)


def to_our_frame(buccal_axis: BuccalAxis) -> Array:
    """Rotation (3, 3) from an exporter's tooth-local frame to ours, which has buccal at +y.

    Points are turned by it: p' = R p; poses go the other way round, see `in_our_frame`.
    """
    return np.diag([-1.0, -1.0, 1.0]) if buccal_axis == "-y" else np.eye(3)  # 180 deg about z


def in_our_frame(pose: Array, buccal_axis: BuccalAxis) -> Array:
    """Poses (..., 4, 4) for points that `to_our_frame` has turned: pose' = pose @ R^-1."""
    turned = pose.copy()
    turned[..., :3, :3] = pose[..., :3, :3] @ to_our_frame(buccal_axis).T
    return turned


def _refuse_shared_slots(numbers: set[int], file: str) -> None:
    wanted: dict[int, list[int]] = defaultdict(list)
    for number in sorted(numbers):
        if is_known(number):
            wanted[slot_of(number)].append(number)
    for slot, teeth in wanted.items():
        if len(teeth) > 1:
            seen = f"teeth {' and '.join(map(str, teeth))} both want the slot of {SLOTS[slot]}"
            raise CaseDefect("slot_conflict", seen, "leave one of them out of the export", file=file)


def _t2_only(number: int, file: str) -> ToothDefect:
    seen, mend = "the tooth stands at T2 only", "nothing, if it erupts later; it is neither input nor label"
    return ToothDefect("t2_only", seen, mend, file=file, tooth=number)
