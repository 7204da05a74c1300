"""The model `attention`: what it must do whatever its weights are."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from dentalign.alignment import registry
from dentalign.alignment.attention import posed_teeth
from dentalign.alignment.attention.model import AttentionModel
from dentalign.alignment.attention.network import Block, ToothAttentionConfig
from dentalign.alignment.base import AlignmentConfig
from dentalign.alignment.conditions import Conditions, arch_motion, centroids
from dentalign.errors import DentalignError
from dentalign.files import weights
from dentalign.geometry import rigid
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.rigid import Array
from dentalign.geometry.sampling import directions
from dentalign.mouth import T1, Mouth, Mouths
from dentalign.teeth import MIRRORED_SLOT
from tests.support.stacked_mouths import stacked

POINTS = 16
SLOT = 7  # any


class TorchsAttention(Block):
    """A block whose attention is torch's own."""

    def forward(self, x: torch.Tensor, padding_mask: torch.Tensor, planner: torch.Tensor) -> torch.Tensor:
        n, slots, width = x.shape
        scale, shift, scale_mlp, shift_mlp = self.planner_scale_shift(planner).chunk(4, -1)
        qkv = self.qkv(self.norm_attention(x) * (1 + scale) + shift).view(n, slots, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mask = self.attention_bias + padding_mask
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.proj(mixed.transpose(1, 2).reshape(n, slots, width))
        out: torch.Tensor = x + self.mlp(self.norm_mlp(x) * (1 + scale_mlp) + shift_mlp)
        return out


def test_a_block_attends_as_torch_does() -> None:
    block, torchs = Block(48, 4, 0.0).double(), TorchsAttention(48, 4, 0.0).double()
    torch.manual_seed(0)
    with torch.no_grad():
        for value in block.parameters():
            value.copy_(torch.randn(value.shape))
    torchs.load_state_dict(block.state_dict())
    padding_mask = torch.zeros(3, 1, 1, 32).double()
    padding_mask[0, ..., :20] = padding_mask[1, ..., 5] = -1e4
    x = torch.randn(3, 32, 48).double()
    planner = torch.randn(3, 1, 16).double()
    torch.testing.assert_close(block(x, padding_mask, planner), torchs(x, padding_mask, planner))


def random_model(midway: float = 0.5, planners: tuple[str, ...] = ()) -> AttentionModel:
    """Random weights throughout, and a mean mouth that is the average one."""
    torch.manual_seed(0)
    network = ToothAttentionConfig(8, 16, 2, 4, 0.0, midway, len(planners))
    config = AlignmentConfig("attention", POINTS, 4, asdict(network), "e", "d", planners=planners)
    made = AttentionModel(config)
    with torch.no_grad():
        for value in made.network.parameters():
            value.copy_(0.2 * torch.randn(value.shape))
        for name in ("reference", "t1_centroid", "t2_centroid"):
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
    return Mouths.at_t1(points, pose, present, stays)


def at_t1(given: Mouths, pose: Array | None = None, **masks: np.ndarray) -> Mouths:
    """The mouths with other poses (N, 32, 4, 4), `present` or `stays` (N, 32) at T1."""
    present, stays = masks.get("present", given.present[:, T1]), masks.get("stays", given.stays)
    return Mouths.at_t1(given.points, given.pose[:, T1] if pose is None else pose, present, stays)


def test_poses_are_exactly_rigid_and_identity_where_no_tooth_stays(model: AttentionModel) -> None:
    given = mouths()
    placed = model.predict(given)
    turn = placed.pose[..., :3, :3]
    np.testing.assert_allclose(
        turn @ np.swapaxes(turn, -1, -2), np.broadcast_to(np.eye(3), turn.shape), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(turn), 1)
    assert (placed.pose[..., 3, :] == [0, 0, 0, 1]).all()
    assert (placed.pose[~given.stays] == np.eye(4)).all()
    assert placed.points is None
    assert placed.expected_add_mm is not None
    assert (placed.expected_add_mm[given.stays] > 0).all()
    assert np.isnan(placed.expected_add_mm[~given.stays]).all()


def test_a_moved_mouth_gets_the_same_answer_moved(model: AttentionModel) -> None:
    given = mouths(missing=3)
    motion = rigid.from_rotation(rigid.rotation_matrix(np.array([0.2, -0.25, 0.3])), np.array([20.0, -5, 9]))
    plain, moved = model.predict(given), model.predict(at_t1(given, motion @ given.pose[:, T1]))
    apart = np.linalg.norm(rigid.apply(motion @ plain.pose - moved.pose, given.points), axis=-1)
    assert apart[given.stays].max() < 0.02  # mm


def test_a_mirrored_mouth_gets_the_mirrored_answer(model: AttentionModel) -> None:
    given = mouths(1, missing=2)
    other = stacked(Mouth(given.points[0], given.pose[0], given.present[0]).mirrored())
    answer, back = model.predict(given), model.predict(other)
    flip = np.diag([-1.0, 1, 1, 1])
    wanted = flip @ answer.pose[0, MIRRORED_SLOT] @ flip
    np.testing.assert_allclose(back.pose[0][other.stays[0]], wanted[other.stays[0]], atol=2e-4)


def test_the_second_prediction_starts_part_of_the_way_to_the_first() -> None:
    given, share = mouths(missing=2), 0.3
    once = random_model(midway=0.0)
    centre = given.points[:, :, ::2].astype(np.float64).mean(2)  # of the points in its token
    start, goal = given.pose[:, T1], once.predict(given).pose
    turn = np.swapaxes(start[..., :3, :3], -1, -2) @ goal[..., :3, :3]
    turned = start[..., :3, :3] @ rigid.rotation_matrix(share * rigid.rotation_vector(turn))
    before, after = (rigid.apply(pose, centre[:, :, None])[:, :, 0] for pose in (start, goal))
    place = before + share * (after - before) - (turned @ centre[..., None])[..., 0]
    on_the_way = np.where(given.stays[..., None, None], rigid.from_rotation(turned, place), start)
    wanted = once.predict(at_t1(given, on_the_way)).pose
    found = random_model(midway=share).predict(given).pose

    def apart_mm(pose: Array) -> Array:
        return np.linalg.norm(rigid.apply(found - pose, given.points), axis=-1)[given.stays]

    assert apart_mm(wanted).max() < 2e-3
    assert apart_mm(once.predict(given).pose).max() > 0.1


def test_what_stands_in_an_empty_slot_means_nothing(model: AttentionModel) -> None:
    given = mouths(missing=4)
    noise = np.where(given.present[:, T1, :, None, None], given.points, 1e3).astype(np.float32)
    one, other = model.predict(given), model.predict(replace(given, points=noise))
    np.testing.assert_allclose(one.pose[given.stays], other.pose[given.stays], atol=1e-5)


def test_where_an_unlearnt_slot_would_go_changes_nothing_for_the_others(model: AttentionModel) -> None:
    given, unlearnt = mouths(), [SLOT, MIRRORED_SLOT[SLOT]]
    model.network.known_at_t2[unlearnt] = False
    one = model.predict(given)
    model.network.t2_centroid[unlearnt] += 30
    other = model.predict(given)
    np.testing.assert_array_equal(one.pose, other.pose)


@pytest.mark.parametrize("what", ["points", "pose"])
def test_even_nan_means_nothing_in_an_empty_slot(model: AttentionModel, what: str) -> None:
    given = mouths(missing=4)
    here = given.present[:, T1]
    if what == "points":
        nothing = replace(given, points=np.where(here[..., None, None], given.points, np.nan))
    else:
        nothing = at_t1(given, np.where(here[..., None, None], given.pose[:, T1], np.nan))
    np.testing.assert_array_equal(model.predict(nothing).pose, model.predict(given).pose)


def test_which_teeth_stay_changes_the_answer_for_the_others(model: AttentionModel) -> None:
    given = mouths()
    stays = given.stays.copy()
    stays[:, 12] = False
    one, other = model.predict(given), model.predict(at_t1(given, stays=stays))
    assert np.abs(one.pose[:, 13] - other.pose[:, 13]).max() > 1e-4


def test_a_tooth_of_a_slot_that_was_not_in_training_changes_nothing_for_the_others(
    model: AttentionModel,
) -> None:
    network = model.network
    for known in (network.known_at_t1, network.known_at_t2):
        known[[0, 15]] = False
    for centroid in (network.reference, network.t1_centroid, network.t2_centroid):
        centroid[[0, 15]] = 0
    given = mouths()
    without = given.present[:, T1].copy()
    without[:, 0] = False
    one = model.predict(given)
    other = model.predict(at_t1(given, present=without, stays=given.stays & without))
    same = given.stays & without
    assert (one.pose[same] == other.pose[same]).all()
    assert (one.pose[:, 0] == given.pose[:, T1, 0]).all()


def test_slots_whose_end_it_has_not_learnt_stay_where_they_are(model: AttentionModel) -> None:
    model.network.known_at_t2[7] = False
    given = mouths()
    placed = model.predict(given)
    assert (placed.pose[:, 7] == given.pose[:, T1, 7]).all()
    assert placed.expected_add_mm is not None
    assert np.isnan(placed.expected_add_mm[:, 7]).all()


@pytest.mark.parametrize("tooth", [0, 20])
def test_a_mouth_of_one_tooth_gets_an_answer(model: AttentionModel, tooth: int) -> None:
    given = mouths(1)
    alone = np.zeros((1, 32), bool)
    alone[0, tooth] = True
    assert np.isfinite(model.predict(at_t1(given, present=alone, stays=alone)).pose).all()


def test_numbers_that_are_not_finite_are_refused(model: AttentionModel) -> None:
    model.network.t2_centroid.fill_(float("nan"))
    with pytest.raises(DentalignError, match="not finite"):
        model.predict(mouths())


def test_the_weights_file_gives_the_same_model_again(model: AttentionModel, tmp_path: Path) -> None:
    weights.save(tmp_path / "alignment.pt", model)
    loaded = registry.load(tmp_path / "alignment.pt")
    assert isinstance(loaded, AttentionModel)
    assert (loaded.predict(mouths()).pose == model.predict(mouths()).pose).all()


@pytest.mark.parametrize(
    ("points", "most", "count"), [(256, 64, 64), (32, 64, 32), (250, 64, 50), (256, 256, 256)]
)
def test_points_are_thinned_so_that_the_mirrored_order_still_fits(points: int, most: int, count: int) -> None:
    assert posed_teeth.thinned_count(points, most) == count
    order = np.arange(points)[:, None] * np.ones(3)
    thin = posed_teeth.thinned(order, count)[:, 0]
    half = count // 2
    assert (thin[half:] - thin[:half] == points // 2).all()


def test_an_answer_for_nobody_has_those_for_each_planner_beside_it() -> None:
    model, given = random_model(planners=("planner-01", "planner-02")), mouths(3, missing=3)
    told = Conditions.unknown(3)._replace(planner=torch.tensor([0, 0, 2]))
    told.motion[0, 0, :3] = torch.tensor([0.0, 1.5, 0.0])
    found = model.predict(given, told).of_planners
    assert found is not None
    for number, poses in enumerate(found, start=1):
        planner = torch.tensor([number, number, 2])  # who plans the last one is told
        wanted = model.predict(given, told._replace(planner=planner))
        np.testing.assert_array_equal(poses, wanted.pose)
        assert wanted.of_planners is None
        before, after = (centroids(given.points, pose) for pose in (given.pose[:, T1], poses))
        moved = arch_motion(before, after, torch.from_numpy(given.stays))[0, 0, :3]
        torch.testing.assert_close(moved, told.motion[0, 0, :3], atol=1e-3, rtol=0)  # as told
    assert np.ptp(found[:, :2], 0).max() > 0.1
