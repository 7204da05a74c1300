"""Training the model `fc`: on plans that follow from the planner and from how each arch moves as a whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dentalign.alignment import conditions
from dentalign.alignment.base import AlignmentConfig, TrainingData, TrainSection, add_mm
from dentalign.alignment.calibration import calibrate
from dentalign.alignment.conditions import Conditions
from dentalign.alignment.fc import latent_codes
from dentalign.alignment.fc.latent_basis import LatentBasis
from dentalign.alignment.fc.latent_codes import Augmentation, LatentCodes
from dentalign.alignment.fc.model import FullyConnectedModel
from dentalign.alignment.fc.movement_code import extents
from dentalign.alignment.fc.training import FullyConnectedTask, FullyConnectedTraining
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout, MouthStore
from dentalign.geometry import rigid
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.sampling import directions
from dentalign.mouth import T1, T2, Mouth, Mouths
from dentalign.teeth import ARCHES, MIRRORED_SLOT
from dentalign.training.loop import Schedule, train

POINTS = 16
SETTINGS = FullyConnectedTraining(
    components=6, hidden=32, blocks=1, dropout=0.0, jitter=0.1, tooth_dropout=0.0
)
STAYS_IN_PLACE = 3  # slot


class PointsAsLatents:
    """Encoder whose latents are the points in head coordinates."""

    device = torch.device("cpu")

    def encode(self, points: np.ndarray, pose: np.ndarray, present: np.ndarray) -> np.ndarray:
        head = rigid.apply(pose, points) * present[..., None, None]
        return head.astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MouthStore:
    """T2 is the average mouth, moved by what no mouth tells.

    Planner 1 extrudes by 2 mm, planner 2 intrudes; and each arch moves forward or back.
    """
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("fc") / "latents.h5"
    with mouth_store.create(path, Layout(POINTS, 3), {}) as writer:
        for number in range(80):
            end = rigid.from_rotation(np.tile(np.eye(3), (32, 1, 1)), average_mouth().position)
            start = end.copy()
            start[:, :3, 3] += rng.normal(0, 1.5, (32, 3))
            for slots in ARCHES.values():
                end[slots, :3, 3] += (0, rng.normal(0, 1.5), 2.0 if number % 2 == 0 else -2.0)
            end[STAYS_IN_PLACE] = start[STAYS_IN_PLACE]
            crowns = (directions(POINTS) * rng.uniform(3, 5, (32, 1, 3))).astype(np.float32)
            pose, present = np.stack([start, end]), np.ones((2, 32), bool)
            latents = PointsAsLatents().encode(crowns, pose, present).astype(np.float16)
            split, planner = "val" if number % 4 == 3 or number % 8 == 2 else "train", 1 + number % 2
            writer.append(
                Mouth(
                    crowns, pose, present, latents=latents, case_id=f"c{number:02d}", split=split,
                    planner=f"planner-0{planner}",
                )
            )  # fmt: skip
    return MouthStore(path)


@pytest.fixture(scope="module")
def codes(store: MouthStore, tmp_path_factory: pytest.TempPathFactory) -> LatentCodes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(tmp_path_factory.mktemp("state")))
        return latent_codes.prepare(store, PointsAsLatents(), 6, Augmentation(copies=4), "key")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(
    store: MouthStore, codes: LatentCodes, tmp_path_factory: pytest.TempPathFactory
) -> FullyConnectedTask:
    """The trained model in its task; its decoder returns the points."""
    decoder = Decoder(DecoderConfig(3, 8))
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        decoder.straight.weight.copy_(torch.eye(3))
    torch.manual_seed(0)
    network = {"components": 6, "hidden": 32, "blocks": 1, "dropout": 0.0, "planners": 2}
    model = FullyConnectedModel(AlignmentConfig("fc", POINTS, 3, network, "e", "d")).with_decoder(decoder)
    model.set_basis(codes.basis)
    task = FullyConnectedTask(
        codes, TrainingData(store, "", "", torch.device("cpu"), TrainSection()), model, decoder, SETTINGS
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(tmp_path_factory.mktemp("state")))
        schedule = Schedule(60, 60, 0.01, warm_up=5, ema_decay=0.9)
        task.network.load_state_dict(train(task, schedule, 0, "align/test").best_state)
    task.network.eval()
    return task


@pytest.fixture(scope="module")
def unseen(store: MouthStore) -> Mouths:
    """The validation mouths, all of their points."""
    rows = store.rows_of("val")
    latents = np.stack([store.column(f"{stage}/latents", rows) for stage in ("t1", "t2")], 1)
    return replace(store.mouths(rows), latents=latents)


@pytest.fixture(scope="module")
def plan(store: MouthStore, unseen: Mouths) -> Conditions:
    """All conditions of the validation mouths."""
    t1, t2 = (torch.from_numpy(unseen.pose[:, stage, :, :3, 3]).float() for stage in (T1, T2))
    stays = torch.from_numpy(unseen.stays)
    planner = [int(store.planners[row][-1]) for row in store.rows_of("val")]
    unknown = Conditions.unknown(len(unseen))
    motion = conditions.arch_motion(t1, t2, stays)
    return unknown._replace(planner=torch.tensor(planner), motion=motion)


def error_mm(task: FullyConnectedTask, told: Conditions | None, mouths: Mouths) -> float:
    return float(add_mm(mouths, task.model.predict(mouths, told).pose).mean())


def test_what_is_told_makes_the_prediction_better(
    trained: FullyConnectedTask, unseen: Mouths, plan: Conditions
) -> None:
    unknown = Conditions.unknown(len(unseen))
    untold = error_mm(trained, None, unseen)
    assert error_mm(trained, unknown._replace(planner=plan.planner), unseen) < 0.9 * untold
    assert error_mm(trained, unknown._replace(motion=plan.motion), unseen) < 0.7 * untold
    assert error_mm(trained, plan, unseen) < 0.5 * untold


def test_nothing_told_is_the_same_as_all_unknown(trained: FullyConnectedTask, unseen: Mouths) -> None:
    unknown = Conditions.unknown(len(unseen))
    np.testing.assert_array_equal(
        trained.model.predict(unseen).pose, trained.model.predict(unseen, unknown).pose
    )


def test_a_held_tooth_keeps_its_pose_and_its_neighbours_do_not(
    trained: FullyConnectedTask, unseen: Mouths
) -> None:
    told = Conditions.unknown(len(unseen))
    told.held[:, 7] = True
    predicted = trained.model.predict(unseen, told)
    np.testing.assert_array_equal(predicted.pose[:, 7], unseen.pose[:, T1, 7])
    assert (predicted.pose[:, 8] != unseen.pose[:, T1, 8]).any()
    assert predicted.expected_add_mm is not None
    assert np.isnan(predicted.expected_add_mm[:, 7]).all()
    assert np.isfinite(predicted.expected_add_mm[:, 8]).all()


def test_the_expected_errors_have_the_mean_of_the_errors(trained: FullyConnectedTask, unseen: Mouths) -> None:
    calibrate(trained.model, [(unseen, np.zeros(len(unseen), np.int64))])
    predicted = trained.model.predict(unseen)
    assert predicted.expected_add_mm is not None
    wanted = add_mm(unseen, predicted.pose).mean()
    assert predicted.expected_add_mm[unseen.stays].mean() == pytest.approx(wanted, rel=0.02)


def test_each_copy_has_the_centroids_and_the_held_teeth_of_its_own_frame(
    codes: LatentCodes, store: MouthStore
) -> None:
    mouth = store.mouth(int(store.rows_of("train")[0]), latents=False)
    itself, mirrored, moved = codes.centroid[0, 0], codes.centroid[0, 1], codes.centroid[0, 2]
    head = rigid.apply(mouth.pose, mouth.points).mean(2)
    np.testing.assert_allclose(itself, head, atol=1e-4)
    np.testing.assert_allclose(mirrored, head[:, MIRRORED_SLOT] * (-1, 1, 1), atol=1e-4)
    motion = rigid.fit(itself[T1], moved[T1])
    np.testing.assert_allclose(rigid.apply(motion, itself[T2]), moved[T2], atol=1e-3)
    assert np.flatnonzero(codes.held[0, 0]).tolist() == [STAYS_IN_PLACE]
    assert np.flatnonzero(codes.held[0, 1]).tolist() == [MIRRORED_SLOT[STAYS_IN_PLACE]]


def test_extents_of_the_crowns_are_read_from_the_codes_where_there_is_a_tooth() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(60, 2, 2, 32, 6)).astype(np.float32)
    direction = rng.normal(size=(32, 6, 3))
    z[:, :, T2] = z[:, :, T1]  # a tooth keeps its size
    extent = (8 + np.einsum("ncsd,sdk->ncsk", z[:, :, T1], direction)).astype(np.float32)
    present = np.ones((60, 2, 2, 32), bool)
    without = 4
    present[..., without] = False
    basis = LatentBasis(*3 * [torch.zeros(0)])
    place, held = np.zeros((*z.shape[:-1], 3), np.float32), np.zeros((60, 2, 32), bool)
    there, mean, scale = extents(LatentCodes(z, present, place, held, extent, basis))
    found = (np.einsum("ncsd,sdk->ncsk", z[:, :, T1], there.numpy()) - mean.numpy()) / scale.numpy()
    others = np.arange(32) != without
    wanted = (extent - extent.mean((0, 1))) / extent.std((0, 1))
    np.testing.assert_allclose(found[:, :, others], wanted[:, :, others], atol=0.02)
    assert not there[without].any() and not mean[without].any() and (scale[without] == 1).all()
