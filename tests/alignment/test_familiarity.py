"""Mouths unlike the training mouths: which are named, by what, and which are not."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dentalign.alignment.familiarity import PARTS, Familiarity, Teeth
from dentalign.geometry import rigid
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.sampling import directions, mirror_permutation
from dentalign.mouth import T1, Mouth, Mouths
from dentalign.teeth import SLOT_INDEX, SLOTS
from tests.support.stacked_mouths import stacked

POINTS = 16
THIRD_MOLARS = [slot for slot, fdi in enumerate(SLOTS) if fdi % 10 == 8]
TURNED = rigid.from_rotation(rigid.rotation_matrix([0, 0, np.pi / 2]), np.zeros(3))
MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])
TOOTH = SLOT_INDEX[23]


def mouths(count: int, seed: int) -> Mouths:
    """Make mouths without third molars: average ones of random size, teeth moved and shaped at random."""
    made = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        size = np.exp(rng.normal(0, 0.04))
        shaken = rigid.from_rotation(
            rigid.rotation_matrix(rng.normal(0, 0.1, (32, 3))), rng.normal(0, 0.8, (32, 3))
        )
        whole = rigid.from_rotation(rigid.rotation_matrix(rng.normal(0, 0.02, 3)), rng.normal(0, 2, 3))
        pose = whole @ rigid.from_rotation(average_mouth().rotation, size * average_mouth().position) @ shaken
        extent = size * np.array([3.5, 3, 4]) * np.exp(rng.normal(0, 0.05, (32, 1, 3)))
        present = rng.random(32) < 0.96
        present[THIRD_MOLARS] = False
        points = (directions(POINTS) * extent).astype(np.float32)
        made.append(Mouth(points, np.stack([pose, pose]), np.stack([present, present])))
    return stacked(*made)


@pytest.fixture(scope="module")
def familiarity() -> Familiarity:
    fitted = Familiarity(POINTS)
    fitted.fit(Teeth.of(mouths(120, 0)), Teeth.of(mouths(20, 1)))
    return fitted


def changed(
    given: Mouths, head: NDArray[np.float64], tooth: NDArray[np.float64], size: float = 1.0
) -> Mouths:
    """Mouths with head and tooth-local axes changed by (4, 4) matrices, and made larger."""
    pose = head @ given.pose @ np.linalg.inv(tooth)
    pose[..., :3, 3] *= size
    return Mouths((size * given.points @ tooth[:3, :3].T).astype(np.float32), pose, given.present)


def mirrored(given: Mouths) -> Mouths:
    """Mirror images in which each tooth keeps its number."""
    flipped = changed(given, MIRROR, MIRROR)
    return Mouths(flipped.points[:, :, mirror_permutation(POINTS)], flipped.pose, flipped.present)


def test_mouths_like_those_of_the_training_are_silent(familiarity: Familiarity) -> None:
    named = familiarity.unlike(mouths(300, 2)).mean()
    assert 0.01 <= named <= 0.1


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        (lambda given: changed(given, np.eye(4), np.eye(4), 0.7), "size"),
        (lambda given: changed(given, np.eye(4), np.eye(4), 1.4), "size"),
        (lambda given: changed(given, TURNED, np.eye(4)), "placement"),
        (lambda given: changed(given, np.eye(4), TURNED), "shapes"),
        (mirrored, "poses"),
    ],
)
def test_scaled_mirrored_and_wrongly_framed_mouths_are_named(
    familiarity: Familiarity, wrong: Callable[[Mouths], Mouths], part: str
) -> None:
    given = wrong(mouths(50, 3))
    assert familiarity.unlike(given).all()
    assert (familiarity.compare(given).parts[:, PARTS.index(part)] > familiarity.threshold).all()


def test_the_tooth_that_makes_a_mouth_unusual_is_found(familiarity: Familiarity) -> None:
    given = mouths(20, 4)
    given.present[:, T1, TOOTH] = True
    given.pose[:, :, TOOTH, :3, 3] += [0, 0, 8]
    found = familiarity.compare(given)
    assert familiarity.unlike(given).all()
    assert (found.parts.argmax(1) == PARTS.index("poses")).all()
    assert (found.pose_teeth.argmax(1) == TOOTH).all()


def test_absent_teeth_and_slots_that_training_has_not_seen_do_not_count(familiarity: Familiarity) -> None:
    given = mouths(20, 5)
    score = familiarity.score(given)
    absent = ~given.present[:, T1]
    given.points[absent], given.pose[:, T1][absent] = np.nan, np.nan
    np.testing.assert_array_equal(familiarity.score(given), score)
    given.points[:, THIRD_MOLARS], given.pose[:, :, THIRD_MOLARS] = 9.0, np.eye(4)
    given.present[:, :, THIRD_MOLARS] = True
    np.testing.assert_allclose(familiarity.score(given), score)


def test_a_mirror_image_and_a_small_motion_of_the_head_change_nothing(familiarity: Familiarity) -> None:
    given = mouths(20, 6)
    score = familiarity.score(given)
    images = [Mouth(*parts).mirrored() for parts in zip(given.points, given.pose, given.present, strict=True)]
    np.testing.assert_allclose(familiarity.score(stacked(*images)), score, rtol=1e-3)
    moved = changed(given, rigid.from_rotation(rigid.rotation_matrix([0, 0.1, 0]), [3, 2, 1]), np.eye(4))
    np.testing.assert_allclose(familiarity.compare(moved).parts[:, 1:].max(1), score, rtol=1e-3)


def test_nothing_is_said_of_a_few_teeth(familiarity: Familiarity) -> None:
    given = changed(mouths(3, 7), np.eye(4), TURNED)
    given.present[:, :, 5:] = False
    assert np.isnan(familiarity.score(given)).all()
    assert not familiarity.unlike(given).any()


def test_the_same_mouths_give_the_same_bytes(familiarity: Familiarity) -> None:
    again = Familiarity(POINTS)
    again.fit(Teeth.of(mouths(120, 0)), Teeth.of(mouths(20, 1)))
    for name, value in familiarity.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_weights_from_before_the_training_mouths_were_stored_are_unknown_not_familiar() -> None:
    model = torch.nn.ModuleDict({"familiarity": Familiarity(POINTS)})
    model.load_state_dict({})
    loaded = model["familiarity"]
    assert isinstance(loaded, Familiarity)
    assert not loaded.fitted
    assert np.isnan(loaded.score(mouths(2, 8))).all()
    state = model.state_dict()
    del state["familiarity.mean"]
    with pytest.raises(RuntimeError, match=r"familiarity\.mean"):
        model.load_state_dict(state)
