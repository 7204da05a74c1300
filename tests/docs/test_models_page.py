"""The Python of docs/models.md, run as it stands there by a newcomer with models and a case, nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pipeline_project import FDIS, Project
from tests.support.repository import ROOT

PAGE = ROOT / "docs" / "models.md"
CASE = "own-001"


@pytest.fixture
def folder(finished_project: Project, tmp_path: Path) -> Path:
    """models/, 1623.json and crowns/, as the page has them."""
    shutil.copytree(finished_project.root / "models", tmp_path / "models")
    cases = finished_project.root / "cases"
    document = json.loads((cases / "json" / f"{CASE}.json").read_text(encoding="utf-8"))
    (tmp_path / "1623.json").write_text(json.dumps(document | {"CaseID": "1623"}), encoding="utf-8")
    shutil.copytree(cases / "stl" / CASE, tmp_path / "crowns")
    return tmp_path


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def run(folder: Path, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, text=True, check=False,
        env=environment | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_example_with_each_model_in_hand_runs_and_moves_every_tooth(folder: Path) -> None:
    said = run(folder, "-W", "error", "-c", blocks()[0])
    assert float(re.findall(r"reconstruction ([\d.]+) mm", said)[0]) < 0.5
    moved = {int(fdi): float(mm) for fdi, mm in re.findall(r"tooth (\d+) moves ([\d.]+) mm", said)}
    assert set(moved) == set(FDIS)
    assert all(0 <= mm < 10 for mm in moved.values())
    assert any(mm > 0 for mm in moved.values())


@pytest.mark.long
def test_the_example_without_torch_gives_the_same_poses(folder: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="needs the extra `export`: make test-all installs it")
    run(folder, "-m", "dentalign.cli", "export")
    said = run(folder, "-c", "\n".join(blocks()))
    assert float(re.findall(r"largest difference from torch (\S+) mm", said)[0]) < 1e-3
