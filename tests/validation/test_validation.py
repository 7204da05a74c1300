"""Validation: on a small made-up set whose figures are known, with our own classes throughout."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import validate as stage
from typer.testing import CliRunner

from dentalign import cli
from dentalign.alignment import registry
from dentalign.alignment.fc import model as fc_model
from dentalign.alignment.fc.latent_basis import LatentBasis
from dentalign.alignment.fc.model import FullyConnectedModel
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.autoencoder.encoder import Encoder, EncoderConfig
from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout, MouthStore, Row
from dentalign.errors import DentalignError, NothingUsable
from dentalign.files import weights
from dentalign.geometry import rigid
from dentalign.geometry.sampling import directions
from dentalign.teeth import SLOT_INDEX, SLOTS
from dentalign.validation.measurement import METHODS, Validate, Validation, validate
from dentalign.validation.report import tables

POINTS, FEATURES, ENCODER = 16, 4, "e" * 64
TEETH = (36, 35, 33, 31, 41, 13, 11, 21, 26)
EXTRACTED, LATE = SLOT_INDEX[35], SLOT_INDEX[26]  # T1 only and T2 only, in every second case
SPLITS = ("train", "test", "val", "test", "train", "test")
SHIFT_MM = 1.25
SETTINGS = Validate(batch_cases=2, threads=1, device="cpu")


def small_latents(
    path: Path, splits: tuple[str, ...] = SPLITS, encoder: str = ENCODER, t1_only: str = ""
) -> Path:
    """Teeth on a line, each shifted by SHIFT_MM (three times that in test); a latent is the point.

    t1_only : a split whose cases have no tooth at T2
    """
    rng = np.random.default_rng(1)
    with mouth_store.create(path, Layout(POINTS, FEATURES), {"encoder_sha256": encoder}) as writer:
        for number, split in enumerate(splits):
            row: Row = {"case_id": f"case-{number}", "split": split}
            row |= {"fdi": np.zeros(32, np.uint8), "dropped": np.zeros(32, bool)}
            row["points"] = np.zeros((32, POINTS, 3), np.float32)
            for stage_ in ("t1", "t2"):
                row[f"{stage_}/mask"] = np.zeros(32, bool)
                row[f"{stage_}/pose"] = np.broadcast_to(np.eye(4), (32, 4, 4)).copy()
                row[f"{stage_}/latents"] = np.zeros((32, POINTS, FEATURES), np.float16)
            for fdi in TEETH:
                slot = SLOT_INDEX[fdi]
                row["points"][slot] = directions(POINTS) * rng.uniform(3, 4, 3)
                for stage_ in ("t1", "t2"):
                    missing = EXTRACTED if stage_ == "t2" else LATE
                    if (number % 2 and slot == missing) or (split == t1_only and stage_ == "t2"):
                        continue
                    shift = SHIFT_MM * (stage_ == "t2") * (3 if split == "test" else 1)
                    pose = np.eye(4)
                    pose[:3, 3] = [7.0 * (slot % 16) - 50, shift, 20.0 * (slot // 16)]
                    row[f"{stage_}/mask"][slot], row[f"{stage_}/pose"][slot] = True, pose
                    row[f"{stage_}/latents"][slot, :, :3] = rigid.apply(pose, row["points"][slot])
            writer.append(row)
    return path


def small_encoder(folder: Path) -> str:
    """An untrained encoder.pt for such latents; returns its SHA-256."""
    torch.manual_seed(0)
    weights.save(folder / "encoder.pt", Encoder(EncoderConfig(POINTS, 4, 3, 6, FEATURES)))
    return weights.file_sha256(folder / "encoder.pt")


def small_models(folder: Path, encoder: str = ENCODER) -> tuple[Path, Path]:
    """A decoder that hands the latent's first three numbers on, and an alignment model that moves nothing."""
    decoder = Decoder(DecoderConfig(FEATURES, 8))
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        decoder.straight.weight[:, :3] = torch.eye(3)
    weights.save(folder / "decoder.pt", decoder)
    width = POINTS * FEATURES
    basis = torch.linalg.qr(torch.randn(32, width, 5, generator=torch.Generator().manual_seed(0)))[0]
    network = {"hidden": 8, "blocks": 1, "dropout": 0.0}
    torch.manual_seed(0)
    model = fc_model.build(
        LatentBasis(torch.zeros(32, width), basis, torch.ones(32, 5)),
        network,
        (POINTS, FEATURES),
        encoder,
        weights.file_sha256(folder / "decoder.pt"),
    )
    registry.save(folder / "alignment.pt", model)
    return folder / "decoder.pt", folder / "alignment.pt"


