"""Teeth in their slots: masks, primary teeth, conflicts, and the other buccal axis."""

import numpy as np
import pytest

from dentalign.cases import slots
from dentalign.cases.poses import StagePoses
from dentalign.cases.slots import place, to_our_frame, turned, without_rivals
from dentalign.errors import ToothDefect
from dentalign.geometry import rigid
from dentalign.mouth import T1, T2
from dentalign.teeth import SLOT_INDEX


def poses(
    *fdi: int, extracted: tuple[int, ...] = (), broken: tuple[int, ...] = (), t2_only: tuple[int, ...] = ()
) -> StagePoses:
    t1 = {number: rigid.from_rotation(np.eye(3), [number, 0, 0]) for number in (*fdi, *extracted)}
    t2 = {number: rigid.from_rotation(np.eye(3), [number, 1, 0]) for number in fdi}
    return StagePoses(
        t1, t2, {number: ToothDefect("bad", "s", "m", tooth=number) for number in broken}, t2_only
    )


def test_every_tooth_stands_in_its_slot_and_the_rest_is_identity() -> None:
    mouth = place(poses(11, 36, 55))
    for number, slot in ((11, SLOT_INDEX[11]), (36, SLOT_INDEX[36]), (55, SLOT_INDEX[15])):
        assert mouth.fdi[slot] == number
        assert mouth.present[:, slot].all()
        assert (mouth.pose[T1, slot, 0, 3], mouth.pose[T2, slot, 1, 3]) == (number, 1)
    assert mouth.present.sum() == 2 * (mouth.fdi > 0).sum() == 6
    np.testing.assert_array_equal(mouth.pose[~mouth.present], np.tile(np.eye(4), (58, 1, 1)))
    assert slots.slot_of(38) == 0


def test_an_extraction_is_input_and_no_label() -> None:
    mouth = place(poses(11, extracted=(14,)))
    slot = SLOT_INDEX[14]
    assert mouth.present[:, slot].tolist() == [True, False]
    np.testing.assert_array_equal(mouth.pose[T2, slot], np.eye(4))


def test_a_dropped_tooth_is_not_present_and_not_the_same_as_absent() -> None:
    mouth = place(poses(11, broken=(85, 99)))
    assert np.flatnonzero(mouth.dropped).tolist() == [SLOT_INDEX[45]]
    assert mouth.fdi[SLOT_INDEX[45]] == 85
    assert not mouth.present[:, SLOT_INDEX[45]].any()


def test_a_tooth_of_t2_only_is_neither_input_nor_label() -> None:
    mouth = place(poses(11, t2_only=(47,)))
    assert mouth.fdi[SLOT_INDEX[47]] == 0
    assert not mouth.dropped.any()


@pytest.mark.parametrize(
    ("given", "leaving", "stays", "goes"),
    [
        (poses(15, 55), (), 15, 55),
        (poses(15, extracted=(55,)), (), 15, 55),
        (poses(55, extracted=(15,)), (), 55, 15),
        (poses(15, 55), (15,), 55, 15),
        (poses(55, broken=(15,)), (), 55, 15),
    ],
)
def test_of_a_primary_tooth_and_its_successor_the_one_that_t2_keeps_takes_the_slot(
    given: StagePoses, leaving: tuple[int, ...], stays: int, goes: int
) -> None:
    left = without_rivals(given, "c1.json", leaving)
    mouth = place(left)
    assert mouth.fdi[SLOT_INDEX[15]] == stays
    assert mouth.present[0, SLOT_INDEX[15]]
    assert not mouth.dropped[SLOT_INDEX[15]]
    assert list(left.defects) == [goes]


def test_a_case_without_t2_has_no_tooth_at_t2() -> None:
    mouth = place(StagePoses({11: np.eye(4)}, None, {}, ()))
    assert mouth.present.sum(1).tolist() == [1, 0]


def test_the_other_buccal_axis_turns_points_and_poses_so_that_the_head_stays() -> None:
    draw = np.random.default_rng(0)
    points = draw.normal(size=(5, 20, 3))
    pose = rigid.from_quaternion(draw.normal(size=(5, 4)), draw.normal(size=(5, 3)))
    kept = pose.copy()
    there = points @ to_our_frame("-y").T
    np.testing.assert_array_equal(there, points * [-1, -1, 1])  # buccal -y becomes +y, z stays, no mirror
    np.testing.assert_allclose(rigid.apply(turned(pose, "-y"), there), rigid.apply(pose, points), atol=1e-12)
    np.testing.assert_array_equal(pose, kept)
    assert np.linalg.det(to_our_frame("-y")) == 1.0
    np.testing.assert_array_equal(to_our_frame("+y"), np.eye(3))
    np.testing.assert_array_equal(turned(pose, "+y"), pose)
