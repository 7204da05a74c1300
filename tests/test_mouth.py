"""Mirrored and moved mouths: the same mouth, seen from elsewhere."""

import numpy as np
import pytest

from dentalign.geometry import rigid
from dentalign.geometry.sampling import mirror_permutation
from dentalign.mouth import Mouth, copies
from dentalign.teeth import MIRRORED_SLOT, SLOT_COUNT, SLOT_INDEX, SLOTS, antimere
from tests.support.stacked_mouths import stacked

POINTS = 32
FLIP = np.array([-1.0, 1.0, 1.0])


@pytest.fixture
def mouth() -> Mouth:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(SLOT_COUNT, POINTS, 3)).astype(np.float32) * 4
    turns = rigid.rotation_matrix(rng.normal(0, 0.5, (2, SLOT_COUNT, 3)))
    poses = rigid.from_rotation(turns, rng.normal(0, 25, (2, SLOT_COUNT, 3)))
    masks = rng.random((2, SLOT_COUNT)) < 0.8
    masks[1] &= masks[0]
    masks[:, SLOT_INDEX[11]], masks[:, SLOT_INDEX[21]] = True, False
    poses[~masks] = np.eye(4)
    points[~masks[0]] = 0
    return Mouth(points, poses, masks)


def head(mouth: Mouth) -> np.ndarray:
    return rigid.apply(mouth.pose, mouth.points[None])


def test_the_mirror_twice_is_the_mouth(mouth: Mouth) -> None:
    again = mouth.mirrored().mirrored()
    np.testing.assert_array_equal(again.points, mouth.points)
    np.testing.assert_allclose(again.pose, mouth.pose, atol=1e-15)
    np.testing.assert_array_equal(again.present, mouth.present)


def test_the_mirrored_head_points_are_the_mirror_image_of_the_antimere_s(mouth: Mouth) -> None:
    image, order = mouth.mirrored(), mirror_permutation(POINTS)
    for slot, fdi in enumerate(SLOTS):
        other = SLOT_INDEX[antimere(fdi)]
        for stage in (0, 1):
            assert image.present[stage, slot] == mouth.present[stage, other]
            wanted = head(mouth)[stage, other][order] * FLIP
            np.testing.assert_allclose(head(image)[stage, slot], wanted, atol=1e-5)


def test_the_mirror_keeps_poses_rigid_and_types(mouth: Mouth) -> None:
    image = mouth.mirrored()
    np.testing.assert_allclose(np.linalg.det(image.pose[..., :3, :3]), 1, atol=1e-12)
    assert (image.pose[~image.present] == np.eye(4)).all()
    kinds = [str(part.dtype) for part in (image.points, image.pose, image.present)]
    assert kinds == ["float32", "float64", "bool"]


def test_the_mirror_exchanges_each_slot_with_its_antimere_s() -> None:
    np.testing.assert_array_equal(MIRRORED_SLOT[MIRRORED_SLOT], np.arange(SLOT_COUNT))
    for a, b in ((11, 21), (18, 28), (36, 46)):
        assert MIRRORED_SLOT[SLOT_INDEX[a]] == SLOT_INDEX[b]


def test_a_motion_carries_t1_and_t2_alike(mouth: Mouth) -> None:
    motion = rigid.from_rotation(rigid.rotation_matrix(np.array([0.1, -0.2, 0.05])), np.array([3.0, -1, 2]))
    after = mouth.moved(motion)
    both = mouth.present.all(0)
    found = after.pose[:, both] @ rigid.inverse(mouth.pose[:, both])
    np.testing.assert_allclose(found, np.broadcast_to(motion, found.shape), atol=1e-12)
    np.testing.assert_array_equal(after.points, mouth.points)
    np.testing.assert_array_equal(after.present, mouth.present)
    np.testing.assert_array_equal(after.pose[~after.present], mouth.pose[~mouth.present])


def test_random_motions_are_as_large_as_they_are_said_to_be(mouth: Mouth) -> None:
    rng = np.random.default_rng(2)
    tooth = np.flatnonzero(mouth.present[0])[0]
    centroid = mouth.pose[0, mouth.present[0], :3, 3].mean(0)
    moved = [copies(mouth, 3, rng, 6.0, 3.0)[2] for _ in range(2000)]
    motions = np.stack([one.pose[0, tooth] @ rigid.inverse(mouth.pose[0, tooth]) for one in moved])
    angles = rigid.angle_deg(motions[:, :3, :3])
    assert np.sqrt(np.mean(angles**2)) == pytest.approx(6.0, rel=0.05)
    shifts = np.linalg.norm(rigid.apply(motions, centroid[None])[:, 0] - centroid, axis=1)
    assert np.sqrt(np.mean(shifts**2)) == pytest.approx(3.0, rel=0.05)


def test_copies_are_the_mouth_its_mirror_image_and_both_moved(mouth: Mouth) -> None:
    made = copies(mouth, 5, np.random.default_rng(3), 6.0, 3.0)
    assert len(made) == 5
    assert made[0] is mouth
    np.testing.assert_array_equal(made[1].points, mouth.mirrored().points)
    np.testing.assert_array_equal(made[4].points, mouth.points)
    assert not np.allclose(made[2].pose, made[0].pose)
    again = copies(mouth, 5, np.random.default_rng(3), 6.0, 3.0)
    np.testing.assert_array_equal(again[4].pose, made[4].pose)


def test_a_dropped_tooth_leaves_its_slot_empty_and_marked(mouth: Mouth) -> None:
    slot = SLOT_INDEX[11]
    less = mouth.dropping([slot])
    assert less.dropped[slot] and not less.present[:, slot].any()
    assert not less.points[slot].any()
    np.testing.assert_array_equal(less.pose[:, slot], np.tile(np.eye(4), (2, 1, 1)))
    others = np.arange(SLOT_COUNT) != slot
    np.testing.assert_array_equal(less.present[:, others], mouth.present[:, others])


def test_mouths_without_a_plan_keep_of_t2_only_which_teeth_stay(mouth: Mouth) -> None:
    before = stacked(mouth, mouth.mirrored()).without_plan()
    assert len(before) == 2
    np.testing.assert_array_equal(before.pose[0, 0], mouth.pose[0])
    np.testing.assert_array_equal(before.pose[:, 1], np.tile(np.eye(4), (2, SLOT_COUNT, 1, 1)))
    np.testing.assert_array_equal(before.stays[0], mouth.stays)
