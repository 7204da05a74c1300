"""params.yaml as DVC writes it and users edit it; the command `dentalign` beside one that is not ours."""

from pathlib import Path

import pytest

from dentalign import params, settings
from dentalign.alignment.training import Train
from dentalign.cases.settings import Limits
from dentalign.cli import app
from dentalign.errors import ParamError
from dentalign.running import command
from dentalign.settings import Settings
from tests.support.repository import ROOT

FOREIGN = "train:\n  lr: 0.1\n  epochs: 3\n"
CHECK = ("source", "fetch", "limits")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """params.yaml in the working folder, not yet written."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "params.yaml"


def end(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        command.run(app, arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_the_defaults_are_the_values_of_our_params_yaml() -> None:
    assert Settings.model_validate(params.read_document(ROOT / "params.yaml")) == Settings()


def test_without_a_params_yaml_there_are_defaults(file: Path) -> None:
    assert settings.load(None, *CHECK) == Settings()


def test_a_partial_section_is_filled_with_defaults_and_other_sections_are_not_looked_at(file: Path) -> None:
    file.write_text("source:\n  buccal_axis: -y\nlimits:\nvalidate: wrong\n")
    found = settings.load(None, *CHECK)
    assert found.source.buccal_axis == "-y"
    assert found.source.cases == Settings().source.cases
    assert found.limits == Limits()


def test_another_project_s_params_yaml_is_not_used_and_one_line_says_so(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(FOREIGN)
    assert settings.load(None, *CHECK) == Settings()
    assert (
        capsys.readouterr().err
        == "params.yaml: has no section source or fetch or limits; defaults are used\n"
    )
    with pytest.raises(ParamError, match="has no section source or fetch or limits"):
        settings.load(file, *CHECK)


def test_check_and_predict_go_on_beside_another_project_s_params_yaml(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(FOREIGN)
    (file.parent / "store" / "json").mkdir(parents=True)
    (file.parent / "store" / "stl").mkdir()
    assert end("check", "store") == 3
    assert "no case is usable" in capsys.readouterr().err
    words = ("--case", "case.json", "--meshes", "store/stl", "--out", "out", "--models", "./models")
    assert end("predict", *words) == 1
    assert "models/encoder.pt: no such weights file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "limits:\n  max_teeth: 4\n",
            "params.yaml: limits.max_teeth: unknown key; the nearest known one is max_dropped_teeth",
        ),
        ("limits: 5\n", "params.yaml: limits: Input should be a valid dictionary"),
        ("- limits\n", "params.yaml: must be a mapping of sections"),
        (
            "limits:\n  max_dropped_teeth: 4\n  max_dropped_teeth: 32\n",
            "params.yaml: max_dropped_teeth occurs twice, in lines 2 and 3; delete one of them",
        ),
    ],
)
def test_a_wrong_value_in_a_known_section_is_wrong_usage(
    file: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(text)
    (file.parent / "store" / "json").mkdir(parents=True)
    assert end("check", "store") == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


def test_a_section_that_stands_twice_stops_a_stage_too(file: Path) -> None:
    file.write_text("train:\n  seed: 1\nvalidate:\n  threads: 1\ntrain:\n  seed: 2\n")
    with pytest.raises(ParamError, match=r"params\.yaml: train occurs twice, in lines 1 and 5"):
        params.load(file, Train, "train")


@pytest.mark.parametrize("number", ["1e-05", "1.0e-05", "0.00001", "1E-5", "+1e-5"])
def test_a_number_is_a_number_however_dvc_writes_it(file: Path, number: str) -> None:
    file.write_text(f"train:\n  fc:\n    learning_rate: {number}\n")
    assert params.load(file, Train, "train").model_dump()["fc"]["learning_rate"] == 1e-5


@pytest.mark.parametrize("text", ["12e5abc", "e5", "1e", "sha-1e5"])
def test_what_only_looks_like_a_number_stays_text(file: Path, text: str) -> None:
    file.write_text(f"name: {text}\n")
    assert params.read_document(file) == {"name": text}
