"""Mouths through the encoder: every tooth as if it were alone, whatever stands in the other slots."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from dentalign.autoencoder.encoder import Encoder, EncoderConfig
from dentalign.autoencoder.encoding import ToothEncoder, encode_shard
from dentalign.autoencoder.neighbours import nearest_neighbours
from dentalign.autoencoder.settings import EncoderFile
from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout
from dentalign.errors import DentalignError
from dentalign.files import weights
from dentalign.geometry import rigid
from dentalign.mouth import Mouth
from dentalign.running.device import choose_device

CONFIG = EncoderConfig(points=24, neighbours=4, terms=3, hidden=8, features=5)


@pytest.fixture
def encoder(tmp_path: Path) -> ToothEncoder:
    torch.manual_seed(0)
    weights.save(tmp_path / "encoder.pt", Encoder(CONFIG))
    return ToothEncoder(tmp_path / "encoder.pt", "cpu")


def test_each_tooth_of_each_state_is_encoded_as_if_alone_and_empty_slots_are_zero(
    encoder: ToothEncoder,
) -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(0, 4, (32, 24, 3)).astype(np.float32)
    poses = rigid.from_rotation(
        rigid.rotation_matrix(rng.normal(0, 0.5, (5, 32, 3))), rng.normal(0, 20, (5, 32, 3))
    )
    masks = rng.random((5, 32)) < 0.6
    masks[:, 3] = False  # in no state there
    latents = encoder.encode(points, poses, masks)
    assert latents.shape == (5, 32, 24, 5)
    assert not latents[~masks].any()
    for state, slot in np.argwhere(masks):
        head = rigid.apply(poses[state, slot], points[slot])
        graph = nearest_neighbours(torch.from_numpy(points[slot : slot + 1]), CONFIG.neighbours)
        alone = encoder.network(torch.from_numpy(head[None]).float(), graph)[0].numpy()
        np.testing.assert_allclose(latents[state, slot], alone, atol=1e-5)


def test_a_mouth_without_teeth_is_all_zero(encoder: ToothEncoder) -> None:
    poses = np.tile(np.eye(4), (2, 32, 1, 1))
    empty = encoder.encode(np.zeros((32, 24, 3), np.float32), poses, np.zeros((2, 32), bool))
    assert empty.shape == (2, 32, 24, 5)
    assert not empty.any()


def test_any_number_of_threads_gives_the_same_bytes(encoder: ToothEncoder) -> None:
    rng = np.random.default_rng(0)
    turn, shift = rigid.rotation_matrix(rng.normal(size=(5, 32, 3))), rng.normal(size=(5, 32, 3))
    given = rng.normal(0, 4, (32, 24, 3)), rigid.from_rotation(turn, shift), rng.random((5, 32)) < 0.9
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(encoder.encode(*given))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0].any()
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_a_device_that_torch_does_not_know_is_refused_with_those_to_choose_from() -> None:
    with pytest.raises(DentalignError, match="device 'foo' is unknown to torch; set it to auto, cpu or"):
        choose_device("foo")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.usefixtures("state", "encoder")
def test_no_more_cases_are_held_than_are_under_way(tmp_path: Path) -> None:
    def peak(cases: int) -> int:
        given = tmp_path / f"{cases}.h5"
        points, pose = np.ones((32, 24, 3), np.float32), np.tile(np.eye(4), (2, 32, 1, 1))
        with mouth_store.create(given, Layout(24), {"shard": "s"}) as writer:
            for number in range(cases):
                writer.append(Mouth(points, pose, np.ones((2, 32), bool), case_id=f"{number:03d}"))
            writer.write_record("left_out", [])
            writer.write_record("listed", {})
        settings = EncoderFile(weights=str(tmp_path / "encoder.pt"), device="cpu", threads=1)
        tracemalloc.start()
        try:
            assert encode_shard(given, settings, tmp_path / "latents.h5") == cases
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(4)
    assert peak(50) < peak(5) + 200_000  # a case with its latents is some 30 kB
