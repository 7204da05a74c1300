"""Models as DVC artifacts: from a release of this repository into another one, and into a bare folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import dentalign
from tests.support.pipeline_project import Project
from tests.support.repository import ROOT

MODELS = ("encoder", "decoder", "alignment")
VERSION = "v0.1.0"

# What a program of one's own does with the files; nothing but the installed package is there.
USE = """
import sys, torch, dentalign
from pathlib import Path
encoder = dentalign.load_encoder("encoder.pt")
decoder = dentalign.load_decoder("decoder.pt")
alignment_model = dentalign.load_alignment_model("alignment.pt")
points = torch.tensor([20.0, -30.0, 5.0]) + 4 * torch.nn.functional.normalize(
    torch.randn(3, encoder.config.points, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
with torch.inference_mode():
    back = decoder(encoder(points))
assert back.shape == points.shape, back.shape
assert torch.isfinite(back).all()
print(f"{alignment_model.config.model} {(back - points).norm(dim=-1).mean():.2f} mm")
"""


@pytest.fixture(scope="module")
def released(finished_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Project with its models in a remote, a tag for each, and without its own cache."""
    folder = tmp_path_factory.mktemp("released")
    project = finished_project.copy(folder / "project")
    project.dvc("remote", "add", "--default", "store", str(folder / "remote"))
    project.commit()
    project.dvc("push", *(f"models/{name}.pt" for name in MODELS))
    for name in MODELS:
        project.run(
            "git", "tag", "--annotate", f"{name}@{VERSION}", "--message", f"{name} of the first training"
        )
    shutil.rmtree(project.root / ".dvc" / "cache")
    return project


@pytest.fixture(scope="module")
def other(released: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Another team's repository, which has fetched each model in one of the three ways."""
    project = Project(tmp_path_factory.mktemp("team") / "other")
    project.root.mkdir()
    del project.environment["PYTHONPATH"]
    project.run("git", "init", "--quiet")
    for name, value in (("user.name", "Test"), ("user.email", "test@example.org")):
        project.run("git", "config", name, value)
    project.dvc("init", "--quiet")
    ours = str(released.root)
    project.dvc("artifacts", "get", ours, "encoder", "--rev", VERSION)
    project.dvc("get", ours, "models/decoder.pt", "--rev", f"decoder@{VERSION}")
    project.dvc("import", ours, "models/alignment.pt", "--rev", f"alignment@{VERSION}")
    return project


def fresh(folder: Path, code: str) -> str:
    """Run code in a new process in a folder, with nothing but the package."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DVC_ROOT")
    }
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=folder, env=environment, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_every_model_is_declared_with_type_description_labels_and_how_to_load_it() -> None:
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    assert set(pipeline["artifacts"]) == set(MODELS)
    for name, artifact in pipeline["artifacts"].items():
        assert artifact["path"] == f"models/{name}.pt"
        assert artifact["type"] == "model"
        assert artifact["desc"]
        assert "mm" in artifact["desc"]
        assert artifact["labels"]
        assert artifact["meta"]["load"].removesuffix("_model") == f"dentalign.load_{name}"
        assert callable(getattr(dentalign, artifact["meta"]["load"].partition(".")[2]))
        assert artifact["meta"]["card"] == f"reports/validation/model_cards/{name}.md"


def test_dvc_takes_the_declarations_as_they_are_meant(finished_project: Project) -> None:
    code = (
        "from dvc.repo import Repo; found = Repo('.').artifacts.read()['dvc.yaml']; "
        "print(*(f'{n}:{a.path}:{a.type}:{len(a.labels)}:{a.meta[\"load\"]}' for n, a in found.items()))"
    )
    said = finished_project.run(sys.executable, "-c", code).stdout
    assert said.split() == [
        "encoder:models/encoder.pt:model:3:dentalign.load_encoder",
        "decoder:models/decoder.pt:model:3:dentalign.load_decoder",
        "alignment:models/alignment.pt:model:2:dentalign.load_alignment_model",
    ]


def test_each_way_of_fetching_a_release_gives_the_released_bytes(released: Project, other: Project) -> None:
    assert not (released.root / ".dvc" / "cache").exists()  # they came from the remote
    for name in MODELS:
        wanted = (released.root / "models" / f"{name}.pt").read_bytes()
        assert next(other.root.rglob(f"{name}.pt")).read_bytes() == wanted


def test_what_was_fetched_works_with_no_repository_around(other: Project, tmp_path: Path) -> None:
    for name in MODELS:
        shutil.copy(next(other.root.rglob(f"{name}.pt")), tmp_path)
    assert fresh(tmp_path, USE).startswith("fc ")


def test_a_version_that_was_never_released_is_refused(
    released: Project, other: Project, tmp_path: Path
) -> None:
    done = other.dvc("artifacts", "get", str(released.root), "encoder", "--rev", "v9.9.9",
                     "--out", str(tmp_path / "encoder.pt"), check=False)  # fmt: skip
    assert done.returncode != 0
    assert "encoder" in done.stdout
    assert not list(tmp_path.iterdir())


def test_an_imported_model_knows_its_release_and_is_pulled_again(released: Project, other: Project) -> None:
    (dependency,) = yaml.safe_load((other.root / "alignment.pt.dvc").read_text())["deps"]
    assert dependency["repo"]["rev"] == f"alignment@{VERSION}"
    assert len(dependency["repo"]["rev_lock"]) == 40
    (other.root / "alignment.pt").unlink()
    shutil.rmtree(other.root / ".dvc" / "cache")
    other.dvc("pull")
    wanted = (released.root / "models" / "alignment.pt").read_bytes()
    assert (other.root / "alignment.pt").read_bytes() == wanted
