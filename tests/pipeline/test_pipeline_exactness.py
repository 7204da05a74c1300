"""`dvc repro` runs what is stale and nothing else: real DVC, on a small project."""

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from dentalign.cases import case_list
from dentalign.geometry import stl
from tests.support.pipeline_project import FDIS, SHARDS, Project, case_of, ran, write_case
from tests.support.repository import ROOT

ENCODE = [f"encode_latents_sharded@{shard}" for shard in SHARDS]
LATENTS = ("train_autoencoder", "concat_hdf5")  # together they need all that is above train_align


def listed(project: Project, name: str = "cases") -> list[str]:
    with open(project.root / "cases" / f"{name}.csv", encoding="utf-8", newline="") as file:
        return [row["case_id"] for row in csv.DictReader(file)]


def ordinary(project: Project, shard: str) -> str:
    """Return a train case of a shard that is not in the autoencoder's list."""
    others = set(listed(project)) - set(listed(project, "autoencoder"))
    train = [case_id for case_id in others if case_list.split_of(case_id) == "train"]
    return min(case_id for case_id in train if case_list.shard_of(case_id, SHARDS) == shard)


def own_weights(project: Project, name: str) -> None:
    """Write weights of the user's own at another path, and name them in params.yaml."""
    content = torch.load(project.root / "models" / f"{name}.pt", weights_only=True)
    state = content["state_dict"]
    key = next(key for key in state if key.endswith("weight"))
    state[key] = state[key] * 1.01
    del content["sha256"]
    torch.save(content, project.root / "cases" / f"{name}.pt")
    project.set(f"{name}.weights", f"cases/{name}.pt")


def test_a_second_run_runs_nothing_whatever_was_edited_beside_the_stages(project: Project) -> None:
    edit(project, *(f"running/{name}.py" for name in ("progress", "locks", "profiling", "command")))
    edit(project, "cli.py", "settings.py", "errors.py", "params.py", "prediction/predictor.py")
    for name in (".reading.py.swp", "reading.py~", ".DS_Store", "__pycache__/reading.pyc"):  # editors' files
        (project.root / "dentalign" / "cases" / name).parent.mkdir(exist_ok=True)
        (project.root / "dentalign" / "cases" / name).touch()
    assert project.repro() == []
    status = json.loads(project.dvc("status", "--json").stdout)
    assert set(status) <= {"data/dvc.yaml:demo_clinic"}  # which was never made here


def test_the_demo_clinic_is_made_where_the_source_points_at_it_and_only_there(project: Project) -> None:
    assert project.repro("--dry", "fetch_json") == []
    for name, value in yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["source"].items():
        project.set(f"source.{name}", value)
    project.set("demo_clinic.cases", 2)
    assert project.repro("fetch_json") == ["demo_clinic", "fetch_json"]


@pytest.mark.slow
def test_own_encoder_weights_encode_everything_again_and_train_no_autoencoder(project: Project) -> None:
    own_weights(project, "encoder")
    assert project.repro() == sorted([*ENCODE, "concat_hdf5", "train_align", "validate"])


def test_own_decoder_weights_train_the_alignment_model_again_and_nothing_above_it(project: Project) -> None:
    own_weights(project, "decoder")
    assert project.repro("--dry") == ["train_align", "validate"]  # each on its own account


def change_a_mesh_and_a_pose(project: Project) -> set[str]:
    """Make a mesh larger, and move a tooth of another shard; returns the shards that become stale."""
    file = project.root / "cases" / "stl" / ordinary(project, SHARDS[1]) / f"{FDIS[0]}.stl"
    triangles = stl.read_triangles(file.read_bytes(), file="", tooth=FDIS[0]) * 1.02
    stl.write_binary(file, triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3))
    assert project.repro("--dry") == ["rigid_transforms"]  # the JSONs are not fetched again
    file = project.root / "cases" / "json" / f"{ordinary(project, SHARDS[2])}.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    for value in document["Staging"][1].values():
        if isinstance(value, dict) and str(FDIS[0]) in value:
            value[str(FDIS[0])]["translation"]["x"] += 0.25
    file.write_text(json.dumps(document), encoding="utf-8")
    return {SHARDS[1], SHARDS[2]}


def add_a_case_and_take_one_out(project: Project) -> set[str]:
    names = (f"new-{number}" for number in range(10_000))
    new = next(name for name in names if case_list.shard_of(name, SHARDS) == SHARDS[0])
    old = ordinary(project, SHARDS[2])
    write_case(project, case_of(77, new))
    file = project.root / "cases" / "cases.csv"
    file.write_text(file.read_text(encoding="utf-8").replace(f"{old}\n", "") + f"{new}\n", encoding="utf-8")
    (project.root / "cases" / "json" / f"{old}.json").unlink()
    shutil.rmtree(project.root / "cases" / "stl" / old)
    return {SHARDS[0], SHARDS[2]}


