"""What no single case shows is said before training: plans without movement, one plan for all, one reason."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dentalign.cases import case_list, rigid_transforms
from dentalign.cases.data_set_check import Remark, nearly_all_left_out, remarks
from dentalign.cases.left_out import LeftOut
from dentalign.cases.settings import Fetch, Limits, Source
from dentalign.cli import app
from dentalign.demo_clinic import clinic
from dentalign.demo_clinic.case_files import tooth_poses
from dentalign.errors import NothingUsable
from dentalign.geometry import rigid, stl
from dentalign.mouth import T1, T2, Mouth
from dentalign.teeth import SLOT_INDEX, successor

CASES = 10
Change = Callable[[Mouth], Mouth]


def mouth(number: int) -> Mouth:
    made, found = clinic.make_case(number, seed=3), Mouth.empty(case_id=f"c{number}")
    for stage, poses in ((T1, made.t1), (T2, made.t2)):
        for fdi, pose in poses.items():
            slot = SLOT_INDEX[successor(fdi)]
            found.pose[stage, slot], found.present[stage, slot] = pose, True
    return found


@pytest.fixture(scope="module")
def mouths() -> list[Mouth]:
    return [mouth(number) for number in range(1, CASES + 1)]


def hardly_moved(given: Mouth) -> Mouth:
    """T2 is T1 and 0.1 mm on, of the teeth that stay."""
    pose = given.pose.copy()
    pose[T2, given.stays] = (
        rigid.from_rotation(np.eye(3), np.array([0.1, 0, 0])) @ given.pose[T1, given.stays]
    )
    return replace(given, pose=pose)


def said(mouths: list[Mouth], limits: Limits | None = None) -> list[Remark]:
    return remarks(mouths, [], len(mouths), limits or Limits())


def some(count: int, mouths: list[Mouth], change: Change) -> list[Mouth]:
    return [change(one) for one in mouths[:count]] + mouths[count:]


def test_a_good_data_set_is_not_remarked_on(mouths: list[Mouth]) -> None:
    assert said(mouths) == []
    assert said(some(4, mouths, hardly_moved)) == []


def test_cases_that_hardly_move_are_said_and_if_nearly_all_do_there_is_nothing_to_learn(
    mouths: list[Mouth],
) -> None:
    (remark,) = said(some(6, mouths, hardly_moved))
    assert str(remark).startswith("in 6 of 10 cases teeth hardly move") and "T2Stage" in str(remark)
    assert not remark.pointless
    (remark,) = said(some(9, mouths, hardly_moved))
    assert remark.pointless
    assert said(some(9, mouths, hardly_moved), Limits(min_movement_mm=0.0)) == []  # shapes without a plan


def test_one_t2_for_several_patients_is_said(mouths: list[Mouth]) -> None:
    plan = mouths[0]

    def with_that_plan(given: Mouth) -> Mouth:
        pose, present = given.pose.copy(), given.present.copy()
        pose[T2], present[T2] = plan.pose[T2], plan.present[T2]
        return replace(given, pose=pose, present=present)

    (remark,) = said(some(6, mouths, with_that_plan))
    assert str(remark).startswith("in 6 of 10 cases T2 is the same within 0.1 mm") and not remark.pointless
    (remark,) = said(some(10, mouths, with_that_plan))
    assert remark.pointless


def test_copies_of_one_case_and_a_handful_of_cases_are_not_remarked_on(mouths: list[Mouth]) -> None:
    assert said([mouths[0]] * 10) == []
    assert said([hardly_moved(one) for one in mouths[:4]]) == []


def test_one_reason_that_takes_nearly_all_cases_is_said_with_its_fix() -> None:
    def line(case: int, code: str, tooth: str = "") -> LeftOut:
        return LeftOut(f"c{case:03d}", tooth, "rigid_transforms", code, "turned", "turn it back", "")

    lines = [line(case, "buccal_axis") for case in range(9)] + [
        line(case, "empty_mesh", "11") for case in range(10)
    ]
    (remark,) = nearly_all_left_out(lines, listed=10)
    assert str(remark) == "9 of 10 cases are left out for one reason, buccal_axis: turned; turn it back"
    assert nearly_all_left_out(lines, listed=11) == []
    assert nearly_all_left_out(lines[:3], listed=3) == []


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Case store of patients whose T2 is a stage that hardly differs from T1."""
    store = tmp_path_factory.mktemp("still")
    (store / "json").mkdir()
    for number in range(1, 6):
        case = clinic.make_case(number, seed=3)
        first, last = case.document["Staging"][0], case.document["Staging"][-1]
        for fdi, entry in tooth_poses(last).items():
            entry["rotation"] = tooth_poses(first)[fdi]["rotation"]
            entry["translation"] = {k: v + 0.02 for k, v in tooth_poses(first)[fdi]["translation"].items()}
        (store / "json" / f"{case.case_id}.json").write_text(json.dumps(case.document), encoding="utf-8")
        (store / "stl" / case.case_id).mkdir(parents=True)
        for tooth, crown in case.patient.mouth.items():
            data = stl.as_binary(crown.vertices, crown.faces, b"crown")
            (store / "stl" / case.case_id / f"{tooth}.stl").write_bytes(data)
    return store


def test_the_stage_and_check_say_the_same_of_a_data_set_that_teaches_nothing(
    still: Path, tmp_path: Path, state: Path
) -> None:
    cases = {file.stem: "train" for file in (still / "json").iterdir()}
    case_list.write_splits(tmp_path / "cases.csv", cases)
    source = Source.model_validate({"cases": "", "json": str(still / "json"), "meshes": str(still / "stl")})
    with pytest.raises(NothingUsable, match="nothing to learn from: in 5 of 5 cases teeth hardly move"):
        rigid_transforms.make_manifests(
            still / "json", tmp_path / "cases.csv", None, tmp_path / "out",
            source=source, fetch=Fetch(), limits=Limits(), shards=["all"],
        )  # fmt: skip
    assert not (tmp_path / "out").exists()
    result = CliRunner().invoke(app, ["check", str(still)], catch_exceptions=True)
    assert "warning: in 5 of 5 cases teeth hardly move" in result.stderr
    assert isinstance(result.exception, NothingUsable)
