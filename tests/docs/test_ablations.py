"""`benchmarks/ablations.py`: what it leaves away is really there, and comes back."""

from pathlib import Path

import ablations
import pytest
import yaml
from ablations import ROOT, Edit, Row, edited

from dentalign.alignment.attention.training import AttentionTraining
from dentalign.alignment.fc.training import FullyConnectedTraining

CHANGES = [row for rows in ablations.ROWS.values() for row in rows if row.edits]
SETTINGS = [
    (model, setting) for model, rows in ablations.ROWS.items() for row in rows for setting in row.settings
]


@pytest.mark.parametrize("row", CHANGES, ids=lambda row: row.name)
def test_each_change_finds_its_place_and_is_python(row: Row) -> None:
    files = {edit.file for edit in row.edits}
    before = {file: (ROOT / file).read_bytes() for file in files}
    for edit in row.edits:  # not `edited`: other tests run on these files at the same time
        assert before[edit.file].decode().count(edit.old) == 1, edit
        compile(before[edit.file].decode().replace(edit.old, edit.new), edit.file, "exec")


def test_what_was_changed_is_put_back_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablations, "ROOT", tmp_path)
    file = tmp_path / "code.py"
    file.write_text("a = 1\n")
    during = []

    def interrupted() -> None:
        with edited((Edit("code.py", "a = 1", "a = 2"),)):
            during.append(file.read_text())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert during == ["a = 2\n"]
    assert file.read_text() == "a = 1\n"


@pytest.mark.parametrize(("model", "setting"), SETTINGS)
def test_each_parameter_is_one_of_the_model(model: str, setting: str) -> None:
    training = FullyConnectedTraining if model == "fc" else AttentionTraining
    name, _, value = setting.partition("=")
    section, _, inner = name.partition(".")
    training.model_validate({section: {inner: yaml.safe_load(value)} if inner else yaml.safe_load(value)})


def test_an_experiment_that_was_killed_does_not_pass_for_done(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Experiment,State,model.add_mm\nfc-base-500-0,,1.0\nfc-no-jitter-500-0,Running,1.0\n"
    monkeypatch.setattr(ablations, "dvc", lambda *_: said)
    assert list(ablations.shown()) == ["fc-base-500-0"]