@pytest.mark.slow
@pytest.mark.parametrize("change", [change_a_mesh_and_a_pose, add_a_case_and_take_one_out])
def test_a_case_that_changes_comes_or_goes_touches_its_own_shard_only(
    project: Project, change: Callable[[Project], set[str]]
) -> None:
    looked_at = ("data/clouds", "data/latents", "data/autoencoder_clouds.h5", "data/latents.h5", "models")
    before = project.hashes(*looked_at)
    shards = change(project)
    own = [f"{stage}@{shard}" for stage in ("sample_clouds", "encode_latents_sharded") for shard in shards]
    shared = ["fetch_json", "rigid_transforms", "autoencoder_cases", "concat_hdf5"]
    assert project.repro(*LATENTS) == sorted([*shared, *own])
    after = project.hashes(*looked_at)
    changed = {name for name in before if before[name] != after[name]}
    files = {f"data/{kind}/{shard}.h5" for kind in ("clouds", "latents") for shard in shards}
    assert changed == files | {"data/latents.h5"}
    assert project.repro("--dry") == ["train_align", "validate"]


def test_a_field_that_is_not_ours_goes_no_further_than_fetch(project: Project) -> None:
    file = project.root / "cases" / "json" / f"{ordinary(project, SHARDS[0])}.json"
    document = json.loads(file.read_text(encoding="utf-8")) | {"Comment": "seen on Monday"}
    file.write_text(json.dumps(document), encoding="utf-8")
    assert project.repro() == ["fetch_json"]


@pytest.mark.slow
def test_an_experiment_with_another_training_runs_the_training_and_the_validation(project: Project) -> None:
    values = ("-S", "train.epochs=2", "-S", "train.fc.learning_rate=0.00001")
    output = project.dvc("exp", "run", "--name", "shorter", *values).stdout
    assert ran(output) == ["train_align", "validate"]
    assert "learning_rate: 1e-05" in (project.root / "params.yaml").read_text(encoding="utf-8")
    assert "shorter" in project.dvc("exp", "show", "--csv").stdout
    assert "model.add_mm" in project.dvc("metrics", "diff").stdout


def edit(project: Project, *files: str) -> None:
    """Change code, but not what it computes."""
    for name in files:
        with open(project.root / "dentalign" / name, "a", encoding="utf-8") as file:
            file.write("# a change\n")


def test_an_edit_beside_the_autoencoder_trains_it_no_more_and_encodes_nothing(project: Project) -> None:
    edit(project, "reports/scene.py", "validation/metrics.py", "prediction/files.py", "geometry/contacts.py")
    ran_again = project.repro(*LATENTS)
    assert not {"train_autoencoder", *ENCODE} & set(ran_again)


def test_an_edit_of_the_encoder_trains_it_and_encodes_everything(project: Project) -> None:
    edit(project, "autoencoder/encoder.py")
    assert {"train_autoencoder", *ENCODE} <= set(project.repro("--dry"))


def test_another_number_of_shards_than_dvc_yaml_lists_is_refused(project: Project) -> None:
    project.set("shards", [*SHARDS, "shard-new"])
    done = project.dvc("repro", "--single-item", "concat_hdf5", check=False)
    assert done.returncode != 0
    assert "shards lists 4 shards, dvc.yaml lists 3; `make shards N=4` updates both files" in done.stdout


def test_metrics_and_plots_are_shown_with_no_further_set_up(project: Project) -> None:
    shown = project.dvc("metrics", "show", "--json").stdout
    assert json.loads(shown)[""]["data"]["metrics/validation.json"]["data"]["model"]["add_mm"] > 0
    file = project.root / "metrics" / "validation.json"
    metrics = json.loads(file.read_text(encoding="utf-8"))
    metrics["model"]["add_mm"] += 1
    file.write_text(json.dumps(metrics), encoding="utf-8")
    lines = project.dvc("metrics", "diff").stdout.splitlines()
    assert [line.split()[1] for line in lines[1:] if line] == ["model.add_mm"]
    said = project.dvc("plots", "show").stdout
    page = Path(said.strip().splitlines()[-1].removeprefix("file://")).read_text(encoding="utf-8")
    assert not [word for word in ("failed", "WARNING", "ERROR") if word in said], said
    for title in ("Training loss", "Validation of the alignment", "Accuracy", "Error per slot"):
        assert title in page
    assert ".png" in page


def test_a_stage_ends_with_1_and_one_line_where_its_input_is_missing(project: Project) -> None:
    (project.root / "data" / "latents.h5").unlink()
    done = project.run(sys.executable, "stages/train_align.py", check=False)
    assert done.returncode == 1
    assert "data/latents.h5" in done.stdout
    assert done.stdout.count("\n") == 1
