"""Tooth numbers -> the 32 slots, and an exporter's tooth-local frame -> ours."""

from collections import defaultdict
from dataclasses import replace

import numpy as np

from dentalign.cases.poses import StagePoses
from dentalign.cases.settings import BuccalAxis
from dentalign.errors import CaseDefect
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2, Mouth
from dentalign.teeth import SLOT_INDEX, SLOTS, is_known, successor


def place(poses: StagePoses, file: str = "") -> Mouth:
    """Put the teeth of a case into their slots; a primary tooth takes that of its permanent successor.

    returns: a mouth without points; a tooth that cannot be used is dropped where its number has a slot
    raises : CaseDefect if two teeth want one slot
    """
    _refuse_shared_slots({*poses.t1, *poses.defects, *poses.t2_only}, file)
    mouth = Mouth.empty()
    for number in filter(is_known, poses.defects):
        mouth.fdi[slot_of(number)], mouth.dropped[slot_of(number)] = number, True
    for stage, teeth in ((T1, poses.t1), (T2, poses.t2 or {})):
        for number, pose in teeth.items():
            slot = slot_of(number)
            mouth.fdi[slot], mouth.present[stage, slot], mouth.pose[stage, slot] = number, True, pose
    return mouth


def slot_of(fdi: int) -> int:
    """Index 0..31 of a tooth's slot; KeyError for a number not in the FDI scheme."""
    return SLOT_INDEX[successor(fdi)]


def to_our_frame(buccal_axis: BuccalAxis) -> Array:
    """Rotation (3, 3) from an exporter's tooth-local frame to ours, which has buccal at +y.

    Points are turned by it: p' = R p; poses go the other way round, see `turned`.
    """
    return np.diag([-1.0, -1.0, 1.0]) if buccal_axis == "-y" else np.eye(3)  # 180 deg about z


def in_our_frame(mouth: Mouth, buccal_axis: BuccalAxis) -> Mouth:
    """Bring the poses of a mouth to our tooth-local frame."""
    pose = np.where(mouth.present[..., None, None], turned(mouth.pose, buccal_axis), mouth.pose)
    return replace(mouth, pose=pose)


def turned(pose: Array, buccal_axis: BuccalAxis) -> Array:
    """Convert poses (..., 4, 4) between an exporter's tooth-local frame and ours: pose' = pose @ R^-1.

    The same both ways, as half a turn there and back is none.
    """
    other = pose.copy()
    other[..., :3, :3] = pose[..., :3, :3] @ to_our_frame(buccal_axis).T
    return other


def _refuse_shared_slots(numbers: set[int], file: str) -> None:
    wanted: dict[int, list[int]] = defaultdict(list)
    for number in sorted(numbers):
        if is_known(number):
            wanted[slot_of(number)].append(number)
    for slot, teeth in wanted.items():
        if len(teeth) > 1:
            seen = f"teeth {' and '.join(map(str, teeth))} both want the slot of {SLOTS[slot]}"
            raise CaseDefect("slot_conflict", seen, "leave one of them out of the export", file=file)
