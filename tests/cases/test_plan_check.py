"""T2 is compared with T1: what no treatment does is left out with its figures, what plans do passes."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import spoilt_poses
from spoilt_poses import Case, Poses, motion

from dentalign.cases import case_document
from dentalign.cases.findings import Findings
from dentalign.cases.left_out import LeftOut
from dentalign.cases.reading import read_poses
from dentalign.cases.settings import BuccalAxis, Limits
from dentalign.cases.slots import turned
from dentalign.demo_clinic import clinic
from dentalign.errors import CaseDefect
from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.teeth import is_upper

COMPLETE = range(101, 105)  # patients with the same 28 teeth
ABOUT_ITS_AXIS = rigid.from_rotation(rigid.rotation_matrix([0.0, 0.0, np.pi]), np.zeros(3))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Documents of made-up patients with all their teeth."""
    folder = tmp_path_factory.mktemp("cases")
    found = []
    for number in COMPLETE:
        case = clinic.make_case(number, seed=5, complete=True)
        found.append(folder / f"{case.case_id}.json")
        found[-1].write_text(json.dumps(case.document), encoding="utf-8")
    return found


@pytest.fixture
def case(files: list[Path]) -> Case:
    return spoilt_poses.load(files[0])


def lines(case: Case, limits: Limits | None = None, axis: BuccalAxis = "+y") -> list[LeftOut]:
    """What is left out of a case; a line without a tooth if all of it is."""
    case_id = case.document["CaseID"]
    findings = Findings(case_id, "test")
    document = case_document.parse(json.dumps(case.document).encode(), case_id)
    try:
        read_poses(document, "a.json", axis, limits or Limits(), findings)
    except CaseDefect as defect:
        findings.add(defect)
    return findings.lines


def codes(case: Case, limits: Limits | None = None) -> dict[str, str]:
    """Code by tooth, "" for the case."""
    return {line.tooth: line.code for line in lines(case, limits)}


def planned(case: Case, change: Callable[[int, Array], Array], teeth: Sequence[int] = ()) -> Case:
    """Change the plan of some teeth, or of all."""
    case.write(
        spoilt_poses.T2, {f: change(f, p) if f in (teeth or case.t2) else p for f, p in case.t2.items()}
    )
    return case


def test_good_cases_lose_nothing(tmp_path: Path) -> None:
    for number in range(1, 17):
        made = clinic.make_case(number, seed=11)
        file = tmp_path / f"{made.case_id}.json"
        file.write_text(json.dumps(made.document), encoding="utf-8")
        assert not lines(spoilt_poses.load(file)), number


def test_realteeth_cases_lose_nothing(realteeth: Path) -> None:
    good = sorted(realteeth.glob("json/rt-0000*.json"))
    assert good
    assert not [alarm for _, alarm in spoilt_poses.alarms(good) if alarm]


@pytest.mark.parametrize("kind", spoilt_poses.MOUTH)
def test_a_mouth_that_is_spoilt_as_a_whole_is_excluded(kind: str, files: list[Path]) -> None:
    found, made, _ = spoilt_poses.rate(spoilt_poses.MOUTH[kind], files, 4, np.random.default_rng(0))
    assert found == made == len(files)


@pytest.mark.parametrize("kind", [kind for kind in spoilt_poses.TOOTH if "conjugated" not in kind])
def test_a_spoilt_tooth_is_dropped_and_the_others_stay(kind: str, files: list[Path]) -> None:
    for file in files:
        case = spoilt_poses.load(file)
        spoilt = spoilt_poses.TOOTH[kind](case, np.random.default_rng(1))
        assert spoilt
        assert codes(case).keys() == {str(fdi) for fdi in spoilt}


def test_a_plan_may_move_an_arch_as_a_whole_and_jump_the_bite(case: Case) -> None:
    back = motion(shift=[0.0, 6.0, 0.0])
    assert not lines(planned(case, lambda fdi, pose: back @ pose if is_upper(fdi) else pose))
    jump = motion(shift=[0.0, -8.0, -2.0])
    assert not lines(planned(case, lambda fdi, pose: pose if is_upper(fdi) else jump @ pose))


def test_a_plan_may_turn_a_tooth_far_and_move_it_far(case: Case) -> None:
    """A canine that stands across its place and high above it at T1, and is brought in."""
    across = rigid.from_rotation(rigid.rotation_matrix([0.0, 0.0, np.radians(100)]), np.zeros(3))
    high = motion(shift=[3.0, -6.0, 8.0])
    case.write(spoilt_poses.T1, {f: high @ p @ across if f == 23 else p for f, p in case.t1.items()})
    assert not lines(case)


def test_retroclined_incisors_that_are_brought_forward_stay(case: Case) -> None:
    """All four lean back as far as they lean forward in the plan: as if their rotations were inverted."""
    back = rigid.from_rotation(rigid.rotation_matrix([np.radians(35), 0.0, 0.0]), np.zeros(3))
    case.write(
        spoilt_poses.T1, {f: case.t2[f] @ back if f in (12, 11, 21, 22) else p for f, p in case.t1.items()}
    )
    assert not lines(case)


