"""Rates at which spoilt poses are found, and false alarms on good cases.

    python benchmarks/spoilt_poses.py ../plain ../hard data/demo --count 200

Each folder is a case store (`json/<case_id>.json`, no meshes needed) of good cases. First all of them are
read as they are: whatever would be left out is a false alarm. Then cases drawn at random are spoilt in each
way that exports go wrong, and read again. A mouth-wide kind is found if the case is excluded, one of single
teeth if these are dropped or the case is excluded. Cases in which a kind cannot be made are passed over.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dentalign.cases import case_document
from dentalign.cases.findings import Findings
from dentalign.cases.left_out import NO_TEETH_OF_T1
from dentalign.cases.poses import jaw_pose, stage_poses, t2_position
from dentalign.cases.reading import read_poses
from dentalign.cases.settings import Limits
from dentalign.errors import CaseDefect
from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.prediction.planned_document import as_pose
from dentalign.teeth import is_upper

Document = dict[str, Any]
Poses = dict[int, Array]  # FDI number -> (4, 4), tooth-local -> head, mm
SPELLINGS = ("ToothTransforms", "RelativeToothTransformsHead", "RelativeToothTransforms")
T1, T2 = 0, -1
ALL = (T1, T2)
LIMITS = Limits()


@dataclass
class Case:
    """Case with two stages: its document, to be changed, and its head poses as they were."""

    document: Document
    t1: Poses
    t2: Poses
    jaws: dict[bool, Array]  # of T2; True: upper

    def entries(self, stage: int) -> dict[str, Any]:
        """Poses of a stage as they stand in the document."""
        given = self.document["Staging"][stage]
        return next(given[key] for key in SPELLINGS if key in given)

    def head(self, stage: int) -> Poses:
        """Head poses of a stage."""
        return self.t1 if stage == T1 else self.t2

    def write(self, stage: int, poses: Poses) -> None:
        """Give a stage other head poses."""
        self.document["Staging"][stage] = {
            "Stage": stage % 2,
            "ToothTransforms": {str(fdi): as_pose(pose).model_dump() for fdi, pose in poses.items()},
        }


# Spoils a case; returns the teeth that are spoilt, [] for all, None where the case does not lend itself.
Spoil = Callable[[Case, np.random.Generator], list[int] | None]
Change = Callable[[Array], Array]


def load(path: Path) -> Case:
    """Read a good case and leave out the stages between T1 and T2."""
    document = case_document.read(path, path.stem)
    poses = stage_poses(document)
    last = t2_position(document) or 0
    jaws = {upper: jaw_pose(document, document.staging[last], upper) for upper in (True, False)}
    plain = case_document.as_json(document)
    plain["Staging"] = [dict(plain["Staging"][index]) for index in (0, last)]
    for number, stage in enumerate(plain["Staging"]):
        stage["Stage"] = number
    return Case(plain | {"T2Stage": 1}, poses.t1, poses.t2 or {}, jaws)


def read(case: Case) -> tuple[str, dict[int, str]]:
    """Read a case: the code with which it is excluded, or "", and codes of the teeth dropped."""
    case_id = case.document["CaseID"]
    findings, code = Findings(case_id, "benchmark"), ""
    try:
        document = case_document.parse(json.dumps(case.document).encode(), case_id)
        read_poses(document, "", "+y", LIMITS, findings)
    except CaseDefect as defect:
        code = defect.code
    dropped = [line for line in findings.lines if line.tooth and line.code not in NO_TEETH_OF_T1]
    return code, {int(line.tooth): line.code for line in dropped}


# ------------------------------------------------------------------------- ways to spoil


def motion(rotation: Array | None = None, shift: Sequence[float] | Array = (0, 0, 0)) -> Array:
    """Pose, or change of poses, (4, 4)."""
    return rigid.from_rotation(np.eye(3) if rotation is None else rotation, np.asarray(shift, float))


def scaled(factor: float) -> Change:
    """Another unit."""
    return lambda pose: motion(pose[:3, :3], pose[:3, 3] * factor)


def moved(change: Array) -> Change:
    """Another frame of the head."""
    return lambda pose: change @ pose


def turned(axis: str) -> Change:
    """Half a turn about an axis of the tooth."""
    signs = {"x": (1, -1, -1), "y": (-1, 1, -1), "z": (-1, -1, 1)}[axis]
    return lambda pose: pose @ np.diag([*signs, 1.0])


def mirrored(pose: Array) -> Array:
    """Left and right exchanged."""
    flip = np.diag([-1.0, 1, 1, 1])
    return flip @ pose @ flip


def all_teeth(stages: Sequence[int], change: Change) -> Spoil:
    """Change the head poses of all teeth."""

    def spoil(case: Case, rng: np.random.Generator) -> list[int]:
        for stage in stages:
            case.write(stage, {fdi: change(pose) for fdi, pose in case.head(stage).items()})
        return []

    return spoil


def shifted(stages: Sequence[int], mm: float, arch: bool | None = None) -> Spoil:
    """Move all teeth, or the upper or lower ones, into a random direction."""

    def spoil(case: Case, rng: np.random.Generator) -> list[int] | None:
        way = motion(shift=mm * rigid.unit(rng.normal(size=3)))
        if arch is not None and {is_upper(fdi) for fdi in case.t2} != {True, False}:
            return None
        for stage in stages:
            moved_ones = {f for f in case.head(stage) if arch in (None, is_upper(f))}
            case.write(stage, {f: way @ p if f in moved_ones else p for f, p in case.head(stage).items()})
        return []

    return spoil


def jaws(stages: Sequence[int], power: int, which: Sequence[bool] = (True, False)) -> Spoil:
    """Leave out the poses of jaws (-1), or apply them once more (1)."""

    def spoil(case: Case, rng: np.random.Generator) -> list[int] | None:
        if np.allclose(case.jaws[True], np.eye(4)) or {is_upper(fdi) for fdi in case.t2} != {True, False}:
            return None
        change = {k: case.jaws[k] if power > 0 else rigid.inverse(case.jaws[k]) for k in which}
        for stage in stages:
            poses = case.head(stage)
            case.write(stage, {f: change.get(is_upper(f), np.eye(4)) @ pose for f, pose in poses.items()})
        return []

    return spoil


def conjugate(entry: Document) -> None:
    """Write the inverse rotation."""
    q = entry["rotation"]
    entry["rotation"] = {"x": -q["x"], "y": -q["y"], "z": -q["z"], "w": q["w"]}


def scalar_first(entry: Document) -> None:
    """Write w, x, y, z under x, y, z, w."""
    q = entry["rotation"]
    entry["rotation"] = {"x": q["w"], "y": q["x"], "z": q["y"], "w": q["z"]}


def identity(entry: Document) -> None:
    """Write a placeholder."""
    entry.update(as_pose(np.eye(4)).model_dump())


def all_entries(stages: Sequence[int], change: Callable[[Document], None]) -> Spoil:
    """Change the entries of all teeth."""

    def spoil(case: Case, rng: np.random.Generator) -> list[int]:
        for stage in stages:
            for entry in case.entries(stage).values():
                change(entry)
        return []

    return spoil


def movement(local: bool) -> Spoil:
    """Write what leads from T1 to T2, in tooth or head coordinates, as T2."""

    def spoil(case: Case, rng: np.random.Generator) -> list[int]:
        back = {fdi: rigid.inverse(case.t1[fdi]) for fdi in case.t2}
        case.write(T2, {f: back[f] @ pose if local else pose @ back[f] for f, pose in case.t2.items()})
        return []

    return spoil


def same(case: Case, rng: np.random.Generator) -> list[int]:
    """Write T1 as T2, but for less than 0.01 mm."""
    case.write(T2, {fdi: motion(shift=rng.uniform(-0.004, 0.004, 3)) @ case.t1[fdi] for fdi in case.t2})
    return []


def without_arch(case: Case, rng: np.random.Generator) -> list[int] | None:
    """Leave an arch out of T2."""
    upper = bool(rng.integers(2))
    left = {fdi: pose for fdi, pose in case.t2.items() if is_upper(fdi) != upper}
    if not left or len(left) == len(case.t2):
        return None
    case.write(T2, left)
    return []


def arch_alone(upper: bool, spoil: Spoil) -> Spoil:
    """Leave the other arch out of both stages, and spoil what is left."""

    def both(case: Case, rng: np.random.Generator) -> list[int] | None:
        for stage in ALL:
            entries = case.entries(stage)
            for fdi in [fdi for fdi in entries if is_upper(int(fdi)) != upper]:
                del entries[fdi]
        return spoil(case, rng) if case.entries(T2) else None

    return both


def of_another_patient() -> Spoil:
    """Give T2 of the case before."""
    plans: list[Poses] = []

    def spoil(case: Case, rng: np.random.Generator) -> list[int] | None:
        plans.append(case.t2)
        if len(plans) < 2:
            return None
        case.write(T2, {fdi: plans[-2][fdi] for fdi in case.t2 if fdi in plans[-2]})
        return []

    return spoil


def one_tooth(stages: Sequence[int], change: Change) -> Spoil:
    """Change the head pose of a tooth."""

    def spoil(case: Case, rng: np.random.Generator) -> list[int]:
        fdi = int(rng.choice(sorted(case.t2)))
        for stage in stages:
            case.write(stage, {f: change(pose) if f == fdi else pose for f, pose in case.head(stage).items()})
        return [fdi]

    return spoil


def one_shifted(stages: Sequence[int], mm: float) -> Spoil:
    """Move a tooth into a random direction, the same at all stages."""

    def spoil(case: Case, rng: np.random.Generator) -> list[int] | None:
        return one_tooth(stages, moved(motion(shift=mm * rigid.unit(rng.normal(size=3)))))(case, rng)

    return spoil


def one_entry(stages: Sequence[int], change: Callable[[Document], None]) -> Spoil:
    """Change the entry of a tooth."""

    def spoil(case: Case, rng: np.random.Generator) -> list[int]:
        fdi = int(rng.choice(sorted(case.t2)))
        for stage in stages:
            change(case.entries(stage)[str(fdi)])
        return [fdi]

    return spoil


def one_conjugated(stages: Sequence[int], upper: bool, least: float = 0.0, most: float = math.inf) -> Spoil:
    """Conjugate the quaternion of a tooth that this turns by `least` to `most` degrees."""

    def spoil(case: Case, rng: np.random.Generator) -> list[int] | None:
        rotations = {f: case.head(stages[-1])[f][:3, :3] for f in case.t2}
        angle = {f: float(rigid.angle_deg(rotation @ rotation)) for f, rotation in rotations.items()}
        able = [f for f in sorted(case.t2) if is_upper(f) == upper and least <= angle[f] < most]
        if not able:
            return None
        fdi = int(rng.choice(able))
        for stage in stages:
            conjugate(case.entries(stage)[str(fdi)])
        return [fdi]

    return spoil


def exchanged(one: int, other: int, stages: Sequence[int] = (T2,)) -> Spoil:
    """Exchange the poses of two teeth."""

    def spoil(case: Case, rng: np.random.Generator) -> list[int] | None:
        if not {one, other} <= case.t2.keys():
            return None
        for stage in stages:
            poses = case.head(stage)
            case.write(stage, {**poses, one: poses[other], other: poses[one]})
        return [one, other]

    return spoil


LOST = {"metres": 1e-3, "centimetres": 0.1, "inches": 1 / 25.4}
YAW = motion(rigid.rotation_matrix([0.0, 0.0, np.radians(30)]))
RAS = np.diag([-1.0, -1, 1, 1])

MOUTH: dict[str, Spoil] = {
    "T2 a movement, in the head frame": movement(local=False),
    "T2 a movement, in the tooth's frame": movement(local=True),
    **{f"T2 in {unit}": all_teeth([T2], scaled(factor)) for unit, factor in LOST.items()},
    "T2 in RAS": all_teeth([T2], moved(RAS)),
    "T2 mirrored": all_teeth([T2], mirrored),
    "T2 turned by 30 deg about the vertical": all_teeth([T2], moved(YAW)),
    "T2 shifted by 25 mm": shifted([T2], 25),
    "T2 shifted by 200 mm": shifted([T2], 200),
    "T2, upper arch shifted by 25 mm": shifted([T2], 25, arch=True),
    "T2, quaternions conjugated": all_entries([T2], conjugate),
    "T2, quaternions w first": all_entries([T2], scalar_first),
    "T2, poses inverted": all_teeth([T2], rigid.inverse),
    "T2 without the jaws' poses": jaws([T2], -1),
    "T2 with the jaws' poses twice": jaws([T2], 1),
    "T2 without one arch": without_arch,
    "T2 is T1, to 0.01 mm": same,
    "T1 and T2, quaternions conjugated": all_entries(ALL, conjugate),
    "T1 and T2, quaternions w first": all_entries(ALL, scalar_first),
    "T1 and T2, poses inverted": all_teeth(ALL, rigid.inverse),
    **{f"T1 and T2 in {unit}": all_teeth(ALL, scaled(factor)) for unit, factor in LOST.items()},
    "T1 and T2 in RAS": all_teeth(ALL, moved(RAS)),
    "T1 and T2 mirrored": all_teeth(ALL, mirrored),
    "T1 and T2 without the pose of one jaw": jaws(ALL, -1, [False]),
    "T1 and T2 with the pose of one jaw twice": jaws(ALL, 1, [True]),
}  # fmt: skip
# What poses do not tell, or not always: named with its rate, and expected of nobody.
UNTOLD: dict[str, Spoil] = {
    "lower arch alone, T2, quaternions conjugated": arch_alone(False, all_entries([T2], conjugate)),
    "upper arch alone, T2, quaternions conjugated": arch_alone(True, all_entries([T2], conjugate)),
    "T1 and T2 without the jaws' poses": jaws(ALL, -1),
    "T1 and T2 with the jaws' poses twice": jaws(ALL, 1),
    "T2 of another patient": of_another_patient(),
    "24 and 25 exchanged at T1 and T2": exchanged(24, 25, ALL),
    **{f"one lower tooth conjugated at {when}": one_conjugated(stages, False)
       for when, stages in (("T1", [T1]), ("T1 and T2", ALL))},
    "one upper tooth conjugated at T2, turned by less than 25 deg": one_conjugated([T2], True, most=25),
    "one upper tooth conjugated at T1": one_conjugated([T1], True),
}  # fmt: skip
TOOTH: dict[str, Spoil] = {
    **{f"{one} and {other} exchanged at T2": exchanged(one, other)
       for one, other in ((13, 23), (11, 16), (24, 25), (11, 21), (31, 32), (33, 34), (46, 47))},
    **{f"one tooth {what} at {when}": spoil
       for when, stages in (("T2", [T2]), ("T1", [T1]), ("T1 and T2", ALL))
       for what, spoil in (
           ("shifted by 25 mm", one_shifted(stages, 25)),
           ("turned by 180 deg about its long axis", one_tooth(stages, turned("z"))),
           ("upside down", one_tooth(stages, turned("y"))),
           ("identity", one_entry(stages, identity)),
           ("in metres", one_tooth(stages, scaled(1e-3))),
       )},
    "one lower tooth conjugated at T2": one_conjugated([T2], False),
    "one upper tooth conjugated at T2, turned by 25 deg or more": one_conjugated([T2], True, least=25),
}  # fmt: skip


# --------------------------------------------------------------------------------- rates


def main() -> None:
    """Print the false alarms, and the rates as a table in Markdown."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("folders", nargs="+", type=Path, help="case stores of good cases")
    parser.add_argument("--count", type=int, default=200, help="spoilt cases of each kind")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    paths = [path for folder in given.folders for path in sorted(folder.glob("json/*.json"))]
    good = []
    for path, alarm in alarms(paths):
        if alarm:
            print(f"false alarm: {path}: {alarm}")
        else:
            good.append(path)
    print(f"{len(paths)} good cases, {len(paths) - len(good)} false alarms\n")
    print("| spoilt | found | of | codes |\n|---|---|---|---|")
    for kinds in (MOUTH, TOOTH, UNTOLD):
        for name, spoil in kinds.items():
            found, made, codes = rate(spoil, good, given.count, np.random.default_rng(given.seed))
            often = ", ".join(f"`{code}` {count}" for code, count in codes.most_common(3))
            print(f"| {name} | {found} | {made} | {often} |", flush=True)


def alarms(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Read cases as they are: path, and the codes if anything would be left out."""
    for path in paths:
        code, teeth = read(load(path))
        yield path, " ".join([code, *(f"{fdi}:{tooth}" for fdi, tooth in teeth.items())]).strip()


def rate(
    spoil: Spoil, paths: Sequence[Path], count: int, rng: np.random.Generator
) -> tuple[int, int, Counter[str]]:
    """Spoil cases drawn at random: number found, number made, and the codes."""
    found = made = 0
    codes: Counter[str] = Counter()
    for index in rng.permutation(len(paths)):
        if made == count:
            break
        case = load(paths[index])
        spoilt = spoil(case, rng)
        if spoilt is None:
            continue
        made += 1
        code, teeth = read(case)
        if code or (spoilt and set(spoilt) <= teeth.keys()):
            found += 1
        codes.update({code} if code else {teeth[fdi] for fdi in spoilt if fdi in teeth})
    return found, made, codes


if __name__ == "__main__":
    main()
