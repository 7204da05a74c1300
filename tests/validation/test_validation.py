"""Validation of a small made-up set whose figures are known, by our own classes throughout."""

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
from dentalign.alignment.base import AlignmentModel, PredictedT2
from dentalign.alignment.conditions import Conditions
from dentalign.alignment.fc.model import FullyConnectedModel
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout, MouthStore
from dentalign.errors import DentalignError, NothingUsable
from dentalign.files import weights
from dentalign.files.hashing import sha256_file
from dentalign.mouth import Mouths
from dentalign.teeth import SLOTS
from dentalign.validation import measurement
from dentalign.validation.as_published import AS_PUBLISHED
from dentalign.validation.measurement import METHODS, Validate, Validation, validate
from dentalign.validation.report import tables
from tests.alignment.attention.test_attention_model import random_model
from tests.support.report_validation import (
    ENCODER,
    SETTINGS,
    SHIFT_MM,
    SPLITS,
    TEETH,
    small_encoder,
    small_latents,
    small_models,
)


@pytest.fixture
def found(tmp_path: Path) -> Validation:
    return validate(small_latents(tmp_path / "l.h5"), *small_models(tmp_path), SETTINGS)


def test_an_alignment_model_that_moves_nothing_is_as_good_as_no_movement(found: Validation) -> None:
    for method in ("model", "identity"):
        assert found.metrics[method]["add_mm"] == pytest.approx(3 * SHIFT_MM, abs=0.02)
        assert found.metrics[method]["translation_error_mm"] == pytest.approx(3 * SHIFT_MM, abs=0.02)
        assert found.metrics[method]["pa_add_mm"] == pytest.approx(0, abs=0.03)
    assert found.metrics["mean_motion"]["add_mm"] == pytest.approx(2 * SHIFT_MM, abs=1e-6)
    assert found.metrics["mean_motion"]["translation_gain"] == pytest.approx(1 / 3, abs=1e-6)
    assert found.metrics["mean_motion"]["better_than_identity_share"] == 1
    assert found.metrics["arch_motion"]["add_mm"] == pytest.approx(0, abs=1e-5)  # all move alike
    assert (
        found.metrics["identity"]["translation_ratio"] == found.metrics["identity"]["translation_gain"] == 0
    )
    assert "rotation_ratio" not in found.metrics["model"]  # no rotation is planned
    assert found.metrics["add_vs_identity"] == pytest.approx(1, abs=0.01)
    assert 0 < found.metrics["reconstruction_mm"] < 0.02  # what half precision costs
    assert found.metrics["model"]["decoded_add_mm"] == pytest.approx(3 * SHIFT_MM, abs=0.02)


def test_every_tooth_of_the_test_split_is_counted_once(found: Validation) -> None:
    counts, tests = found.metrics["counts"], SPLITS.count("test")
    assert counts["cases"] == counts["test_cases"] == tests == 3
    assert (counts["train_cases"], counts["val_cases"]) == (2, 1)
    odd = sum(number % 2 for number, split in enumerate(SPLITS) if split == "test")
    assert counts["extracted_teeth"] == odd == 3
    assert counts["teeth"] == int(found.measured.sum()) == tests * len(TEETH) - 2 * odd
    # 36-33 33-31 31-41, 13-11 11-21: beside the tooth that comes late there is no pair
    assert counts["pairs"] == 5 * tests
    for method in METHODS:
        for values in found.figures[method].values():
            assert (np.isfinite(values) == found.measured).all()


