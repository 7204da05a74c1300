"""Wheel and sdist, and the command `dentalign` of an installed wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dentalign.cases.settings import Sample
from dentalign.prediction.batch import predict_cases
from dentalign.prediction.files import OutputOptions
from dentalign.prediction.predictor import Predictor
from tests.support.pipeline_project import FDIS, Project
from tests.support.repository import ROOT

CASE = "own-001"


def run(*words: str | Path, cwd: Path) -> str:
    """Run a command without the repository on its path; returns its output."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "DVC_ROOT", "VIRTUAL_ENV") and not name.startswith("COVERAGE")
    }
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, text=True, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the sdist and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Virtual environment with the wheel; it borrows all other packages, not this repository."""
    folder = tmp_path_factory.mktemp("environment") / "env"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=dist)
    (wheel,) = dist.glob("*.whl")
    run(sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet", "--no-deps",
        "--no-index", "--disable-pip-version-check", wheel, cwd=dist)  # fmt: skip
    borrowed = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text("\n".join(borrowed), encoding="utf-8")
    return folder / "bin"


def test_the_sdist_builds_the_same_wheel_as_the_tree(dist: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (of_tree,), (of_sdist,) = tmp_path.glob("*.whl"), dist.glob("*.whl")
    assert of_tree.name == of_sdist.name
    assert of_tree.read_bytes() == of_sdist.read_bytes()


def test_the_wheel_holds_the_package_whole_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if not name.split("/")[0].endswith(".dist-info")}
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "dentalign").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == package
    assert "dentalign/reports/assets/three/three.min.js" in names


def test_the_installed_command_predicts_with_nothing_but_the_models(
    installed: Path, finished_project: Project, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    where = run(installed / "python", "-c", "import dentalign; print(dentalign.__file__)", cwd=empty)
    assert Path(where.strip()).is_relative_to(installed.parent)
    cases, models = finished_project.root / "cases", finished_project.root / "models"
    run(installed / "dentalign", "predict", "--case", cases / "json" / f"{CASE}.json", "--meshes",
        cases / "stl", "--models", models, "--out", "out", "--device", "cpu", cwd=empty)  # fmt: skip
    assert {path.name for path in empty.iterdir()} == {"out"}
    assert (empty / "out" / "report" / f"{CASE}.html").stat().st_size > 100_000
    movement = (empty / "out" / "movement" / f"{CASE}.csv").read_text(encoding="utf-8").splitlines()
    assert len(movement) == 1 + len(FDIS)

    here = Predictor(models, device="cpu", sample=Sample(points=32))
    predict_cases(
        cases / "json" / f"{CASE}.json", cases / "stl", tmp_path / "here", here, OutputOptions(looks=False)
    )
    written = (empty / "out" / "json" / f"{CASE}.json").read_bytes()
    assert written == (tmp_path / "here" / "json" / f"{CASE}.json").read_bytes()
