"""Mirrored and moved mouths: the same mouth, seen from elsewhere."""

import numpy as np
import pytest

from dentalign.geometry import rigid
from dentalign.geometry.mouth_motion import Mouth, copies, mirrored, moved
from dentalign.geometry.sampling import mirror_permutation
from dentalign.teeth import MIRRORED_SLOT, SLOT_COUNT, SLOT_INDEX, SLOTS, antimere

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
    return rigid.apply(mouth.poses, mouth.points[None])


def test_the_mirror_twice_is_the_mouth(mouth: Mouth) -> None:
    again = mirrored(mirrored(mouth))
    np.testing.assert_array_equal(again.points, mouth.points)
    np.testing.assert_allclose(again.poses, mouth.poses, atol=1e-15)
    np.testing.assert_array_equal(again.masks, mouth.masks)


def test_the_mirrored_head_points_are_the_mirror_image_of_the_antimere_s(mouth: Mouth) -> None:
    image, order = mirrored(mouth), mirror_permutation(POINTS)
    for slot, fdi in enumerate(SLOTS):
        other = SLOT_INDEX[antimere(fdi)]
        for stage in (0, 1):
            assert image.masks[stage, slot] == mouth.masks[stage, other]
            wanted = head(mouth)[stage, other][order] * FLIP
            np.testing.assert_allclose(head(image)[stage, slot], wanted, atol=1e-5)


def test_the_mirror_keeps_poses_rigid_and_types(mouth: Mouth) -> None:
    image = mirrored(mouth)
    np.testing.assert_allclose(np.linalg.det(image.poses[..., :3, :3]), 1, atol=1e-12)
    assert (image.poses[~image.masks] == np.eye(4)).all()
    kinds = [str(part.dtype) for part in (image.points, image.poses, image.masks)]
    assert kinds == ["float32", "float64", "bool"]


def test_the_mirror_exchanges_each_slot_with_its_antimere_s() -> None:
    np.testing.assert_array_equal(MIRRORED_SLOT[MIRRORED_SLOT], np.arange(SLOT_COUNT))
    for a, b in ((11, 21), (18, 28), (36, 46)):
        assert MIRRORED_SLOT[SLOT_INDEX[a]] == SLOT_INDEX[b]


def test_a_motion_carries_t1_and_t2_alike(mouth: Mouth) -> None:
    after = moved(mouth, np.random.default_rng(1), 6.0, 3.0)
    both = mouth.masks.all(0)
    before_motion = mouth.poses[1, both] @ rigid.inverse(mouth.poses[0, both])
    after_motion = after.poses[1, both] @ rigid.inverse(after.poses[0, both])
    motion = after.poses[0, both] @ rigid.inverse(mouth.poses[0, both])
    np.testing.assert_allclose(motion, np.broadcast_to(motion[0], motion.shape), atol=1e-12)  # one for all
    np.testing.assert_allclose(after_motion, motion[0] @ before_motion @ rigid.inverse(motion[0]), atol=1e-10)
    local_before = rigid.inverse(mouth.poses[0, both]) @ mouth.poses[1, both]
    local_after = rigid.inverse(after.poses[0, both]) @ after.poses[1, both]
    np.testing.assert_allclose(local_after, local_before, atol=1e-10)
    np.testing.assert_array_equal(after.points, mouth.points)
    np.testing.assert_array_equal(after.masks, mouth.masks)
    np.testing.assert_array_equal(after.poses[~after.masks], mouth.poses[~mouth.masks])


def test_motions_are_as_large_as_they_are_said_to_be(mouth: Mouth) -> None:
    rng = np.random.default_rng(2)
    tooth = np.flatnonzero(mouth.masks[0])[0]
    middle = mouth.poses[0, mouth.masks[0], :3, 3].mean(0)
    motions = np.stack(
        [
            moved(mouth, rng, 6.0, 3.0).poses[0, tooth] @ rigid.inverse(mouth.poses[0, tooth])
            for _ in range(2000)
        ]
    )
    angles = rigid.angle_deg(motions[:, :3, :3])
    assert np.sqrt(np.mean(angles**2)) == pytest.approx(6.0, rel=0.05)
    shifts = np.linalg.norm(rigid.apply(motions, middle[None])[:, 0] - middle, axis=1)
    assert np.sqrt(np.mean(shifts**2)) == pytest.approx(3.0, rel=0.05)


def test_copies_are_the_mouth_its_mirror_image_and_both_moved(mouth: Mouth) -> None:
    made = copies(mouth, 5, np.random.default_rng(3), 6.0, 3.0)
    assert len(made) == 5
    assert made[0] is mouth
    np.testing.assert_array_equal(made[1].points, mirrored(mouth).points)
    np.testing.assert_array_equal(made[4].points, mouth.points)
    assert not np.allclose(made[2].poses, made[0].poses)
    again = copies(mouth, 5, np.random.default_rng(3), 6.0, 3.0)
    np.testing.assert_array_equal(again[4].poses, made[4].poses)
