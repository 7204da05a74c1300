"""Training the tooth autoencoder: latents of any width, even narrower than a point of three coordinates."""

from pathlib import Path

import pytest
import synthetic_cases
import torch

from dentalign.autoencoder.settings import Autoencoder
from dentalign.autoencoder.training import AutoencoderTask
from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout


@pytest.fixture
def clouds(tmp_path: Path, state: Path) -> Path:
    """Two cases of 32 points a tooth."""
    file = tmp_path / "clouds.h5"
    with mouth_store.create(file, Layout(32), {}) as writer:
        for case_id in synthetic_cases.case_ids(2):
            writer.append(synthetic_cases.mouth(case_id, 32))
    return file


def reconstruction_mm(clouds: Path, features: int) -> float:
    torch.manual_seed(0)
    task = AutoencoderTask(clouds, Autoencoder(cases="", features=features), torch.device("cpu"))
    task.network.eval()
    return task.validate()["val_reconstruction_mm"]


def test_before_the_first_epoch_a_latent_holds_its_point(clouds: Path) -> None:
    assert reconstruction_mm(clouds, 32) < 1  # a crown is some ten millimetres


@pytest.mark.parametrize("features", [1, 2, 3])
def test_a_latent_narrower_than_a_point_still_says_something_of_it(clouds: Path, features: int) -> None:
    spread_mm = AutoencoderTask(clouds, Autoencoder(cases=""), torch.device("cpu")).encoder.scale
    nothing_mm = 3**0.5 * float(spread_mm)  # what every point called the middle would give
    assert reconstruction_mm(clouds, 32) < reconstruction_mm(clouds, features) < 0.9 * nothing_mm
