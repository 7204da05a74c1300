"""The models loaded with one call each: what a program of one's own gets."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import dentalign
from dentalign.autoencoder.encoding import ToothEncoder
from dentalign.cases.settings import Sample
from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import DentalignError
from dentalign.files import weights
from dentalign.geometry import rigid
from dentalign.mouth import T1, Mouth, Mouths
from tests.support.pipeline_project import Project


@pytest.fixture(scope="module")
def models(finished_project: Project) -> Path:
    return finished_project.root / "models"


@pytest.fixture(scope="module")
def mouth(finished_project: Project) -> Mouth:
    with MouthStore(finished_project.root / "data" / "latents.h5") as store:
        return store.mouth(int(store.rows_of("test")[0]))


def at_t1(mouth: Mouth) -> torch.Tensor:
    """Points of the teeth in head coordinates, mm (T, P, 3)."""
    here = mouth.present[T1]
    return torch.from_numpy(rigid.apply(mouth.pose[T1, here], mouth.points[here]).astype(np.float32))


def test_the_encoder_takes_head_points_and_gives_the_latents_of_the_pipeline(
    models: Path, mouth: Mouth
) -> None:
    encoder = dentalign.load_encoder(models / "encoder.pt")
    ours = encoder(at_t1(mouth)).numpy()
    pipeline = ToothEncoder(models / "encoder.pt", "cpu")
    here = mouth.present[T1]
    theirs = pipeline.encode(mouth.points, mouth.pose[:1], mouth.present[:1])[0]
    np.testing.assert_allclose(ours, theirs[here], atol=1e-4 * np.abs(theirs).max())
    assert mouth.latents is not None
    stored = mouth.latents[T1, here].astype(np.float32)  # half precision
    np.testing.assert_allclose(ours, stored, atol=1e-3 * np.abs(stored).max())


def test_the_decoder_gives_the_points_back_as_the_validation_measures_it(models: Path, mouth: Mouth) -> None:
    encoder, decoder = (
        dentalign.load_encoder(models / "encoder.pt"),
        dentalign.load_decoder(models / "decoder.pt"),
    )
    points = at_t1(mouth)
    assert (decoder(encoder(points)) - points).norm(dim=-1).mean() < 0.5  # mm


def test_the_models_as_loaded_give_the_poses_of_the_prediction(
    finished_project: Project, models: Path, mouth: Mouth
) -> None:
    encoder, decoder = (
        dentalign.load_encoder(models / "encoder.pt"),
        dentalign.load_decoder(models / "decoder.pt"),
    )
    model = dentalign.load_alignment_model(models / "alignment.pt")
    here = mouth.present[T1]
    latents = np.zeros((1, *mouth.points.shape[:2], decoder.config.features), np.float32)
    latents[0, here] = encoder(at_t1(mouth)).numpy()
    given = (mouth.points[None], mouth.pose[:1], here[None], here[None])
    with pytest.raises(ValueError, match="needs the decoder"):
        model.predict(Mouths.at_t1(*given, latents))
    model = model.with_decoder(decoder)
    with pytest.raises(ValueError, match="needs latents"):
        model.predict(Mouths.at_t1(*given))
    found = model.predict(Mouths.at_t1(*given, latents))
    cases = finished_project.root / "cases"
    sample = Sample(points=32, oversampling=2)  # as the project has it
    predicted = dentalign.Predictor(models, device="cpu", sample=sample).predict(
        cases / "json" / f"{mouth.case_id}.json", cases / "stl"
    )
    np.testing.assert_allclose(found.pose[0], predicted.network_pose, atol=1e-3)  # before the solver


def test_a_model_saved_with_its_decoder_is_the_same_file(models: Path, tmp_path: Path) -> None:
    model = dentalign.load_alignment_model(models / "alignment.pt")
    weights.save(tmp_path / "alignment.pt", model.with_decoder(dentalign.load_decoder(models / "decoder.pt")))
    assert (tmp_path / "alignment.pt").read_bytes() == (models / "alignment.pt").read_bytes()


@pytest.mark.parametrize("asked_for", ["aligner.pt", "alignment.pt"])
def test_a_file_of_the_old_name_is_refused_with_the_command_that_renames_it(
    models: Path, tmp_path: Path, asked_for: str
) -> None:
    old, new = tmp_path / "aligner.pt", tmp_path / "alignment.pt"
    shutil.copy(models / "alignment.pt", old)
    with pytest.raises(DentalignError, match=re.escape(f"Rename it: `mv {old} {new}`")):
        dentalign.load_alignment_model(tmp_path / asked_for)
    subprocess.run(["mv", old, new], check=True)
    dentalign.load_alignment_model(new)


def test_they_are_ready_to_use(models: Path) -> None:
    for name in ("encoder", "decoder", "alignment"):
        load = "load_alignment_model" if name == "alignment" else f"load_{name}"
        network = getattr(dentalign, load)(models / f"{name}.pt")
        assert isinstance(network, torch.nn.Module)
        assert not network.training
        assert not any(value.requires_grad for value in network.parameters())


def test_the_wrong_file_and_the_wrong_device_are_named(models: Path, tmp_path: Path) -> None:
    with pytest.raises(DentalignError, match=r"none\.pt: no such weights file"):
        dentalign.load_encoder(tmp_path / "none.pt")
    with pytest.raises(DentalignError, match=r"decoder\.pt: does not fit Encoder"):
        dentalign.load_encoder(models / "decoder.pt")
    with pytest.raises(DentalignError, match=r"encoder\.pt: not an alignment model"):
        dentalign.load_alignment_model(models / "encoder.pt")
    if not torch.cuda.is_available():
        with pytest.raises(DentalignError, match="torch finds no GPU"):
            dentalign.load_decoder(models / "decoder.pt", device="cuda")


def test_what_is_offered_can_be_listed_and_nothing_of_it_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, dentalign; "
        "assert {'Predictor', 'load_encoder', 'load_alignment_model'} <= set(dir(dentalign)); "
        "assert not any(name.startswith(('torch', 'numpy', 'dentalign.')) for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
