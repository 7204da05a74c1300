"""The model `attention`: what it must do whatever its weights are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from dentalign.alignment import registry
from dentalign.alignment.attention import model as attention_model
from dentalign.alignment.attention.model import AttentionModel
from dentalign.alignment.attention.network import Block, ToothAttentionConfig
from dentalign.alignment.base import Mouths
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.errors import DentalignError
from dentalign.geometry import mouth_motion, rigid
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.mouth_motion import Mouth
from dentalign.geometry.sampling import directions
from dentalign.teeth import MIRRORED_SLOT

POINTS = 16
SLOT = 7  # any
DECODER = Decoder(DecoderConfig(4, 4))


class TorchsAttention(Block):
    """A block whose attention is torch's own."""

    def forward(self, x: torch.Tensor, unseen: torch.Tensor) -> torch.Tensor:
        n, slots, width = x.shape
        asked = self.ask(self.before_attention(x)).view(n, slots, 3, self.heads, -1)
        query, key, value = asked.permute(2, 0, 3, 1, 4)
        mask = self.neighbourhood + unseen
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.answer(seen.transpose(1, 2).reshape(n, slots, width))
        out: torch.Tensor = x + self.own(self.before_own(x))
        return out


def test_a_block_attends_as_torch_does() -> None:
    block, torchs = Block(48, 4, 0.0).double(), TorchsAttention(48, 4, 0.0).double()
    torch.manual_seed(0)
    with torch.no_grad():
        for value in block.parameters():
            value.copy_(torch.randn(value.shape))
    torchs.load_state_dict(block.state_dict())
    unseen = torch.zeros(3, 1, 1, 32).double()
    unseen[0, ..., :20] = unseen[1, ..., 5] = -1e4
    x = torch.randn(3, 32, 48).double()
    torch.testing.assert_close(block(x, unseen), torchs(x, unseen))


def random_model(midway: float = 0.5) -> AttentionModel:
    """Random weights throughout, and a mean mouth that is the average one."""
    torch.manual_seed(0)
    made = attention_model.build(ToothAttentionConfig(8, 16, 2, 4, 0.0, midway), (POINTS, 4), "e", "d")
    with torch.no_grad():
        for value in made.network.parameters():
            value.copy_(0.2 * torch.randn(value.shape))
        for name in ("reference", "t1_middle", "t2_middle"):
            getattr(made.network, name).copy_(torch.tensor(average_mouth().position))
        made.network.known_at_t1.fill_(True)
        made.network.known_at_t2.fill_(True)
    return made.eval()


@pytest.fixture
def model() -> AttentionModel:
    return random_model()


def mouths(count: int = 3, missing: int = 0) -> Mouths:
    rng = np.random.default_rng(1)
    points = (directions(POINTS) * rng.uniform(3, 5, (count, 32, 1, 3))).astype(np.float32)
    turned = rigid.rotation_matrix(rng.normal(0, 0.2, (count, 32, 3)))
    pose = rigid.from_rotation(turned, average_mouth().position + rng.normal(0, 1, (count, 32, 3)))
    present = np.ones((count, 32), bool)
    present[:, rng.permutation(32)[:missing]] = False
    stays = present.copy()
    stays[:, np.flatnonzero(present[0])[5]] = False
    return Mouths(points, pose, present, stays)


def test_poses_are_exactly_rigid_and_the_points_are_the_moved_tooth(model: AttentionModel) -> None:
    given = mouths()
    placed = model.place(given, DECODER)
    turn = placed.pose[..., :3, :3]
    np.testing.assert_allclose(
        turn @ np.swapaxes(turn, -1, -2), np.broadcast_to(np.eye(3), turn.shape), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(turn), 1)
    assert (placed.pose[..., 3, :] == [0, 0, 0, 1]).all()
    assert (placed.pose[~given.stays] == np.eye(4)).all()
    moved = rigid.apply(placed.pose, given.points)
    np.testing.assert_allclose(placed.points[given.stays], moved[given.stays])
    assert placed.expected_add_mm is not None
    assert (placed.expected_add_mm[given.stays] > 0).all()
    assert np.isnan(placed.expected_add_mm[~given.stays]).all()


def test_a_moved_mouth_gets_the_same_answer_moved(model: AttentionModel) -> None:
    given = mouths(missing=3)
    motion = rigid.from_rotation(rigid.rotation_matrix(np.array([0.2, -0.25, 0.3])), np.array([20.0, -5, 9]))
    plain, moved = model.place(given, DECODER), model.place(replace(given, pose=motion @ given.pose), DECODER)
    apart = np.linalg.norm(rigid.apply(motion, plain.points) - moved.points, axis=-1)
    assert apart[given.stays].max() < 0.02  # mm


def test_a_mirrored_mouth_gets_the_mirrored_answer(model: AttentionModel) -> None:
    given = mouths(1, missing=2)
    other = mouth_motion.mirrored(
        Mouth(given.points[0], np.stack([given.pose[0]] * 2), np.stack([given.present[0], given.stays[0]]))
    )
    answer = model.place(given, DECODER)
    back = model.place(Mouths(other.points[None], other.poses[:1], other.masks[:1], other.masks[1:]), DECODER)
    flip = np.diag([-1.0, 1, 1, 1])
    wanted = flip @ answer.pose[0, MIRRORED_SLOT] @ flip
    np.testing.assert_allclose(back.pose[0][other.masks[1]], wanted[other.masks[1]], atol=2e-4)