def test_extractions_pass_and_a_missing_arch_does_not(case: Case) -> None:
    some = {fdi: pose for fdi, pose in case.t2.items() if fdi not in (14, 24, 34, 44)}
    case.write(spoilt_poses.T2, some)
    assert not lines(case)
    case.write(spoilt_poses.T2, {fdi: pose for fdi, pose in some.items() if fdi > 30 or fdi in (11, 21)})
    (line,) = lines(case)
    assert (line.code, line.seen) == (
        "arch_missing",
        "12 of the 14 teeth of the upper arch are missing at T2",
    )


def test_what_was_seen_is_told_in_millimetres_and_degrees(case: Case) -> None:
    (line,) = lines(planned(case, lambda _, pose: motion(shift=[0.0, 15.0, 0.0]) @ pose))
    assert line.code == "arch_moved" and "the upper arch by 1" in line.seen and " mm and " in line.seen
    assert "limits.max_arch_movement_mm" in line.fix and line.file == "a.json"
    wide = Limits(max_from_arch_mm=100.0)
    (line,) = lines(planned(case, lambda _, pose: motion(shift=[0.0, 30.0, 0.0]) @ pose, [21]), wide)
    assert (line.code, line.tooth) == ("moved_too_far", "21") and "mm relative to its arch" in line.seen
    (line,) = lines(planned(case, lambda _, pose: pose @ ABOUT_ITS_AXIS, [26]))
    assert (line.code, line.tooth) == ("turned_too_far", "26") and "it turns by 1" in line.seen


def test_each_of_two_exchanged_teeth_names_the_other(case: Case) -> None:
    case.write(spoilt_poses.T2, {**case.t2, 24: case.t2[25], 25: case.t2[24]})
    assert {line.tooth: line.seen for line in lines(case)} == {
        "24": "at T2 it stands in the place of tooth 25",
        "25": "at T2 it stands in the place of tooth 24",
    }


def test_the_jaws_may_not_part(case: Case) -> None:
    down = motion(shift=[0.0, 0.0, -14.0])
    up_and_down = {fdi: (rigid.inverse(down) if is_upper(fdi) else down) for fdi in case.t2}
    apart = planned(case, lambda fdi, pose: up_and_down[fdi] @ pose)
    assert codes(apart) == {"": "jaws_apart"}
    wide = Limits(max_jaws_apart_mm=100.0, max_arch_movement_mm=20.0)
    assert codes(apart, wide) == {"": "jaws_moved_apart"}


def test_t2_that_is_t1_passes_where_the_limit_says_so(case: Case) -> None:
    case.write(spoilt_poses.T2, case.t1)
    assert codes(case) == {"": "no_movement"}
    assert not lines(case, Limits(min_movement_mm=0.0))


def test_a_rotation_alone_is_a_movement(case: Case) -> None:
    about_itself = rigid.from_rotation(rigid.rotation_matrix([0.0, 0.0, np.radians(3)]), np.zeros(3))
    case.write(spoilt_poses.T2, {fdi: pose @ about_itself for fdi, pose in case.t1.items()})
    assert not lines(case)


def test_one_inverted_rotation_at_t2_is_told_by_t1_and_by_the_tooth_on_the_other_side(case: Case) -> None:
    spoilt_poses.conjugate(case.entries(spoilt_poses.T2)["34"])
    assert codes(case) == {"34": "rotation_inverted"}


def test_an_exporter_with_the_other_buccal_axis_is_judged_alike(case: Case) -> None:
    def exported(poses: Poses) -> Poses:
        return {fdi: turned(pose, "-y") for fdi, pose in poses.items()}

    case.write(spoilt_poses.T1, exported(case.t1))
    case.write(spoilt_poses.T2, exported(case.t2))
    assert not lines(case, axis="-y")
    rotations = {fdi: turned(pose, "-y")[:3, :3] for fdi, pose in case.t2.items()}
    # The upper tooth that its inverse turns most: in another frame that is another one.
    upper = max(
        filter(is_upper, rotations), key=lambda f: float(rigid.angle_deg(rotations[f] @ rotations[f]))
    )
    for fdi in (35, 43, upper):
        spoilt_poses.conjugate(case.entries(spoilt_poses.T2)[str(fdi)])
    found = {line.tooth: line.code for line in lines(case, axis="-y")}
    assert found == dict.fromkeys(map(str, (35, 43, upper)), "rotation_inverted")


def test_an_arch_that_turns_as_a_whole_is_no_plan(case: Case) -> None:
    centroid = np.mean([pose[:3, 3] for pose in case.t2.values()], axis=0)
    about = rigid.from_rotation(rigid.rotation_matrix([0.0, 0.0, np.radians(25)]), np.zeros(3))
    there = motion(shift=centroid) @ about @ motion(shift=-centroid)
    found = lines(planned(case, lambda _, pose: there @ pose), Limits(max_arch_movement_mm=30.0))
    assert [line.code for line in found] == ["arch_moved"] and "25 deg" in found[0].seen


def test_a_placeholder_drops_its_tooth_wherever_it_stands(case: Case) -> None:
    spoilt_poses.identity(case.entries(spoilt_poses.T1)["16"])
    spoilt_poses.identity(case.entries(spoilt_poses.T2)["31"])
    assert codes(case) == {"16": "pose_at_origin", "31": "pose_at_origin"}
