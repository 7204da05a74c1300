"""Training on a GPU: the curve of the CPU, the same bytes each time, also after a stop."""

from pathlib import Path
from typing import Any

import pytest
import synthetic_cases
import torch

from dentalign.alignment.training import Train, train_align
from dentalign.autoencoder.encoding import encode_shard
from dentalign.autoencoder.settings import EncoderFile
from dentalign.dataset.concat import concatenate
from dentalign.params import Device
from dentalign.running import state_dir

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.parametrize("model", ["fc", "attention"]),
]

POINTS, CASES = 64, 60
# Batches of 16 and a smaller one at the end of an epoch.
SECTIONS: dict[str, dict[str, Any]] = {
    "fc": {"components": 8, "hidden": 32, "batch_cases": 16, "augmentation": {"copies": 2}},
    "attention": {"points": 32, "width": 32, "layers": 2, "heads": 4, "batch_cases": 16},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Latents of made-up cases, encoded on the CPU, and the networks' weights."""
    folder = tmp_path_factory.mktemp("gpu")
    encoder, decoder = folder / "encoder.pt", folder / "decoder.pt"
    synthetic_cases.write_networks(encoder, decoder, POINTS)
    ids = synthetic_cases.case_ids(CASES)
    (clouds,) = synthetic_cases.write_clouds(folder / "clouds", ids, ["shard-000"], POINTS)
    encode_shard(clouds, EncoderFile(weights=str(encoder), device="cpu"), folder / "shard-000.h5")
    concatenate([folder / "shard-000.h5"], ["shard-000"], folder / "latents.h5")
    return folder


def trained(
    folder: Path, out: Path, model: str, device: Device, epochs: tuple[int, ...], dropout: float
) -> tuple[list[float], bytes]:
    """Loss and `val_add_mm` of all epochs, and the weights file; gone on with between `epochs`."""
    out.mkdir()
    with state_dir.kept_in(out):
        for count in epochs:
            section = {**SECTIONS[model], "dropout": dropout}
            settings = Train.model_validate(
                {"model": model, "epochs": count, "device": device, model: section}
            )
            encoder, decoder = (str(folder / f"{name}.pt") for name in ("encoder", "decoder"))
            outcome = train_align(
                folder / "latents.h5", encoder, decoder, out / "alignment.pt", out / "log", settings
            )
    curve = [value for epoch in outcome.history for value in epoch.values()]
    return curve, (out / "alignment.pt").read_bytes()


def test_it_follows_the_curve_of_the_cpu(folder: Path, tmp_path: Path, model: str) -> None:
    # Without dropout, whose random numbers are the device's own.
    cpu, _ = trained(folder, tmp_path / "cpu", model, "cpu", (4,), 0.0)
    gpu, _ = trained(folder, tmp_path / "gpu", model, "cuda", (4,), 0.0)
    assert gpu == pytest.approx(cpu, rel=2e-3)


def test_twice_the_same_gives_the_same_bytes(folder: Path, tmp_path: Path, model: str) -> None:
    first = trained(folder, tmp_path / "first", model, "cuda", (4,), 0.3)
    assert trained(folder, tmp_path / "second", model, "cuda", (4,), 0.3) == first


def test_a_training_that_goes_on_ends_as_one_that_never_stopped(
    folder: Path, tmp_path: Path, model: str
) -> None:
    whole = trained(folder, tmp_path / "whole", model, "cuda", (4,), 0.3)
    assert trained(folder, tmp_path / "parts", model, "cuda", (2, 4), 0.3) == whole
