"""Folders whose names are no text, or not that of the locale: read, and named in valid UTF-8."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dentalign.cases import fetch, rigid_transforms
from dentalign.cases.settings import Fetch, Limits
from dentalign.demo_clinic.clinic import make_clinic
from tests.support.public_sets import elsewhere, mouth, teeth3ds
from tests.support.repository import ROOT

NAMES = (b"no \xff text", "Пациенты (1) & co's".encode())
LOCALES = (
    {"LC_ALL": "C"},
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Case store with a good case, one that is no JSON, and one without a mesh."""
    folder = tmp_path_factory.mktemp("clinic") / "store"
    make_clinic(folder, cases=2, seed=3)
    for file in (folder / "json").iterdir():
        if file.stem not in ("demo-0001", "demo-0003", "demo-0006"):
            file.unlink()
    return folder


def named(folder: Path, name: bytes) -> Path:
    return folder / os.fsdecode(name)


def shown(name: bytes) -> str:
    return os.fsdecode(name).encode("utf-8", "backslashreplace").decode("utf-8")


def dentalign(folder: Path, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    own = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(
        [sys.executable, "-m", "dentalign", *words], cwd=folder, env=own, check=False, capture_output=True
    )


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("name", NAMES)
def test_check_and_list_read_a_store_of_any_name(
    clinic: Path, tmp_path: Path, name: bytes, locale: dict[str, str]
) -> None:
    store = named(tmp_path, name)
    shutil.copytree(clinic, store)
    done = dentalign(tmp_path, "check", store, "--out", "out.csv", **locale)
    assert b"3 cases listed = 2 used + 1 excluded" in done.stderr
    assert done.returncode == 1
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as table:
        files = [row["file"] for row in csv.DictReader(table)]
    assert len(files) == 2
    if "PYTHONUTF8" not in locale:  # else every letter of it is spelt as bytes
        assert all(file.startswith(f"{tmp_path}/{shown(name)}/") for file in files)
    assert dentalign(tmp_path, "list", store, "--out", "cases.csv", **locale).returncode == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_stages_that_read_cases_take_folders_of_any_name(
    clinic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    project = named(tmp_path, name)
    shutil.copytree(clinic, project)
    monkeypatch.chdir(project)
    monkeypatch.setenv("DVC_ROOT", str(project))
    done = fetch.fetch_cases(
        project / "cases.csv", str(project / "json"), out=project / "fetched", cases_out=project / "had.csv",
        left_out=project / "left_out.json", fetch=Fetch(max_failed_share=1.0), limits=Limits(),
    )  # fmt: skip
    assert done.cases == 2
    _, lines = rigid_transforms.read_listed(project / "left_out.json")
    (broken,) = [line for line in lines if line.code == "not_json"]
    assert broken.file == f"{tmp_path}/{shown(name)}/json/demo-0003.json"


@pytest.mark.parametrize("name", NAMES)
def test_import_takes_folders_of_any_name_and_lists_a_patient_s_that_can_be_no_id(
    tmp_path: Path, name: bytes
) -> None:
    source, dest = named(tmp_path, name), named(tmp_path, b"to " + name)
    teeth3ds(source, "P01", mouth(1, elsewhere(1)), "lower")
    shutil.copytree(source / "P01", source / os.fsdecode(b"Q\xfe"))
    for suffix in (".obj", ".json"):
        (source / os.fsdecode(b"Q\xfe") / f"P01_lower{suffix}").rename(
            source / os.fsdecode(b"Q\xfe") / os.fsdecode(b"Q\xfe_lower" + suffix.encode())
        )
    done = dentalign(tmp_path, "import", "teeth3ds", source, dest, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert b"1 imported + 0 there already + 1 left out" in done.stderr
    with open(dest / "left_out.csv", encoding="utf-8", newline="") as table:
        (row,) = csv.DictReader(table)
    assert row["code"] == "bad_case_id"
    assert row["file"].endswith(f"{shown(name)}/Q\\udcfe/Q\\udcfe_lower")
    (dest / "import.txt").read_text(encoding="utf-8")
