"""Paths of the user's own that a shell would take apart: no command of dvc.yaml holds one."""

import re
import shutil

import pytest
import yaml

from tests.support.pipeline_project import SHARDS, Project
from tests.support.repository import ROOT
from tests.support.second_machine import hide_the_demo

NAME = "Иван's cases (1) & co; [x] #2 100%20 $HOME"


def own_paths(project: Project) -> None:
    """Move cases and weights to a folder of that name, beside the project."""
    hide_the_demo(project)
    folder = project.root.parent / NAME
    shutil.move(project.root / "cases", folder)
    shutil.copytree(project.root / "models", folder / "models")
    for name, place in (
        ("source.cases", "cases.csv"), ("source.json", "json"), ("source.meshes", "stl"),
        ("autoencoder.cases", "autoencoder.csv"), ("encoder.weights", "models/encoder.pt"),
        ("decoder.weights", "models/decoder.pt"),
    ):  # fmt: skip
        project.set(name, f"../{NAME}/{place}")


def test_no_command_holds_a_value_of_params_yaml() -> None:
    for file in ("dvc.yaml", "data/dvc.yaml"):
        stages = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["stages"]
        for stage in stages.values():
            assert set(re.findall(r"\$\{.*?\}", stage.get("do", stage)["cmd"])) <= {"${item}"}


def test_dvc_passes_paths_with_any_letters_to_the_stages_that_read_them(project: Project) -> None:
    own_paths(project)
    stages = ["fetch_json", "rigid_transforms", "autoencoder_cases", f"encode_latents_sharded@{SHARDS[0]}"]
    assert project.repro("--single-item", *stages) == sorted(stages)
    lock = yaml.safe_load((project.root / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    paths = {dep["path"] for stage in stages for dep in lock[stage]["deps"]}
    assert {f"../{NAME}/{part}" for part in ("cases.csv", "json", "stl", "autoencoder.csv")} <= paths
    assert f"../{NAME}/models/encoder.pt" in paths


@pytest.mark.long
def test_the_whole_flow_gives_the_same_figures_with_such_paths(project: Project) -> None:
    before = project.hashes("data/latents.h5")
    own_paths(project)
    project.run("dentalign", "check", f"../{NAME}")
    again = ["--out", f"../{NAME}/cases.csv", "--autoencoder-out", f"../{NAME}/autoencoder.csv"]
    project.run("dentalign", "list", f"../{NAME}", *again, "--autoencoder", "4")
    assert {"train_align", "validate"} <= set(project.repro())
    assert project.hashes("data/latents.h5") == before
    assert project.repro() == []
