"""The models loaded with one call each: what a program of one's own gets."""

from pathlib import Path

import numpy as np
import pytest
import torch

import dentalign
from dentalign.alignment.base import Mouths
from dentalign.autoencoder.encoding import ToothEncoder
from dentalign.cases.settings import Sample
from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import DentalignError
from dentalign.geometry import rigid
from tests.support.pipeline_project import Project


@pytest.fixture(scope="module")
def models(finished_project: Project) -> Path:
    return finished_project.root / "models"


@pytest.fixture(scope="module")
def case(finished_project: Project) -> dict[str, np.ndarray]:
    with MouthStore(finished_project.root / "data" / "latents.h5") as store:
        return store.row(int(store.rows_of("test")[0]))


def at_t1(case: dict[str, np.ndarray]) -> torch.Tensor:
    """Points of the teeth in head coordinates, mm (T, P, 3)."""
    mask = case["t1/mask"]
    return torch.from_numpy(rigid.apply(case["t1/pose"][mask], case["points"][mask]).astype(np.float32))


def test_the_encoder_takes_head_points_and_gives_the_pipeline_s_latents(
    models: Path, case: dict[str, np.ndarray]
) -> None:
    encoder = dentalign.load_encoder(models / "encoder.pt")
    ours = encoder(at_t1(case)).numpy()
    pipeline = ToothEncoder(models / "encoder.pt", "cpu")
    theirs = pipeline.encode(case["points"], case["t1/pose"][None], case["t1/mask"][None])[0]
    np.testing.assert_allclose(ours, theirs[case["t1/mask"]], atol=1e-4 * np.abs(theirs).max())
    stored = case["t1/latents"][case["t1/mask"]].astype(np.float32)  # half precision
    np.testing.assert_allclose(ours, stored, atol=1e-3 * np.abs(stored).max())


def test_the_decoder_gives_the_points_back_to_what_the_validation_says(
    models: Path, case: dict[str, np.ndarray]
) -> None:
    encoder, decoder = (
        dentalign.load_encoder(models / "encoder.pt"),
        dentalign.load_decoder(models / "decoder.pt"),
    )
    points = at_t1(case)
    assert (decoder(encoder(points)) - points).norm(dim=-1).mean() < 0.5  # mm


def test_the_alignment_model_says_where_the_teeth_stand_at_t2(
    finished_project: Project, models: Path, case: dict[str, np.ndarray]
) -> None:
    """Through the three models as they are loaded: the very poses of the prediction."""
    encoder, decoder = (
        dentalign.load_encoder(models / "encoder.pt"),
        dentalign.load_decoder(models / "decoder.pt"),
    )
    alignment_model = dentalign.load_alignment_model(models / "alignment.pt")
    mask = case["t1/mask"]
    latents = np.zeros((1, *case["t1/latents"].shape), np.float32)
    latents[0, mask] = encoder(at_t1(case)).numpy()
    mouth = dentalign.Mouths(case["points"][None], case["t1/pose"][None], mask[None], mask[None], latents)
    placed = alignment_model.place(mouth, decoder)
    cases = finished_project.root / "cases"
    sample = Sample(points=32, oversampling=2)  # as the project has it
    predicted = dentalign.Predictor(models, device="cpu", sample=sample).predict(
        cases / "json" / f"{case['case_id']}.json", cases / "stl"
    )
    np.testing.assert_allclose(placed.pose[0], predicted.pose, atol=1e-3)
    with pytest.raises(ValueError, match="needs the decoder"):
        alignment_model.place(mouth)
    with pytest.raises(ValueError, match="works on latents"):
        alignment_model.place(
            Mouths(*(getattr(mouth, name) for name in ("points", "pose", "present", "stays"))), decoder
        )


def test_they_are_ready_to_use(models: Path) -> None:
    for name in ("encoder", "decoder", "alignment"):
        network = getattr(dentalign, f"load_{name}")(models / f"{name}.pt")
        assert isinstance(network, torch.nn.Module)
        assert not network.training
        assert not any(value.requires_grad for value in network.parameters())


def test_the_wrong_file_and_the_wrong_device_are_named(models: Path, tmp_path: Path) -> None:
    with pytest.raises(DentalignError, match=r"none\.pt: no such weights file"):
        dentalign.load_encoder(tmp_path / "none.pt")
    with pytest.raises(DentalignError, match=r"decoder\.pt: does not fit Encoder"):
        dentalign.load_encoder(models / "decoder.pt")
    with pytest.raises(DentalignError, match=r"encoder\.pt: no alignment model"):
        dentalign.load_alignment_model(models / "encoder.pt")
    if not torch.cuda.is_available():
        with pytest.raises(DentalignError, match="torch finds none"):
            dentalign.load_decoder(models / "decoder.pt", device="cuda")


def test_what_is_offered_can_be_listed_and_nothing_of_it_is_imported_before_it_is_asked_for() -> None:
    import subprocess
    import sys

    code = (
        "import sys, dentalign; "
        "assert {'Predictor', 'load_encoder', 'load_decoder', 'load_alignment_model'} <= set(dir(dentalign)); "
        "assert not any(name.startswith(('torch', 'numpy', 'dentalign.')) for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