@pytest.fixture
def found(tmp_path: Path) -> Validation:
    return validate(small_latents(tmp_path / "l.h5"), *small_models(tmp_path), SETTINGS)


def test_an_alignment_model_that_moves_nothing_is_as_good_as_no_movement(found: Validation) -> None:
    for method in ("model", "identity"):
        assert found.metrics[method]["add_mm"] == pytest.approx(3 * SHIFT_MM, abs=0.02)
        assert found.metrics[method]["translation_error_mm"] == pytest.approx(3 * SHIFT_MM, abs=0.02)
        assert found.metrics[method]["pa_add_mm"] == pytest.approx(0, abs=0.03)
    assert found.metrics["mean_motion"]["add_mm"] == pytest.approx(2 * SHIFT_MM, abs=1e-6)
    assert found.metrics["add_vs_identity"] == pytest.approx(1, abs=0.01)
    assert 0 < found.metrics["reconstruction_mm"] < 0.02  # what half precision costs
    assert found.metrics["model"]["decoded_add_mm"] == pytest.approx(3 * SHIFT_MM, abs=0.02)


def test_every_tooth_of_the_test_split_is_counted_once(found: Validation) -> None:
    counts, tests = found.metrics["counts"], SPLITS.count("test")
    assert counts["cases"] == counts["test_cases"] == tests == 3
    assert (counts["train_cases"], counts["val_cases"]) == (2, 1)
    odd = sum(number % 2 for number, split in enumerate(SPLITS) if split == "test")
    assert counts["extracted_teeth"] == odd == 3
    assert counts["teeth"] == len(found.slot) == tests * len(TEETH) - 2 * odd
    # 36-33 33-31 31-41, 13-11 11-21: beside the tooth that comes late there is no pair
    assert counts["pairs"] == 5 * tests
    assert all(len(v) == counts["teeth"] for figures in found.figures.values() for v in figures.values())


def test_predicted_poses_are_exactly_rigid(tmp_path: Path) -> None:
    decoder, model = small_models(tmp_path)
    content = weights.read(decoder)
    wild = Decoder(DecoderConfig(**content["config"]))
    weights.save(decoder, wild)  # random weights: what it decodes is no tooth
    trained = registry.load(model)
    trained.config = replace(trained.config, decoder_sha256=weights.file_sha256(decoder))
    registry.save(model, trained)
    found = validate(small_latents(tmp_path / "l.h5"), decoder, model, SETTINGS)
    rotation = found.predicted[found.case, found.slot][:, :3, :3]
    assert rotation @ np.swapaxes(rotation, 1, 2) == pytest.approx(np.broadcast_to(np.eye(3), rotation.shape))
    assert np.linalg.det(rotation) == pytest.approx(np.ones(len(rotation)))
    assert (found.predicted[:, :, 3] == [0, 0, 0, 1]).all()
    assert found.metrics["model"]["rigidity_residual_mm"] > 0.1


def test_the_batch_size_changes_no_figure(tmp_path: Path, found: Validation) -> None:
    one = Validate(batch_cases=1, threads=1, device="cpu")
    again = validate(tmp_path / "l.h5", tmp_path / "decoder.pt", tmp_path / "alignment.pt", one)
    assert again.metrics["counts"] == found.metrics["counts"]
    assert again.metrics["model"] == pytest.approx(found.metrics["model"], rel=1e-4, abs=1e-4)
    assert again.figures["identity"]["add_mm"].tolist() == found.figures["identity"]["add_mm"].tolist()


def test_an_alignment_model_of_another_encoder_is_refused(tmp_path: Path) -> None:
    models = small_models(tmp_path, encoder="f" * 64)
    with pytest.raises(DentalignError, match=r"trained on latents of encoder ffffff.* was encoded by eeeeee"):
        validate(small_latents(tmp_path / "l.h5"), *models, SETTINGS)


def test_an_alignment_model_trained_through_another_decoder_is_refused(tmp_path: Path) -> None:
    decoder, model = small_models(tmp_path)
    content = torch.load(decoder, weights_only=True)
    weights.save(decoder, Decoder(DecoderConfig(**content["config"])))
    with pytest.raises(DentalignError, match=r"alignment.pt: trained through decoder .*decoder.pt is"):
        validate(small_latents(tmp_path / "l.h5"), decoder, model, SETTINGS)


