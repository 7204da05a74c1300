"""Training the model `attention`: on mouths whose plan follows from how they stand."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dentalign.alignment.attention.contact_loss import Neighbours, depth_mm
from dentalign.alignment.attention.examples import Examples
from dentalign.alignment.attention.model import AttentionModel
from dentalign.alignment.attention.training import AttentionTask, AttentionTraining, network_config
from dentalign.alignment.base import AlignmentConfig, TrainingData, TrainSection
from dentalign.alignment.calibration import calibrate
from dentalign.alignment.conditions import Conditions
from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout, MouthStore
from dentalign.errors import ParamError
from dentalign.geometry import rigid
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.sampling import directions
from dentalign.mouth import T2, Mouth
from dentalign.teeth import SLOT_INDEX
from dentalign.training.loop import Schedule, train

POINTS = 16
SETTINGS = AttentionTraining(points=8, width=16, layers=1, heads=2, batch_cases=8, warm_up=5, ema_decay=0.9)
pytestmark = pytest.mark.usefixtures("state")

WISDOM = [0, 15]  # slots without examples


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MouthStore]:
    """T2 is the average mouth, as a whole where T1 is; T1 is that shaken."""
    rng = np.random.default_rng(0)
    with mouth_store.create(tmp_path / "latents.h5", Layout(POINTS, 1), {}) as writer:
        for number in range(40):
            present = np.tile(rng.random(32) < 0.95, (2, 1))
            present[:, WISDOM] = False
            whole = rigid.from_rotation(rigid.rotation_matrix(rng.normal(0, 0.1, 3)), rng.normal(0, 5, 3))
            end = whole @ rigid.from_rotation(np.tile(np.eye(3), (32, 1, 1)), average_mouth().position)
            shaken = rigid.from_rotation(
                rigid.rotation_matrix(rng.normal(0, 0.1, (32, 3))), rng.normal(0, 1, (32, 3))
            )
            crowns = directions(POINTS) * rng.uniform(3, 5, (32, 1, 3)) * present[0][:, None, None]
            writer.append(
                Mouth(
                    crowns.astype(np.float32),
                    np.where(present[..., None, None], np.stack([end @ shaken, end]), np.eye(4)),
                    present,
                    latents=np.zeros((2, 32, POINTS, 1), np.float16),
                    case_id=f"c{number:02d}",
                    split="val" if number % 4 == 3 else "train",
                )
            )
    with MouthStore(tmp_path / "latents.h5") as opened:
        yield opened


def task_of(store: MouthStore, settings: AttentionTraining = SETTINGS) -> AttentionTask:
    torch.manual_seed(0)
    network = network_config(settings, POINTS)
    model = AttentionModel(AlignmentConfig("attention", POINTS, 1, asdict(network), "e", "d"))
    data = TrainingData(store, "", "", torch.device("cpu"), TrainSection(model="attention"))
    return AttentionTask(data, model, settings)


@pytest.fixture
def task(store: MouthStore) -> AttentionTask:
    return task_of(store)


def test_the_means_of_the_slots_are_left_right_alike_and_rare_slots_are_not_known(
    task: AttentionTask,
) -> None:
    network = task.model.network
    assert not network.known_at_t1[WISDOM].any()
    assert network.known_at_t2[1:15].all()
    position = torch.tensor(average_mouth().position[1:15], dtype=torch.float32)
    for centroid in (network.t1_centroid[1:15], network.t2_centroid[1:15]):
        assert (centroid - centroid.flip(0) * torch.tensor([-1.0, 1, 1])).abs().max() < 1e-4
        assert (centroid - position - (centroid - position).mean(0)).abs().max() < 1.0


def test_where_the_heads_lay_changes_the_means_by_one_motion_at_most(task: AttentionTask) -> None:
    given, network, rng = task.examples, task.model.network, np.random.default_rng(3)
    rotation = torch.from_numpy(rigid.rotation_matrix(rng.normal(0, 0.1, (len(given.present), 3)))).float()
    translation = torch.from_numpy(rng.normal(0, 20, (len(given.present), 3))).float()
    t1, t2 = (teeth.moved(rotation, translation) for teeth in (given.t1, given.t2))
    task.examples = given._replace(
        t1_rotation=t1.rotation, t1_centroid=t1.centroid, t2_rotation=t2.rotation, t2_centroid=t2.centroid
    )
    before = network.t2_centroid[1:15].double().numpy()
    task._learn_means()
    after = network.t2_centroid[1:15].double().numpy()
    apart = rigid.apply(rigid.fit(before, after), before) - after
    assert np.linalg.norm(apart, axis=-1).max() < 0.1  # mm


def test_plans_of_held_out_cases_are_not_looked_at(store: MouthStore, task: AttentionTask) -> None:
    class Blind(MouthStore):
        def column(self, name: str, rows: Any = slice(None)) -> Any:
            values = super().column(name, rows)
            if name != "t2/pose":
                return values
            held_out = np.array(self.splits)[rows] != "train"
            return np.where(held_out[:, None, None, None], np.eye(4), values)

    with Blind(store.path) as blind:
        other = task_of(blind)
    for name, value in task.network.state_dict().items():
        torch.testing.assert_close(value, other.network.state_dict()[name], msg=name)
    torch.testing.assert_close(task.examples.t2_centroid, other.examples.t2_centroid)
    assert (other.held_out.pose[:, T2] == np.eye(4)).all()


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of heads, got 10 and 4"):
        AttentionTraining(width=10, heads=4)


def test_it_learns_where_the_teeth_belong(task: AttentionTask, state: Path) -> None:
    before = task.validate()["val_add_mm"]
    outcome = train(task, Schedule(25, 25, 0.003, warm_up=5, ema_decay=0.9), 0, "x")
    best = min(epoch["val_add_mm"] for epoch in outcome.history)
    assert best < 0.6 * before


def test_expected_errors_are_right_on_average_after_calibration(task: AttentionTask) -> None:
    calibrate(task.model.eval(), [(task.held_out, np.zeros(len(task.held_out), np.int64))])
    predicted = task.model.predict(task.held_out)
    assert predicted.expected_add_mm is not None
    expected = predicted.expected_add_mm[task.held_out.stays]
    assert expected.mean() == pytest.approx(task.held_out_add_mm(predicted.pose).mean(), rel=1e-4)


def test_bounds_hold_for_nine_of_ten_teeth_of_the_calibration_mouths(task: AttentionTask) -> None:
    calibrate(task.model.eval(), [(task.held_out, np.zeros(len(task.held_out), np.int64))])
    predicted = task.model.predict(task.held_out)
    assert predicted.add_mm_90 is not None
    bound = predicted.add_mm_90[task.held_out.stays]
    assert 0.89 < (task.held_out_add_mm(predicted.pose) <= bound).mean() < 0.97


def test_a_training_starts_from_the_answers_of_another_model(
    store: MouthStore, task: AttentionTask, state: Path
) -> None:
    before = task_of(store).validate()["val_add_mm"]
    train(task, Schedule(30, 30, 0.01, warm_up=5, ema_decay=0.9), 0, "align/x")
    with torch.no_grad():  # as if it had seen other slots, in a frame of its own
        task.model.network.known_at_t1[:2], task.model.network.known_at_t2[:2] = False, False
    other = task_of(store)
    other.start_from(task.model)
    assert other.validate()["val_add_mm"] == pytest.approx(task.validate()["val_add_mm"], rel=0.2)
    assert other.validate()["val_add_mm"] < 0.7 * before
    assert other.model.network.known_at_t2[1]


def test_a_slot_that_the_other_model_has_not_learnt_keeps_its_mean_in_the_frame_of_the_other(
    store: MouthStore, task: AttentionTask
) -> None:
    network, slot = task.model.network, 5
    turned = torch.from_numpy(rigid.rotation_matrix(np.array([0.1, -0.2, 0.3]))).float()
    shift = torch.tensor([5.0, -3.0, 2.0])
    known = torch.arange(32) != slot
    wanted = {}
    for stage in ("t1", "t2"):
        centroid, rotation = (getattr(network, f"{stage}_{part}") for part in ("centroid", "rotation"))
        wanted[stage] = centroid @ turned.T + shift, turned @ rotation
        centroid.copy_(torch.where(known[:, None], wanted[stage][0], 99.0))
        rotation.copy_(torch.where(known[:, None, None], wanted[stage][1], 0.0))
        getattr(network, f"known_at_{stage}")[slot] = False
    network.reference.copy_(torch.where(known[:, None], network.reference @ turned.T + shift, 0.0))
    other = task_of(store)
    other.start_from(task.model)
    for stage, (centroid, rotation) in wanted.items():
        assert getattr(other.model.network, f"known_at_{stage}")[slot]
        for part, value in (("centroid", centroid), ("rotation", rotation)):
            found = getattr(other.model.network, f"{stage}_{part}")[slot]
            torch.testing.assert_close(found, value[slot], atol=0.02, rtol=0.01)


def test_a_training_starts_from_no_network_of_another_shape(store: MouthStore, task: AttentionTask) -> None:
    wider = task_of(store, SETTINGS.model_copy(update={"width": 32}))
    with pytest.raises(ParamError, match=r"train.start_from: .*width 16.*width 32.*null"):
        wider.start_from(task.model)


def none_held(given: Examples) -> torch.Tensor:
    return torch.zeros_like(given.stays)


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
    task = task_of(store, plain)
    changed = task._changed(task.examples, none_held(task.examples), torch.Generator().manual_seed(0))
    for a, b in zip(task.examples, changed, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_a_mouth_halfway_there_has_the_same_end(store: MouthStore) -> None:
    halfway = SETTINGS.model_copy(
        update={"midway": 0.9, "jitter_mm": 0.0, "jitter_deg": 0.0, "resize": 0.0, "tooth_dropout": 0.0}
    )
    task = task_of(store, halfway)
    given = task.examples
    changed = task._changed(given, none_held(given), torch.Generator().manual_seed(0))
    torch.testing.assert_close(changed.t2_centroid, given.t2_centroid)
    way = (given.t2_centroid - given.t1_centroid)[given.stays]
    share = ((changed.t1_centroid - given.t1_centroid)[given.stays] * way).sum(-1) / way.square().sum(-1)
    assert share.min() > -1e-3
    assert 0.5 < share.max() < 0.91
    assert 0.3 < (share.abs() < 1e-3).float().mean() < 0.7  # half of the mouths are left alone


@pytest.mark.parametrize(("sampled", "most"), [(254, 64), (134, 64), (256, 4)])
def test_too_few_points_to_see_a_tooth_by_are_refused_by_name(sampled: int, most: int) -> None:
    with pytest.raises(ParamError, match=rf"train.attention.points: {sampled} points"):
        network_config(AttentionTraining(points=most), sampled)


def test_the_second_prediction_begins_in_the_middle_of_what_training_has_seen() -> None:
    assert network_config(AttentionTraining(midway=0.5), 256).midway == 0.25
    assert network_config(AttentionTraining(midway=0.0), 256).midway == 0.0


def test_the_planned_contacts_are_those_of_the_mouths_as_they_were_changed(
    task: AttentionTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Examples, torch.Tensor, Neighbours]] = []

    def note(part: Examples, told: Conditions, counts: torch.Tensor, pairs: Neighbours) -> torch.Tensor:
        counts = counts | told.held  # a held tooth has contacts, although its own place is given
        given.append((part, counts, pairs))
        return torch.zeros(())

    unlearnt = [SLOT_INDEX[14], SLOT_INDEX[24]]  # in the middle of an arch: seen, but not moved
    task.model.network.known_at_t2[unlearnt] = False
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
