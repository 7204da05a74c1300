"""The pages of docs/extending do what they say: each is carried out, block by block, in a small project."""

import csv
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from dentalign.dataset.mouth_store import MouthStore
from dentalign.validation.measurement import METHODS
from tests.support.pipeline_project import Project, ran
from tests.support.repository import ROOT
from tests.support.worked_example import blocks, carry_out

PAGES = sorted(path.name for path in (ROOT / "docs" / "extending").glob("*.md"))


def test_every_page_of_extending_is_carried_out_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [page for page in PAGES if f'carry_out("{page}"' not in text] == []
    assert all(blocks(ROOT / "docs" / "extending" / page) for page in PAGES)


def test_cases_from_an_added_source_are_those_of_the_folder(project: Project) -> None:
    before = project.hashes("data/json", "data/cases.csv", "data/clouds")
    stages = ran(carry_out("case-source.md", project))
    assert {"fetch_json", "rigid_transforms", "sample_clouds@shard-000"} <= set(stages)
    assert not {"encode_latents_sharded@shard-000", "train_align"} & set(stages)
    assert project.hashes("data/json", "data/cases.csv", "data/clouds") == before


def test_an_added_model_is_trained_and_measured(project: Project) -> None:
    assert ran(carry_out("alignment-model.md", project)) == ["train_align", "validate"]
    weights = torch.load(project.root / "models" / "alignment.pt", weights_only=True)
    assert weights["config"]["model"] == "linear"
    assert weights["state_dict"]["network.weight"].any()
    with open(project.root / "reports/train_align/plots/metrics/loss.tsv", newline="") as file:
        loss_mm = [float(row["loss"]) for row in csv.DictReader(file, delimiter="\t")]
    assert loss_mm[-1] < loss_mm[0]
    found = json.loads((project.root / "metrics" / "validation.json").read_text())
    assert found["model"]["rotation_error_deg"] == pytest.approx(found["identity"]["rotation_error_deg"])
    assert found["model"]["add_mm"] != found["identity"]["add_mm"]


def test_an_added_metric_is_in_json_table_and_report(project: Project) -> None:
    printed = carry_out("metric.md", project)
    assert ran(printed) == ["validate"]
    found = json.loads((project.root / "metrics" / "validation.json").read_text())
    for method in METHODS:
        assert 0 < found[method]["axis_error_deg"] <= found[method]["rotation_error_deg"]
    table = [line.split(" ")[0] for line in printed.splitlines()]
    assert table[table.index("axis_error_deg") - 1] == "rotation_error_deg"
    assert "axis_error_deg" in printed[printed.rindex("Metric") :]  # dvc metrics diff
    report = (project.root / "reports" / "validation" / "index.html").read_text(encoding="utf-8")
    assert "angle between the predicted and the true long axis" in report


def test_an_own_pair_is_trained_and_encodes(project: Project) -> None:
    one_shard = {"dvc repro\n": "dvc repro --single-item encode_latents_sharded@shard-000\n"}
    printed = carry_out("own-encoder.md", project, one_shard)
    assert ran(printed) == ["encode_latents_sharded@shard-000"]
    with MouthStore(project.root / "data" / "latents" / "shard-000.h5") as store:
        assert store.layout.features == 16
        own = (project.root / "weights" / "encoder.pt").read_bytes()
        assert store.attributes["encoder_sha256"] == hashlib.sha256(own).hexdigest()


@pytest.mark.long
def test_an_own_pair_makes_the_latents_and_what_follows_and_nothing_above_them_runs(
    project: Project,
) -> None:
    assert ran(carry_out("own-encoder.md", project)) == [
        "concat_hdf5",
        *(f"encode_latents_sharded@shard-00{number}" for number in range(3)),
        "train_align",
        "validate",
    ]
    used = json.loads((project.root / "reports" / "validation" / "lineage.json").read_text())
    for name in ("encoder", "decoder"):
        own = (project.root / "weights" / f"{name}.pt").read_bytes()
        assert used[f"{name}_sha256"] == hashlib.sha256(own).hexdigest()
    assert json.loads((project.root / "metrics" / "validation.json").read_text())["reconstruction_mm"] < 3


@pytest.mark.skipif(not shutil.which("ruff"), reason="no ruff here")
def test_what_the_pages_add_is_as_make_check_wants_it(tmp_path: Path) -> None:
    for page in PAGES:
        for block in blocks(ROOT / "docs" / "extending" / page):
            if block.language == "python":
                (tmp_path / block.title).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / block.title).write_text(block.text, encoding="utf-8")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copy(ROOT / "dentalign" / "__init__.py", tmp_path / "dentalign")
    for words in (("check",), ("format", "--check", "--diff")):
        done = subprocess.run(
            ["ruff", *words, "."], cwd=tmp_path, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
