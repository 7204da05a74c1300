"""Which models `predict` takes, what `dentalign models` lists, and what a model card is trusted about."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dentalign import cli
from dentalign.errors import DentalignError
from dentalign.files.hashing import sha256_file
from dentalign.prediction import model_sets
from tests.support.small_models import write_card, write_models


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; no starter weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_sets, "STARTER", tmp_path / "package" / "starter")
    return tmp_path


def weights_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in model_sets.FILES:
        (folder / name).write_bytes(f"{folder}{name}".encode())
    return folder


def test_models_trained_here_come_before_the_starter_weights(place: Path) -> None:
    weights_in(model_sets.STARTER)
    assert model_sets.find_models().name == "starter"
    weights_in(place / "models")
    assert model_sets.find_models().name == "models"
    assert [one.name for one in model_sets.available()] == ["models", "starter"]


def test_a_name_is_a_set_of_the_list_and_a_text_with_a_slash_is_a_folder(place: Path) -> None:
    weights_in(model_sets.STARTER)
    weights_in(place / "models" / "clinic-b")
    weights_in(place / "mine")
    assert model_sets.find_models("starter").folder == model_sets.STARTER
    assert model_sets.find_models("mine").folder == Path("mine")
    assert model_sets.find_models("./none").folder == Path("none")
    assert "models/clinic-b" in [one.name for one in model_sets.available()]
    with pytest.raises(DentalignError, match=r"no such models; there are: models/clinic-b, starter"):
        model_sets.find_models("stater")


def test_a_card_of_other_weights_is_refused(place: Path) -> None:
    folder = weights_in(place / "mine")
    write_card(folder)
    assert "4,000 made-up cases" in str(model_sets.find_models("mine"))
    (folder / "alignment.pt").write_bytes(b"trained anew")
    with pytest.raises(DentalignError, match=r"card\.json: is about alignment\.pt"):
        str(model_sets.find_models("mine"))


def test_the_list_has_training_cases_figures_licence_and_hashes(place: Path) -> None:
    write_card(write_models(model_sets.STARTER))
    write_models(place / "models")
    (place / "metrics").mkdir()
    metrics = {"model": {"add_mm": 1.5}, "identity": {"add_mm": 2.5}}
    (place / "metrics" / "validation.json").write_text(json.dumps(metrics), encoding="utf-8")
    done = CliRunner().invoke(cli.app, ["models"])
    assert done.exit_code == 0, done.output
    head, own, starter = (line.split("\t") for line in done.stdout.splitlines())
    assert head[:5] == ["name", "model", "trained on", "figures", "licence"]
    assert own[:5] == ["models", "attention", "unknown", "add_mm model 1.5, add_mm identity 2.5", "your own"]
    assert starter[:5] == ["starter", "attention", "4,000 made-up cases", "add_mm 1.2", "Apache-2.0"]
    assert starter[5:] == [sha256_file(model_sets.STARTER / name) for name in model_sets.FILES]


def test_the_version_names_torch_and_the_models_that_predict_takes(place: Path) -> None:
    said = CliRunner().invoke(cli.app, ["--version"]).stdout
    assert "\ntorch 2." in said and "models none" in said
    write_card(weights_in(model_sets.STARTER))
    said = CliRunner().invoke(cli.app, ["--version"]).stdout
    assert f"models starter (alignment.pt {sha256_file(model_sets.STARTER / 'alignment.pt')[:12]}" in said