def test_bounds_and_proposals_of_a_model_are_measured_on_the_same_teeth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = registry.load

    def loaded(path: str | Path) -> AlignmentModel:
        model = load(path)
        plain = model.predict

        def predict(mouths: Mouths, told: Conditions | None = None) -> PredictedT2:
            bound = np.where(np.arange(32) == SLOTS.index(36), np.nan, 3 * SHIFT_MM + 1)
            bound[SLOTS.index(33)] = 1.0
            return replace(plain(mouths, told), add_mm_90=np.tile(bound, (len(mouths), 1)))

        monkeypatch.setattr(model, "predict", predict)
        return model

    def proposed(
        model: AlignmentModel, mouths: Mouths, told: Conditions | None, count: int
    ) -> list[tuple[PredictedT2, np.ndarray]]:
        placed = model.predict(mouths)
        half, full = placed.pose.copy(), placed.pose.copy()
        half[..., 1, 3] += 1.5 * SHIFT_MM
        full[..., 1, 3] += 3 * SHIFT_MM
        there = np.ones(len(mouths), bool)
        return [(placed, there), (PredictedT2(half), there), (PredictedT2(full), there)]

    monkeypatch.setattr(registry, "load", loaded)
    monkeypatch.setattr(measurement, "propose", proposed)
    settings = SETTINGS.model_copy(update={"solver": True})
    found = validate(small_latents(tmp_path / "l.h5"), *small_models(tmp_path), settings)
    model = found.metrics["model"]
    assert model["best_of_3_add_mm"] == pytest.approx(0, abs=0.05)
    cases = SPLITS.count("test")  # each has 36 without a bound and 33 above it
    assert model["add_mm_90_unknown"] == cases
    assert model["add_mm_90_coverage"] == pytest.approx(
        1 - cases / (found.metrics["counts"]["teeth"] - cases)
    )
    assert "add_mm_90_coverage" not in found.metrics["identity"]
    assert found.add_mm_90 is not None
    bound, after = found.add_mm_90[found.measured], found.teeth("solved")
    kept = (after <= bound)[np.isfinite(bound)].mean()
    assert model["solved_add_mm_90_coverage"] == pytest.approx(kept)
    assert "solved_best_of_3_add_mm" not in model


def test_predicted_poses_are_exactly_rigid(tmp_path: Path) -> None:
    decoder, model = small_models(tmp_path)
    content = weights.read(decoder)
    wild = Decoder(DecoderConfig(**content["config"]))
    weights.save(decoder, wild)  # random weights: what it decodes is no tooth
    trained = registry.load(model)
    trained.config = replace(trained.config, decoder_sha256=sha256_file(decoder))
    weights.save(model, trained)
    found = validate(small_latents(tmp_path / "l.h5"), decoder, model, SETTINGS)
    rotation = found.predicted[found.measured][:, :3, :3]
    assert rotation @ np.swapaxes(rotation, 1, 2) == pytest.approx(np.broadcast_to(np.eye(3), rotation.shape))
    assert np.linalg.det(rotation) == pytest.approx(np.ones(len(rotation)))
    assert (found.predicted[:, :, 3] == [0, 0, 0, 1]).all()
    assert found.metrics["model"]["rigidity_residual_mm"] > 0.1


def test_clouds_are_enough_for_a_model_that_reads_no_latents(tmp_path: Path) -> None:
    decoder, _ = small_models(tmp_path)
    weights.save(tmp_path / "attention.pt", random_model())
    latents, clouds = small_latents(tmp_path / "l.h5", encoder="e"), tmp_path / "clouds.h5"
    with (
        MouthStore(latents) as store,
        mouth_store.create(clouds, Layout(store.layout.points), {"encoder_sha256": "e"}) as writer,
    ):
        for row in range(len(store)):
            writer.append(store.mouth(row, latents=False))
    with_latents, without = (
        validate(file, decoder, tmp_path / "attention.pt", SETTINGS).metrics for file in (latents, clouds)
    )
    assert without == {name: value for name, value in with_latents.items() if name != "reconstruction_mm"}


def test_the_batch_size_changes_no_figure(tmp_path: Path, found: Validation) -> None:
    one = Validate(batch_cases=1, threads=1, device="cpu", solver=False)
    again = validate(tmp_path / "l.h5", tmp_path / "decoder.pt", tmp_path / "alignment.pt", one)
    assert again.metrics["counts"] == found.metrics["counts"]
    assert again.metrics["model"] == pytest.approx(found.metrics["model"], rel=1e-4, abs=1e-4)
    assert again.teeth("identity").tolist() == found.teeth("identity").tolist()
    assert again.case_ids == found.case_ids


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
    model.network.output_mean.fill_(float("nan"))
    weights.save(path, model)
    with pytest.raises(DentalignError, match="not finite"):
        validate(small_latents(tmp_path / "l.h5"), decoder, path, SETTINGS)


