"""Teeth in their slots: masks, primary teeth, conflicts, and the other buccal axis."""

import numpy as np
import pytest

from dentalign.cases import slots
from dentalign.cases.poses import StagePoses
from dentalign.cases.slots import in_our_frame, place, to_our_frame
from dentalign.errors import CaseDefect, ToothDefect
from dentalign.geometry import rigid
from dentalign.teeth import SLOT_INDEX


def poses(
    *fdi: int, extracted: tuple[int, ...] = (), broken: tuple[int, ...] = (), t2_only: tuple[int, ...] = ()
) -> StagePoses:
    t1 = {number: rigid.from_rotation(np.eye(3), [number, 0, 0]) for number in (*fdi, *extracted)}
    t2 = {number: rigid.from_rotation(np.eye(3), [number, 1, 0]) for number in fdi}
    return StagePoses(
        t1, t2, {number: ToothDefect("bad", "s", "m", tooth=number) for number in broken}, t2_only
    )


def code_of(given: StagePoses, limit: int = 4) -> str:
    with pytest.raises(CaseDefect) as caught:
        place(given, limit, "c1.json")
    assert caught.value.file == "c1.json"
    return caught.value.code


def test_every_tooth_stands_in_its_slot_and_the_rest_is_identity() -> None:
    placed = place(poses(11, 36, 55), 4)
    for number, slot in ((11, SLOT_INDEX[11]), (36, SLOT_INDEX[36]), (55, SLOT_INDEX[15])):
        assert placed.fdi[slot] == number
        assert placed.t1_mask[slot]
        assert placed.t2_mask[slot]
        assert (placed.t1_pose[slot, 0, 3], placed.t2_pose[slot, 1, 3]) == (number, 1)
    assert placed.t1_mask.sum() == placed.t2_mask.sum() == (placed.fdi > 0).sum() == 3
    np.testing.assert_array_equal(placed.t1_pose[~placed.t1_mask], np.tile(np.eye(4), (29, 1, 1)))
    assert placed.t1_pose.shape == placed.t2_pose.shape == (32, 4, 4)
    assert slots.slot_of(38) == 0


def test_an_extraction_is_input_and_no_label() -> None:
    placed = place(poses(11, extracted=(14,)), 4)
    slot = SLOT_INDEX[14]
    assert placed.t1_mask[slot]
    assert not placed.t2_mask[slot]
    np.testing.assert_array_equal(placed.t2_pose[slot], np.eye(4))


def test_a_dropped_tooth_is_in_no_mask_and_not_the_same_as_absent() -> None:
    placed = place(poses(11, broken=(85, 99)), 4)
    assert placed.dropped == {SLOT_INDEX[45]: 85}
    assert [defect.tooth for defect in placed.defects] == [85, 99]
    assert not placed.t1_mask[SLOT_INDEX[45]]


def test_a_tooth_of_t2_only_is_listed_and_neither_input_nor_label() -> None:
    placed = place(poses(11, t2_only=(47,)), 0)
    assert [(defect.tooth, defect.code) for defect in placed.listed] == [(47, "t2_only")]
    assert placed.fdi[SLOT_INDEX[47]] == 0
    assert placed.dropped == {}


@pytest.mark.parametrize(
    "given",
    [
        poses(15, 55),
        poses(15, extracted=(55,)),
        poses(15, broken=(55,)),
        poses(11, extracted=(55,), t2_only=(15,)),
    ],
)
def test_two_teeth_in_one_slot_exclude_the_case(given: StagePoses) -> None:
    assert code_of(given) == "slot_conflict"


def test_more_dropped_teeth_than_the_limit_exclude_the_case() -> None:
    assert len(place(poses(11, broken=(12, 13)), 2).dropped) == 2
    assert code_of(poses(11, broken=(12, 13, 99)), 2) == "too_many_dropped"


def test_a_case_without_a_tooth_or_without_a_pair_is_excluded() -> None:
    assert code_of(poses(broken=(11,))) == "no_teeth"
    assert code_of(poses(extracted=(11,))) == "no_pairs"


def test_a_case_without_t2_has_an_empty_t2_mask() -> None:
    placed = place(StagePoses({11: np.eye(4)}, None, {}, ()), 4)
    assert placed.t1_mask.sum() == 1
    assert not placed.t2_mask.any()


def test_the_other_buccal_axis_turns_points_and_poses_so_that_the_head_stays() -> None:
    draw = np.random.default_rng(0)
    points = draw.normal(size=(5, 20, 3))
    pose = rigid.from_quaternion(draw.normal(size=(5, 4)), draw.normal(size=(5, 3)))
    kept = pose.copy()
    turned = points @ to_our_frame("-y").T
    np.testing.assert_array_equal(turned, points * [-1, -1, 1])  # buccal -y becomes +y, z stays, no mirror
    np.testing.assert_allclose(
        rigid.apply(in_our_frame(pose, "-y"), turned), rigid.apply(pose, points), atol=1e-12
    )
    np.testing.assert_array_equal(pose, kept)
    assert np.linalg.det(to_our_frame("-y")) == 1.0
    np.testing.assert_array_equal(to_our_frame("+y"), np.eye(3))
    np.testing.assert_array_equal(in_our_frame(pose, "+y"), pose)
