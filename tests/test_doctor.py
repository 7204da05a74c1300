"""`dentalign doctor`: what is missing or slow is said with its fix."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dentalign import cli, doctor
from dentalign.prediction import model_sets


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_sets, "STARTER", tmp_path / "starter")
    return tmp_path


def test_a_folder_without_models_is_missing_them_and_everything_slow_has_a_fix(place: Path) -> None:
    done = CliRunner().invoke(cli.app, ["doctor"])
    assert done.exit_code == 1, done.output
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in done.stdout.splitlines()}
    assert {"dentalign", "processor", "torch", "GPU", "git", "DVC", "models", "extras"} <= rows.keys()
    assert rows["models"][1] == "missing" and "dvc repro" in rows["models"][2]
    assert all(fix for _, verdict, fix in rows.values() if verdict in ("slow", "missing"))
    (place / "starter").mkdir()
    for name in model_sets.FILES:
        (place / "starter" / name).touch()
    assert next(one for one in doctor.examine() if one.what == "models").verdict == "good"


def test_a_full_disk_and_a_cache_of_copies_are_slow(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.fs import generic

    (place / ".dvc").mkdir()
    (place / ".dvc" / "config").write_text("[core]\n    no_scm = True\n", encoding="utf-8")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: type("Usage", (), {"free": 1e9}))
    monkeypatch.setattr(generic, "test_links", lambda *places: ["hardlink"])
    found = {one.what: one for one in doctor.examine()}
    disk = found["disk, working folder"]
    assert disk.verdict == "slow" and "1 GB free" in disk.found
    assert found["cache links"].verdict == "slow" and "reflinks" in found["cache links"].fix
