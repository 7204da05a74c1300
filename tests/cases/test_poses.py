"""T1 and T2 poses of a document: hand-computed values, the three spellings, broken ones."""

import json
from collections.abc import Callable
from math import nan, sqrt
from typing import Any

import numpy as np
import pytest

from dentalign.cases.case_document import parse
from dentalign.cases.poses import StagePoses, stage_poses
from dentalign.errors import CaseDefect

Build = Callable[..., dict[str, Any]]
QUARTER_ABOUT_Z = (0, 0, sqrt(0.5), sqrt(0.5))
QUARTER_ABOUT_X = (sqrt(0.5), 0, 0, sqrt(0.5))


def read(given: dict[str, Any], **options: Any) -> StagePoses:
    return stage_poses(parse(json.dumps(given).encode(), "c1"), "c1.json", **options)


def code_of(given: dict[str, Any], **options: Any) -> str:
    with pytest.raises(CaseDefect) as caught:
        read(given, **options)
    assert "c1.json" in caught.value.file
    return caught.value.code


def two_stages(first: dict[str, Any], last: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"T2Stage": 1, "Staging": [first, last], **fields}


def at(x: float, y: float, z: float) -> np.ndarray[Any, Any]:
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


def test_a_pose_relative_to_the_jaw_is_jaw_after_tooth(pose: Build) -> None:
    stage = {
        "MandibularTransform": pose(10, 20, 30, QUARTER_ABOUT_Z),
        "RelativeToothTransforms": {"37": pose(1, 2, 3, QUARTER_ABOUT_X)},
    }
    found = read(two_stages(stage, stage))
    # jaw: x -> y, y -> -x; so (1, 2, 3) -> (-2, 1, 3), and then the shift
    by_hand = [[0, 0, 1, 8], [1, 0, 0, 21], [0, 1, 0, 33], [0, 0, 0, 1]]
    np.testing.assert_allclose(found.t1[37], by_hand, atol=1e-14)
    assert found.t2 is not None
    np.testing.assert_allclose(found.t2[37], by_hand, atol=1e-14)
    assert found.t1[37].dtype == np.float64


@pytest.mark.parametrize("spelling", ["ToothTransforms", "RelativeToothTransformsHead"])
def test_the_two_absolute_spellings_take_no_jaw_pose(pose: Build, spelling: str) -> None:
    stage = {
        "MandibularTransform": pose(10, 20, 30),
        "MaxillaryTransform": pose(q=(0, 0, 0, 0)),
        spelling: {"37": pose(1, 2, 3), "11": pose()},
    }
    np.testing.assert_array_equal(read(two_stages(stage, stage)).t1[37], at(1, 2, 3))


@pytest.mark.parametrize(
    ("fdi", "shift"), [(11, 1), (28, 1), (55, 1), (61, 1), (38, 100), (41, 100), (75, 100), (81, 100)]
)
def test_each_tooth_has_the_pose_of_its_own_jaw(pose: Build, fdi: int, shift: int) -> None:
    stage = {
        "MaxillaryTransform": pose(1),
        "MandibularTransform": pose(100),
        "RelativeToothTransforms": {str(fdi): pose()},
    }
    np.testing.assert_array_equal(read(two_stages(stage, stage)).t1[fdi], at(shift, 0, 0))


def test_the_stage_has_the_jaw_pose_else_the_document_else_nobody(pose: Build) -> None:
    teeth = {"RelativeToothTransforms": {"11": pose(0, 1, 0), "31": pose(0, 2, 0)}}
    given = two_stages(
        {**teeth, "MaxillaryTransform": pose(5)},
        {**teeth, "MaxillaryTransform": {}},
        maxillaRelativeTransform=pose(7),
    )
    found = read(given)
    assert found.t2 is not None
    np.testing.assert_array_equal(found.t1[11], at(5, 1, 0))
    np.testing.assert_array_equal(found.t2[11], at(7, 1, 0))
    np.testing.assert_array_equal(found.t1[31], at(0, 2, 0))


@pytest.mark.parametrize(
    "jaw",
    [
        {"rotation": {"x": 0, "y": 0, "z": 0, "w": 0}, "translation": {"x": 0, "y": 0, "z": 0}},
        {"matrix": []},
        "Ivan",
        {"translation": {"x": 1}},
    ],
)
def test_a_broken_jaw_pose_excludes_the_case(pose: Build, jaw: Any) -> None:
    stage = {"RelativeToothTransforms": {"11": pose()}}
    given = two_stages(stage, stage, maxillaRelativeTransform=jaw)
    assert code_of(given) in ("jaw_zero_quaternion", "jaw_bad_pose")


def test_a_jaw_pose_with_nan_excludes_the_case(pose: Build) -> None:
    stage = {"RelativeToothTransforms": {"11": pose()}, "MaxillaryTransform": pose(nan)}
    assert code_of(two_stages(stage, stage)) == "jaw_pose_not_finite"