def test_the_lineage_names_what_went_in(found: Validation, tmp_path: Path) -> None:
    assert found.lineage["latents_sha256"] == sha256_file(tmp_path / "l.h5")
    assert found.lineage["encoder_sha256"] == ENCODER


def test_the_stage_writes_the_same_bytes_twice_and_removes_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    encoder = small_encoder(tmp_path)
    small_latents(tmp_path / "l.h5", encoder=encoder)
    small_models(tmp_path, encoder)
    params = (
        "validate: {batch_cases: 2, threads: 1, device: cpu}\ntrain: {}\nplanning: {}\n"
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
        *(
            f"report/{n}"
            for n in (
                "accuracy.csv",
                "cases.csv",
                "per_slot.csv",
                "reliability.csv",
                "lineage.json",
                "index.html",
            )
        ),
        *(f"report/model_cards/{n}.md" for n in ("encoder", "decoder", "alignment")),
    }
    assert set(written[0]) == names
    table = CliRunner().invoke(cli.app, ["metrics", "m/v.json"])
    assert table.exit_code == 0
    assert table.output.rstrip("\n") == tables.format_table(json.loads(written[0]["m/v.json"]))
    table = CliRunner().invoke(cli.app, ["metrics", "m/v.json", "--as-published"])
    assert table.exit_code == 0
    lines = table.output.splitlines()
    for name, metric in AS_PUBLISHED.items():
        (row,) = (number for number, line in enumerate(lines) if line.startswith(f"{name} "))
        theirs, ours = lines[row : row + 2]
        assert ours.startswith(f"  ours: {metric.ours} ")
        assert len(theirs.split()) == len(ours.split()) - 1 == 1 + len(METHODS)
        assert f"{name}: {metric.wrong}.\n  As in {metric.source}." in table.output


def test_the_tables_hold_every_slot_and_every_case(found: Validation, tmp_path: Path) -> None:
    tables.write_tables(tmp_path, found)

    def read(name: str) -> list[dict[str, str]]:
        with open(tmp_path / name, newline="") as file:
            return list(csv.DictReader(file))

    slots, cases, shares = read("per_slot.csv"), read("cases.csv"), read("accuracy.csv")
    assert [int(row["slot"]) for row in slots] == [fdi for fdi in SLOTS if fdi in (set(TEETH) - {35, 26})]
    assert (
        sum(int(row["teeth"]) for row in slots)
        == sum(int(row["teeth"]) for row in cases)
        == found.measured.sum()
    )
    assert [row["case_id"] for row in cases] == ["case-1", "case-3", "case-5"]
    assert len(shares) == 101
    assert set(shares[0]) == {"threshold_mm", *METHODS}
    for number, row in enumerate(cases):
        add = found.figures["model"]["add_mm"][number]
        assert int(row["worst_tooth"]) == SLOTS[int(np.nanargmax(add))]
        assert float(row["worst_tooth_add_mm"]) == pytest.approx(np.nanmax(add), rel=1e-5)


def test_a_file_that_holds_no_metrics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DentalignError, match="no such file"):
        tables.read(tmp_path / "none.json")
    (tmp_path / "x.json").write_text('{"model": 3}')
    with pytest.raises(DentalignError, match="not a metrics/validation"):
        tables.read(tmp_path / "x.json")
    with pytest.raises(DentalignError, match="no block as_published; `dvc repro` makes them again"):
        tables.format_as_published({"model": {}, "identity": {}})


def test_the_store_is_left_as_it_was(found: Validation, tmp_path: Path) -> None:
    with MouthStore(tmp_path / "l.h5") as store:
        assert [store.case_ids[row] for row in found.rows] == found.case_ids