def test_it_is_asked_again_with_the_teeth_part_of_the_way_to_its_first_answer() -> None:
    given, share = mouths(missing=2), 0.3
    once = random_model(midway=0.0)
    middle = given.points[:, :, ::2].astype(np.float64).mean(2)  # of the points that it looks at
    goal = once.place(given).pose
    turn = np.swapaxes(given.pose[..., :3, :3], -1, -2) @ goal[..., :3, :3]
    turned = given.pose[..., :3, :3] @ rigid.rotation_matrix(share * rigid.rotation_vector(turn))
    before, after = (rigid.apply(pose, middle[:, :, None])[:, :, 0] for pose in (given.pose, goal))
    place = before + share * (after - before) - (turned @ middle[..., None])[..., 0]
    on_the_way = np.where(given.stays[..., None, None], rigid.from_rotation(turned, place), given.pose)
    wanted = once.place(replace(given, pose=on_the_way))
    found = random_model(midway=share).place(given)
    np.testing.assert_allclose(found.points[given.stays], wanted.points[given.stays], atol=2e-3)
    assert np.abs(found.points - once.place(given).points)[given.stays].max() > 0.1  # mm


def test_what_stands_in_an_empty_slot_means_nothing(model: AttentionModel) -> None:
    given = mouths(missing=4)
    noise = np.where(given.present[..., None, None], given.points, 1e3).astype(np.float32)
    one, other = model.place(given, DECODER), model.place(replace(given, points=noise), DECODER)
    np.testing.assert_allclose(one.pose[given.stays], other.pose[given.stays], atol=1e-5)


def test_where_an_unlearnt_slot_would_go_changes_nothing_for_the_others(model: AttentionModel) -> None:
    given, unlearnt = mouths(), [SLOT, MIRRORED_SLOT[SLOT]]
    model.network.known_at_t2[unlearnt] = False
    one = model.place(given)
    model.network.t2_middle[unlearnt] += 30
    other = model.place(given)
    np.testing.assert_array_equal(one.pose, other.pose)


@pytest.mark.parametrize("what", ["points", "pose"])
def test_even_what_is_no_number_means_nothing_in_an_empty_slot(model: AttentionModel, what: str) -> None:
    given = mouths(missing=4)
    there = given.present[..., None, None]
    nothing = replace(given, **{what: np.where(there, getattr(given, what), np.nan)})
    np.testing.assert_array_equal(model.place(nothing).pose, model.place(given).pose)


def test_which_teeth_stay_changes_the_answer_for_the_others(model: AttentionModel) -> None:
    given = mouths()
    stays = given.stays.copy()
    stays[:, 12] = False
    one, other = model.place(given, DECODER), model.place(replace(given, stays=stays), DECODER)
    assert np.abs(one.pose[:, 13] - other.pose[:, 13]).max() > 1e-4


def test_a_tooth_of_a_slot_that_was_not_in_training_changes_nothing_for_the_others(
    model: AttentionModel,
) -> None:
    network = model.network
    for known in (network.known_at_t1, network.known_at_t2):
        known[[0, 15]] = False
    for middle in (network.reference, network.t1_middle, network.t2_middle):
        middle[[0, 15]] = 0
    given = mouths()
    without = given.present.copy()
    without[:, 0] = False
    one = model.place(given, DECODER)
    other = model.place(replace(given, present=without, stays=given.stays & without), DECODER)
    same = given.stays & without
    assert (one.pose[same] == other.pose[same]).all()
    assert (one.pose[:, 0] == given.pose[:, 0]).all()


def test_slots_whose_end_it_has_not_learnt_stay_where_they_are(model: AttentionModel) -> None:
    model.network.known_at_t2[7] = False
    given = mouths()
    placed = model.place(given, DECODER)
    assert (placed.pose[:, 7] == given.pose[:, 7]).all()
    assert placed.expected_add_mm is not None
    assert np.isnan(placed.expected_add_mm[:, 7]).all()


@pytest.mark.parametrize("tooth", [0, 20])
def test_a_mouth_of_one_tooth_gets_an_answer(model: AttentionModel, tooth: int) -> None:
    given = mouths(1)
    alone = np.zeros((1, 32), bool)
    alone[0, tooth] = True
    assert np.isfinite(model.place(replace(given, present=alone, stays=alone), DECODER).pose).all()


def test_numbers_that_are_not_finite_are_refused(model: AttentionModel) -> None:
    model.network.t2_middle.fill_(float("nan"))
    with pytest.raises(DentalignError, match="not finite"):
        model.place(mouths(), DECODER)


def test_the_weights_file_gives_the_same_model_again(model: AttentionModel, tmp_path: Path) -> None:
    registry.save(tmp_path / "alignment.pt", model)
    loaded = registry.load(tmp_path / "alignment.pt")
    assert isinstance(loaded, AttentionModel)
    assert (loaded.place(mouths(), DECODER).pose == model.place(mouths(), DECODER).pose).all()


@pytest.mark.parametrize(
    ("points", "most", "count"), [(256, 64, 64), (32, 64, 32), (250, 64, 50), (256, 256, 256)]
)
def test_points_are_thinned_so_that_the_mirrored_order_still_fits(points: int, most: int, count: int) -> None:
    assert attention_model.thinned_count(points, most) == count
    order = np.arange(points)[:, None] * np.ones(3)
    thin = attention_model.thinned(order, count)[:, 0]
    half = count // 2
    assert (thin[half:] - thin[:half] == points // 2).all()