def test_test_cases_without_a_tooth_at_both_stages_are_nothing_to_validate_on(tmp_path: Path) -> None:
    latents = small_latents(tmp_path / "l.h5", t1_only="test")
    with pytest.raises(NothingUsable, match="no test case has a tooth at both T1 and T2"):
        validate(latents, *small_models(tmp_path), SETTINGS)


def test_without_test_cases_there_is_nothing_to_validate(tmp_path: Path) -> None:
    latents = small_latents(tmp_path / "l.h5", ("train", "val"))
    with pytest.raises(NothingUsable, match="no case in the test split"):
        validate(latents, *small_models(tmp_path), SETTINGS)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    decoder, path = small_models(tmp_path)
    model = registry.load(path)
    assert isinstance(model, FullyConnectedModel)
    model.network.mean.fill_(float("nan"))
    registry.save(path, model)
    with pytest.raises(DentalignError, match="not finite"):
        validate(small_latents(tmp_path / "l.h5"), decoder, path, SETTINGS)


def test_the_lineage_names_what_went_in(found: Validation, tmp_path: Path) -> None:
    assert found.lineage["latents_sha256"] == weights.file_sha256(tmp_path / "l.h5")
    assert found.lineage["encoder_sha256"] == ENCODER


def test_the_stage_writes_the_same_bytes_twice_and_removes_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    encoder = small_encoder(tmp_path)
    small_latents(tmp_path / "l.h5", encoder=encoder)
    small_models(tmp_path, encoder)
    params = (
        "validate: {batch_cases: 2, threads: 1, device: cpu}\ntrain: {}\n"
        "encoder: {weights: encoder.pt}\ndecoder: {weights: decoder.pt}\n"
    )
    (tmp_path / "params.yaml").write_text(params)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "old.txt").write_text("of an earlier run")
    (tmp_path / ".report.12345.part").mkdir()  # of a run that was killed
    monkeypatch.setattr(
        stage, "write_pictures", lambda folder, *_: folder.mkdir()
    )  # they have a test of their own
    written = []
    for _ in range(2):
        stage.main(
            Path("l.h5"),
            Path("alignment.pt"),
            Path("log"),
            Path("left_out.csv"),
            Path("m/v.json"),
            Path("report"),
            Path("params.yaml"),
        )
        files = [path for part in ("m", "report") for path in sorted(Path(part).rglob("*")) if path.is_file()]
        written.append({str(path): path.read_bytes() for path in files})
    assert written[0] == written[1]
    assert not list(tmp_path.glob(".report.*"))
    names = {
        "m/v.json",
        *(f"report/{n}" for n in ("accuracy.csv", "cases.csv", "per_slot.csv", "lineage.json", "index.html")),
        *(f"report/model_cards/{n}.md" for n in ("encoder", "decoder", "alignment")),
    }
    assert set(written[0]) == names
    table = CliRunner().invoke(cli.app, ["metrics", "m/v.json"])
    assert table.exit_code == 0
    assert table.output.rstrip("\n") == tables.format_table(json.loads(written[0]["m/v.json"]))


def test_the_tables_hold_every_slot_and_every_case(found: Validation, tmp_path: Path) -> None:
    tables.write_tables(tmp_path, found)

    def read(name: str) -> list[dict[str, str]]:
        with open(tmp_path / name, newline="") as file:
            return list(csv.DictReader(file))

    slots, cases, shares = read("per_slot.csv"), read("cases.csv"), read("accuracy.csv")
    assert [int(row["slot"]) for row in slots] == [fdi for fdi in SLOTS if fdi in (set(TEETH) - {35, 26})]
    assert (
        sum(int(row["teeth"]) for row in slots) == sum(int(row["teeth"]) for row in cases) == len(found.slot)
    )
    assert [row["case_id"] for row in cases] == ["case-1", "case-3", "case-5"]
    assert len(shares) == 101
    assert set(shares[0]) == {"threshold_mm", *METHODS}
    assert all(int(row["worst_tooth"]) in TEETH for row in cases)


def test_a_file_that_holds_no_metrics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DentalignError, match="no such file"):
        tables.read(tmp_path / "none.json")
    (tmp_path / "x.json").write_text('{"model": 3}')
    with pytest.raises(DentalignError, match="not the metrics of validate"):
        tables.read(tmp_path / "x.json")


def test_the_store_is_left_as_it_was(found: Validation, tmp_path: Path) -> None:
    with MouthStore(tmp_path / "l.h5") as store:
        assert [store.case_ids[row] for row in found.rows] == found.case_ids
