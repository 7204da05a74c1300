"""Poses of the teeth at T1 and T2, tooth-local -> head, mm, from a case document."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dentalign.cases.case_document import (
    LARGEST_NUMBER,
    CaseDocument,
    Pose,
    Quaternion,
    Stage,
    Vector,
    position_of_t2,
)
from dentalign.errors import CaseDefect, ToothDefect
from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.teeth import is_known, is_upper

ORIGIN_MM = 0.1  # of head or jaw: in metres a mouth is 0.06 mm long
_IDENTITY = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]  # translation, quaternion


@dataclass(frozen=True)
class StagePoses:
    """Poses of the teeth of a case: tooth number as in the file -> (4, 4) float64, tooth-local -> head, mm.

    t1      : usable teeth at T1
    t2      : teeth of `t1` that stand at T2 too (the plan extracts the other teeth); None without a T2
    defects : tooth number -> defect of each unusable tooth at T1, which is in neither `t1` nor `t2`
    t2_only : numbers of teeth that stand at T2 only
    """

    t1: dict[int, Array]
    t2: dict[int, Array] | None
    defects: dict[int, ToothDefect]
    t2_only: tuple[int, ...]


def stage_poses(document: CaseDocument, file: str = "", *, require_t2: bool = True) -> StagePoses:
    """Read the poses at T1, the first treatment stage, and at T2, the treatment stage with the index T2Stage.

    file       : path or URL, for the errors
    require_t2 : if False, a document without `T2Stage` gives t2 = None
    returns    : poses; a tooth at T1 whose pose is broken at T1 or at T2 is in `defects`
    raises     : CaseDefect for an invalid T2Stage, a broken jaw pose, or tooth poses in no field or in two
                 fields of T1 or T2; if require_t2 is True, also for a missing T2Stage
    """
    t2_index = t2_position(document, file)
    if t2_index is None and require_t2:
        seen = "T2Stage is missing, or names the first stage: usable for predict, not for training"
        raise CaseDefect("no_t2_stage", seen, "export the case with its target stage", file=file)
    defects: dict[int, ToothDefect] = {}
    t1 = _stage(document, 0, file, defects)
    t1_numbers = t1.keys() | defects.keys()
    if t2_index is None:
        return StagePoses(t1, None, defects, ())
    t2_defects: dict[int, ToothDefect] = {}
    t2 = _stage(document, t2_index, file, t2_defects)
    t2_only = sorted((t2.keys() | t2_defects.keys()) - t1_numbers)
    for number in t2_defects.keys() & t1_numbers:
        defects.setdefault(number, t2_defects[number])
    return StagePoses(
        t1={number: pose for number, pose in t1.items() if number not in defects},
        t2={number: pose for number, pose in t2.items() if number in t1 and number not in defects},
        defects=dict(sorted(defects.items())),
        t2_only=tuple(t2_only),
    )


def t2_position(document: CaseDocument, file: str = "") -> int | None:
    """Index of T2 in `document.staging`; None without a T2Stage; raises CaseDefect for an invalid one."""
    stage, count = document.t2_stage, len(document.staging)
    if stage is None:
        return None
    fix = f"T2Stage must be a whole number from 1 to {count}"
    if not stage.is_integer():  # also NaN and infinity
        raise CaseDefect("bad_t2_stage", "T2Stage is not a whole number", fix, file=file)
    position = position_of_t2(stage, count)
    if position is None:
        raise CaseDefect(
            "bad_t2_stage", f"T2Stage is {int(stage)}, but there are {count} stages", fix, file=file
        )
    return position


def _stage(
    document: CaseDocument, index: int, file: str, defects: dict[int, ToothDefect]
) -> dict[int, Array]:
    """Head poses of one stage by FDI number; what is broken goes to `defects`."""
    stage = document.staging[index]
    where = f"{file}: Staging[{index}]" if file else f"Staging[{index}]"
    teeth, to_jaw = _spelling(stage, where)
    usable: dict[int, list[float]] = {}
    for number, tooth in sorted((int(key), pose) for key, pose in teeth.items()):
        try:
            usable[number] = _tooth_numbers(number, tooth, where)
        except ToothDefect as defect:
            defects[number] = defect
    for number in _in_the_origin(usable):
        seen = f"it stands within {ORIGIN_MM:g} mm of the origin, unlike other teeth"
        fix = "export its own pose, in mm, or no pose if there is none"
        defects[number] = ToothDefect("pose_at_origin", seen, fix, file=where, tooth=number)
        del usable[number]
    if not usable:
        return {}
    if not to_jaw:
        return dict(zip(usable, _matrices([*usable.values()]), strict=True))
    upper = [is_upper(number) for number in usable]
    jaws = {which: _jaw_numbers(document, stage, which, where) for which in dict.fromkeys(upper)}
    matrices = _matrices([*usable.values(), *jaws.values()])
    jaw = dict(zip(jaws, matrices[len(usable) :], strict=True))
    poses = np.stack([jaw[which] for which in upper]) @ matrices[: len(usable)]
    return dict(zip(usable, poses, strict=True))


def _in_the_origin(poses: Mapping[int, list[float]]) -> list[int]:
    """Find teeth without a place: the identity, which exporters write where reading a tooth fails, or metres.

    None if most are so: then the poses of the whole stage are something else.
    """
    found = [number for number, numbers in poses.items() if math.hypot(*numbers[:3]) < ORIGIN_MM]
    return found if 2 * len(found) < len(poses) else []


def _spelling(stage: Stage, where: str) -> tuple[Mapping[str, Pose | None], bool]:
    """Tooth poses of a stage; True beside them if they are relative to the jaw."""
    spelt = [(stage.teeth, False), (stage.teeth_head, False), (stage.teeth_jaw, True)]
    present = [(teeth, to_jaw) for teeth, to_jaw in spelt if teeth]
    if not present:
        raise CaseDefect(
            "no_tooth_poses", "a stage without tooth poses", "export its tooth poses", file=where
        )
    if len(present) > 1:
        seen = "tooth poses in two fields of one stage"
        fix = "export one of ToothTransforms, RelativeToothTransformsHead and RelativeToothTransforms"
        raise CaseDefect("two_spellings", seen, fix, file=where)
    teeth, to_jaw = present[0]
    return teeth, to_jaw


def _tooth_numbers(number: int, pose: Pose | None, where: str) -> list[float]:
    if not is_known(number):
        seen, renumber = f"tooth number {number} is not in the FDI scheme", "give the tooth its FDI number"
        raise ToothDefect("unknown_tooth", seen, renumber, file=where, tooth=number)
    numbers = _numbers(pose)
    code, seen = _broken(numbers)
    if code or numbers is None:
        fix = "correct the tooth's pose in the planning system and export again"
        raise ToothDefect(code, seen, fix, file=where, tooth=number)
    return numbers


def jaw_pose(document: CaseDocument, stage: Stage, upper: bool, where: str = "") -> Array:
    """Pose (4, 4) of a jaw, jaw -> head, mm: that of the stage, else of the document, else the identity.

    upper  : True for the maxilla, False for the mandible
    where  : file and stage, for the error
    raises : CaseDefect if the pose is broken
    """
    return _matrices([_jaw_numbers(document, stage, upper, where)])[0]


def _jaw_numbers(document: CaseDocument, stage: Stage, upper: bool, where: str) -> list[float]:
    of_stage, of_document = (
        (stage.maxilla, document.maxilla) if upper else (stage.mandible, document.mandible)
    )
    pose = of_document if of_stage is None else of_stage
    if pose is None:
        return _IDENTITY
    numbers = _numbers(pose)
    code, seen = _broken(numbers)
    if code or numbers is None:
        jaw = "upper" if upper else "lower"
        fix = "correct the jaw's pose and export again"
        raise CaseDefect(f"jaw_{code}", f"pose of the {jaw} jaw: {seen}", fix, file=where)
    return numbers


def _numbers(pose: Pose | None) -> list[float] | None:
    """Translation x, y, z and rotation x, y, z, w as one list; None if a number is missing."""
    if pose is None:
        return None
    t, q = pose.translation or Vector(), pose.rotation or Quaternion()
    entries = [t.x, t.y, t.z, q.x, q.y, q.z, q.w]
    present = [entry for entry in entries if entry is not None]
    return present if len(present) == len(entries) else None


def _broken(numbers: list[float] | None) -> tuple[str, str]:
    """Code and text of what is wrong with the numbers of a pose, or two empty texts."""
    if numbers is None:
        return (
            "bad_pose",
            f"an entry of translation or rotation is missing, not a number, or over {LARGEST_NUMBER:.0f}",
        )
    if not all(map(math.isfinite, numbers)):
        return "pose_not_finite", "NaN or infinity in the translation or rotation"
    if not any(numbers[3:]):
        return "zero_quaternion", "a rotation of norm 0"
    return "", ""


def _matrices(numbers: list[list[float]]) -> Array:
    """Poses (n, 4, 4) of rows that are not broken, all at once: numpy takes ten times as long one by one."""
    rows = np.array(numbers)
    return rigid.from_quaternion(rows[:, 3:], rows[:, :3])
