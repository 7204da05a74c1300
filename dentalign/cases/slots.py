"""Tooth numbers -> the 32 slots, and an exporter's tooth-local frame -> ours."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from dentalign.cases.poses import StagePoses
from dentalign.cases.settings import BuccalAxis
from dentalign.errors import ToothDefect
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2, Mouth
from dentalign.teeth import SLOT_INDEX, SLOTS, is_known, successor


def place(poses: StagePoses) -> Mouth:
    """Put the teeth of a case into their slots; a primary tooth takes the slot of its permanent successor.

    poses   : at most one tooth per slot; call `without_rivals` first
    returns : a mouth without points. A tooth of `poses.defects` is marked in `Mouth.dropped`, unless another
              tooth takes its slot; a number outside the FDI scheme has no slot and is ignored
    """
    mouth = Mouth.empty()
    for number in filter(is_known, poses.defects):
        mouth.fdi[slot_of(number)], mouth.dropped[slot_of(number)] = number, True
    for stage, teeth in ((T1, poses.t1), (T2, poses.t2 or {})):
        for number, pose in teeth.items():
            slot = slot_of(number)
            mouth.fdi[slot], mouth.present[stage, slot], mouth.pose[stage, slot] = number, True, pose
            mouth.dropped[slot] = False
    return mouth


def without_rivals(poses: StagePoses, file: str = "", leaving: Collection[int] = ()) -> StagePoses:
    """Keep one tooth where a primary tooth and its permanent successor both stand.

    The tooth that stands at T2 is kept; if both or neither do, the permanent tooth. The other tooth becomes
    a defect.

    file    : path or URL, for the defects
    leaving : FDI numbers of teeth that will be extracted, which count as not standing at T2
    """
    wanted: dict[int, list[int]] = defaultdict(list)
    for number in sorted({*poses.t1, *poses.defects, *poses.t2_only}):  # a permanent tooth comes first
        if is_known(number):
            wanted[slot_of(number)].append(number)
    defects, t1 = dict(poses.defects), dict(poses.t1)
    t2 = t1 if poses.t2 is None else poses.t2
    for rivals in (numbers for numbers in wanted.values() if len(numbers) > 1):
        staying = [number for number in rivals if number in t2 and number not in leaving]
        winner = (staying or [number for number in rivals if number in t1] or rivals)[0]
        for loser in rivals:
            if loser != winner and loser in t1:
                seen = f"it stands in the slot of {SLOTS[slot_of(loser)]} together with tooth {winner}"
                fix = "name the tooth to be extracted with --extract, or leave it out of the export"
                defects[loser] = ToothDefect("slot_conflict", seen, fix, file=file, tooth=loser)
    kept = {number: pose for number, pose in t1.items() if number not in defects}
    after = None if poses.t2 is None else {n: pose for n, pose in poses.t2.items() if n not in defects}
    return StagePoses(kept, after, dict(sorted(defects.items())), poses.t2_only)


def slot_of(fdi: int) -> int:
    """Index 0..31 of a tooth's slot; raises KeyError for a number that is not in the FDI scheme."""
    return SLOT_INDEX[successor(fdi)]


def to_our_frame(buccal_axis: BuccalAxis) -> Array:
    """Rotation (3, 3) from an exporter's tooth-local frame to ours, which has buccal at +y.

    For points p' = R p; for poses see `turned`.
    """
    return np.diag([-1.0, -1.0, 1.0]) if buccal_axis == "-y" else np.eye(3)  # 180 deg about z


def in_our_frame(mouth: Mouth, buccal_axis: BuccalAxis) -> Mouth:
    """Convert the poses of a mouth from the exporter's tooth-local frame to ours."""
    pose = np.where(mouth.present[..., None, None], turned(mouth.pose, buccal_axis), mouth.pose)
    return replace(mouth, pose=pose)


def turned(pose: Array, buccal_axis: BuccalAxis) -> Array:
    """Convert poses (..., 4, 4) between an exporter's tooth-local frame and ours: pose' = pose @ R^-1.

    R, of `to_our_frame`, is its own inverse, so the function is the same in both directions.
    """
    other = pose.copy()
    other[..., :3, :3] = pose[..., :3, :3] @ to_our_frame(buccal_axis).T
    return other
