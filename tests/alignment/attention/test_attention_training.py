"""Training the model `attention`: on mouths whose plan follows from how they stand."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dentalign.alignment.attention import model as attention_model
from dentalign.alignment.attention import training
from dentalign.alignment.attention.contact_loss import Neighbours, depth_mm, neighbours
from dentalign.alignment.attention.examples import Examples, ExamplesOnDisk
from dentalign.alignment.attention.model import moved
from dentalign.alignment.attention.training import AttentionTask, AttentionTraining, network_config
from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout, MouthStore
from dentalign.errors import ParamError
from dentalign.geometry import rigid
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.sampling import directions
from dentalign.teeth import SLOT_INDEX
from dentalign.training.loop import Schedule, train
from tests.support import graph_on_a_cpu

POINTS = 16
SETTINGS = AttentionTraining(points=8, width=16, layers=1, heads=2, batch_cases=8, warm_up=5, averaging=0.9)
pytestmark = pytest.mark.usefixtures("state")

WISDOM = [0, 15]  # slots without examples


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MouthStore]:
    """T2 is the average mouth, as a whole where T1 is; T1 is that shaken."""
    rng = np.random.default_rng(0)
    with mouth_store.create(tmp_path / "latents.h5", Layout(POINTS, 1), {}) as writer:
        for number in range(40):
            mask = rng.random(32) < 0.95
            mask[WISDOM] = False
            whole = rigid.from_rotation(rigid.rotation_matrix(rng.normal(0, 0.1, 3)), rng.normal(0, 5, 3))
            end = whole @ rigid.from_rotation(np.tile(np.eye(3), (32, 1, 1)), average_mouth().position)
            shaken = rigid.from_rotation(
                rigid.rotation_matrix(rng.normal(0, 0.1, (32, 3))), rng.normal(0, 1, (32, 3))
            )
            begin = end @ shaken
            none = ~mask[:, None, None]
            writer.append(
                {
                    "case_id": f"c{number:02d}",
                    "split": "val" if number % 4 == 3 else "train",
                    "fdi": np.zeros(32, np.uint8),
                    "dropped": np.zeros(32, bool),
                    "points": directions(POINTS) * rng.uniform(3, 5, (32, 1, 3)) * mask[:, None, None],
                    "t1/mask": mask,
                    "t2/mask": mask,
                    "t1/pose": np.where(none, np.eye(4), begin),
                    "t2/pose": np.where(none, np.eye(4), end),
                    "t1/latents": np.zeros((32, POINTS, 1), np.float16),
                    "t2/latents": np.zeros((32, POINTS, 1), np.float16),
                }
            )
    with MouthStore(tmp_path / "latents.h5") as opened:
        yield opened


@pytest.fixture
def task(store: MouthStore) -> AttentionTask:
    torch.manual_seed(0)
    model = attention_model.build(network_config(SETTINGS, POINTS), (POINTS, 1), "e", "d")
    return AttentionTask(store, model, SETTINGS, 100)


def all_of(examples: ExamplesOnDisk) -> Examples:
    return examples.at(torch.arange(len(examples)))


def test_the_means_of_the_slots_are_left_right_alike_and_unseen_slots_are_known(task: AttentionTask) -> None:
    assert not task.network.known_at_t1[WISDOM].any()
    assert task.network.known_at_t2[1:15].all()
    position = torch.tensor(average_mouth().position[1:15], dtype=torch.float32)
    for middle in (task.network.t1_middle, task.network.t2_middle):
        assert (middle[1:15] - middle[1:15].flip(0) * torch.tensor([-1.0, 1, 1])).abs().max() < 1e-4
        assert (middle[1:15] - position - (middle[1:15] - position).mean(0)).abs().max() < 1.0


def test_where_the_heads_lay_changes_the_means_by_one_motion_at_most(
    store: MouthStore, task: AttentionTask, tmp_path: Path
) -> None:
    on_disk = ExamplesOnDisk.read(store, store.rows_of("train"), task.network.points, tmp_path)
    examples = all_of(on_disk)
    rng = np.random.default_rng(3)
    turn = torch.from_numpy(rigid.rotation_matrix(rng.normal(0, 0.1, (len(examples.present), 3)))).float()
    shift = torch.from_numpy(rng.normal(0, 20, (len(examples.present), 3))).float()
    on_disk.put(0, examples._replace(t1=moved(examples.t1, turn, shift), t2=moved(examples.t2, turn, shift)))
    before = task.network.t2_middle[1:15].double().numpy()
    task._learn_means(on_disk)
    after = task.network.t2_middle[1:15].double().numpy()
    apart = rigid.apply(rigid.fit(before, after), before) - after
    assert np.linalg.norm(apart, axis=-1).max() < 0.1  # mm


def test_plans_of_held_out_cases_are_not_looked_at(store: MouthStore, task: AttentionTask) -> None:
    torch.manual_seed(0)
    model = attention_model.build(network_config(SETTINGS, POINTS), (POINTS, 1), "e", "d")

    class Blind(MouthStore):
        def column(self, name: str, rows: Any = slice(None)) -> Any:
            values = super().column(name, rows)
            if name != "t2/pose":
                return values
            held_out = np.array(self.splits)[rows] != "train"
            return np.where(held_out[:, None, None, None], np.eye(4), values)

    with Blind(store.path) as blind:
        other = AttentionTask(blind, model, SETTINGS, 100)
    for name, value in task.network.state_dict().items():
        torch.testing.assert_close(value, other.network.state_dict()[name], msg=name)
    torch.testing.assert_close(all_of(task.examples).t2.middle, all_of(other.examples).t2.middle)


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of heads, got 10 and 4"):
        AttentionTraining(width=10, heads=4)


def test_it_learns_where_the_teeth_belong(task: AttentionTask, state: Path) -> None:
    before = task.validate()["val_add_mm"]
    outcome = train(task, Schedule(25, 25, 0.003, warm_up=5, averaging=0.9), 0, "x", lambda *_: None)
    best = min(epoch["val_add_mm"] for epoch in outcome.history)
    assert best < 0.6 * before


def test_expected_errors_are_right_on_average_after_calibration(task: AttentionTask) -> None:
    task.network.doubt_scale.fill_(7.0)
    task.network.train()  # as a training leaves it that had nothing left to do
    task.finish()
    error, expected = task._held_out_errors()
    assert expected.mean() == pytest.approx(error.mean(), rel=1e-5)


def test_the_same_generator_gives_the_same_batches_and_another_gives_others(task: AttentionTask) -> None:
    def losses(seed: int) -> list[float]:
        torch.manual_seed(0)
        return [float(loss.detach()) for loss in task.batches(1, torch.Generator().manual_seed(seed))]

    task.network.eval()
    assert losses(1) == losses(1)
    assert losses(1) != losses(2)
    assert len(losses(1)) == 4  # 30 cases, 8 at a time


def test_without_changes_a_batch_is_the_cases_or_their_mirror_images(store: MouthStore) -> None:
    plain = SETTINGS.model_copy(
        update={"midway": 0.0, "jitter_mm": 0.0, "jitter_deg": 0.0, "resize": 0.0, "tooth_dropout": 0.0}
    )
    model = attention_model.build(network_config(plain, POINTS), (POINTS, 1), "e", "d")
    task = AttentionTask(store, model, plain, 100)
    given = all_of(task.examples)
    changed = task._changed(given, torch.Generator().manual_seed(0))
    for name in ("t1", "t2"):
        for a, b in zip(getattr(given, name), getattr(changed, name), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert (changed.present == given.present).all()


def test_a_mouth_halfway_there_has_the_same_end(store: MouthStore) -> None:
    halfway = SETTINGS.model_copy(
        update={"midway": 0.9, "jitter_mm": 0.0, "jitter_deg": 0.0, "resize": 0.0, "tooth_dropout": 0.0}
    )
    model = attention_model.build(network_config(halfway, POINTS), (POINTS, 1), "e", "d")
    task = AttentionTask(store, model, halfway, 100)
    given = all_of(task.examples)
    changed = task._changed(given, torch.Generator().manual_seed(0))
    torch.testing.assert_close(changed.t2.middle, given.t2.middle)
    way = (given.t2.middle - given.t1.middle)[given.stays]
    share = ((changed.t1.middle - given.t1.middle)[given.stays] * way).sum(-1) / way.square().sum(-1)
    assert share.min() > -1e-3
    assert 0.5 < share.max() < 0.91
    assert 0.3 < (share.abs() < 1e-3).float().mean() < 0.7  # half of the mouths are left alone


@pytest.mark.parametrize(("sampled", "most"), [(254, 64), (134, 64), (256, 4)])
def test_too_few_points_to_see_a_tooth_by_are_refused_by_name(sampled: int, most: int) -> None:
    with pytest.raises(ParamError, match=rf"train.attention.points: every so many of {sampled} points"):
        network_config(AttentionTraining(points=most), sampled)


def test_the_planned_contacts_are_those_of_the_mouths_as_they_were_changed(
    task: AttentionTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Examples, torch.Tensor, Neighbours]] = []

    def note(part: Examples, counts: torch.Tensor, pairs: Neighbours) -> torch.Tensor:
        given.append((part, counts, pairs))
        return torch.zeros(())

    unlearnt = [SLOT_INDEX[14], SLOT_INDEX[24]]  # in the middle of an arch: seen, but not moved
    task.network.known_at_t2[unlearnt] = False
    task._measure_contacts()
    monkeypatch.setattr(task, "loss", note)
    monkeypatch.setattr(task, "settings", SETTINGS.model_copy(update={"tooth_dropout": 0.2, "resize": 0.1}))
    list(task.batches(1, torch.Generator().manual_seed(0)))
    for part, counts, pairs in given:
        assert part.present[:, unlearnt].any()
        assert counts[pairs.mouth, pairs.left].all()
        assert counts[pairs.mouth, pairs.right].all()
        wanted = depth_mm(part.t2, part.normals, pairs)
        torch.testing.assert_close(part.planned_mm[pairs.mouth, pairs.right, 0], wanted, atol=1e-4, rtol=0)
        torch.testing.assert_close(part.planned_mm[pairs.mouth, pairs.left, 1], wanted, atol=1e-4, rtol=0)
    assert sum(len(pairs.mouth) for _, _, pairs in given) > 100
    across = [
        part.stays[pairs.mouth, unlearnt[0]] & (pairs.left == SLOT_INDEX[15]) for part, _, pairs in given
    ]
    assert torch.cat(across).any()  # as if the tooth between were not there


def test_a_training_whose_loss_is_recorded_is_the_same_to_the_last_bit(
    store: MouthStore, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def curve(name: str) -> list[float]:
        torch.manual_seed(0)
        model = attention_model.build(network_config(SETTINGS, POINTS), (POINTS, 1), "e", "d")
        task = AttentionTask(store, model, SETTINGS, 100)
        outcome = train(task, Schedule(4, 4, 0.003, warm_up=5, averaging=0.9), 0, name, lambda *_: None)
        return [value for epoch in outcome.history for value in epoch.values()]

    # As many pairs in every batch: else each is of a shape of its own, and no record is used again.
    monkeypatch.setattr(
        training, "neighbours", lambda teeth, counted, as_many: neighbours(teeth, counted, True)
    )
    plain = curve("plain")
    records = graph_on_a_cpu.use(monkeypatch)
    assert curve("recorded") == plain
    assert max(record.replays for record in records) > 4