def test_a_quaternion_is_normalised_and_read_by_key(pose: Build) -> None:
    tooth = pose(1, 2, 3, tuple(1.7 * entry for entry in QUARTER_ABOUT_Z))
    tooth["rotation"] = {key: str(tooth["rotation"][key]) for key in "wzyx"}
    stage = {"ToothTransforms": {"11": tooth}}
    by_hand = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    np.testing.assert_allclose(read(two_stages(stage, stage)).t1[11], by_hand, atol=1e-14)


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        ({"q": (0, 0, 0, 0)}, "zero_quaternion"),
        ({"x": nan}, "pose_not_finite"),
        ({"x": "Infinity"}, "pose_not_finite"),
        ({"q": (nan, 0, 0, 1)}, "pose_not_finite"),
        ({"x": "Ivan"}, "bad_pose"),
        ({"x": None}, "bad_pose"),
        ({"x": 1e9}, "bad_pose"),
    ],
)
@pytest.mark.parametrize("stage", [0, 2])
def test_a_broken_pose_at_t1_or_t2_drops_the_tooth_alone(
    document: Build, pose: Build, broken: dict[str, Any], code: str, stage: int
) -> None:
    given = document()
    given["Staging"][stage]["ToothTransforms"]["12"] = pose(**broken)
    found = read(given)
    assert found.t2 is not None
    assert set(found.t1) == set(found.t2) == {11, 21, 36}
    assert {number: defect.code for number, defect in found.defects.items()} == {12: code}
    assert found.defects[12].tooth == 12
    assert f"Staging[{stage}]" in found.defects[12].file


@pytest.mark.parametrize("empty", [{}, None, "Ivan", {"rotation": {}, "translation": {}}])
def test_a_tooth_without_a_pose_is_dropped(document: Build, empty: Any) -> None:
    given = document()
    given["Staging"][0]["ToothTransforms"]["12"] = empty
    assert read(given).defects[12].code == "bad_pose"


def test_a_broken_pose_between_t1_and_t2_does_not_matter(document: Build, pose: Build) -> None:
    given = document()
    given["Staging"][1] = {"ToothTransforms": {"12": pose(nan)}, "RelativeToothTransforms": {"12": pose()}}
    assert read(given).defects == {}


@pytest.mark.parametrize(
    ("t2_stage", "y"), [("2", 2), (2, 2), ("3", 2), (3, 2), ("1", 1), (0, 0), ("2.0", 2)]
)
def test_t2_is_the_stage_at_the_list_position_or_the_last(document: Build, t2_stage: Any, y: float) -> None:
    found = read(document() | {"T2Stage": t2_stage})
    assert found.t2 is not None
    assert found.t2[11][1, 3] == y


@pytest.mark.parametrize("t2_stage", [4, "93", -1, "1.5", "Ivan", "nan", "Infinity", True, [1]])
def test_a_t2_stage_that_is_no_stage_excludes_the_case(document: Build, t2_stage: Any) -> None:
    assert code_of(document() | {"T2Stage": t2_stage}) == "bad_t2_stage"
    assert code_of(document() | {"T2Stage": t2_stage}, require_t2=False) == "bad_t2_stage"


@pytest.mark.parametrize("t2_stage", [None, ""])
def test_t2_may_be_absent_where_it_is_to_be_predicted(document: Build, t2_stage: Any) -> None:
    given = document() | {"T2Stage": t2_stage}
    assert code_of(given) == "no_t2_stage"
    found = read(given, require_t2=False)
    assert found.t2 is None
    assert set(found.t1) == {11, 12, 21, 36}


def test_two_spellings_in_one_stage_exclude_the_case_and_empty_ones_do_not_count(pose: Build) -> None:
    teeth = {"11": pose()}
    assert (
        code_of(two_stages({"ToothTransforms": teeth, "RelativeToothTransforms": teeth}, {}))
        == "two_spellings"
    )
    good = {"ToothTransforms": teeth, "RelativeToothTransforms": {}, "RelativeToothTransformsHead": None}
    assert set(read(two_stages(good, good)).t1) == {11}


@pytest.mark.parametrize("stage", [{}, None, {"ToothTransforms": {}}, {"ToothTransforms": {"Ivan": {}}}])
def test_a_stage_without_tooth_poses_excludes_the_case(pose: Build, stage: Any) -> None:
    good = {"ToothTransforms": {"11": pose()}}
    assert code_of(two_stages(good, stage)) == "no_tooth_poses"
    assert code_of(two_stages(stage, good)) == "no_tooth_poses"


def test_extracted_teeth_and_teeth_of_t2_only_are_told_apart(document: Build, pose: Build) -> None:
    given = document()
    del given["Staging"][2]["ToothTransforms"]["12"]
    given["Staging"][2]["ToothTransforms"] |= {"47": pose(), "48": pose(nan)}
    found = read(given)
    assert found.t2 is not None
    assert (set(found.t1), set(found.t2)) == ({11, 12, 21, 36}, {11, 21, 36})
    assert found.t2_only == (47, 48)
    assert found.defects == {}


def test_an_unknown_number_is_a_defect_of_that_tooth(document: Build) -> None:
    found = read(document(teeth=(11, 99, 111)))
    assert {number: defect.code for number, defect in found.defects.items()} == {
        99: "unknown_tooth",
        111: "unknown_tooth",
    }
