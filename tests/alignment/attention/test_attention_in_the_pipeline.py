"""The model `attention` through the stages and the command: trained, measured, used for a new patient."""

import csv
import json

import pytest

from tests.support.pipeline_project import Project

SMALL = {"points": 16, "width": 16, "layers": 1, "heads": 2, "batch_cases": 4, "warm_up": 5}


@pytest.fixture
def attentive(project: Project) -> Project:
    project.set("train.model", "attention")
    for name, value in SMALL.items():
        project.set(f"train.attention.{name}", value)
    project.set("predict.look_above_mm", 0.001)
    return project


def test_attention_is_trained_measured_and_predicts_with_an_expected_error(attentive: Project) -> None:
    assert attentive.repro() == ["train_align", "validate"]
    found = json.loads((attentive.root / "metrics" / "validation.json").read_text())
    assert found["confidence"]["teeth_unknown"] == 0
    assert found["confidence"]["expected_add_mm"] > 0
    assert found["model"]["rigidity_residual_mm"] < 1e-4
    report = attentive.root / "reports" / "validation"
    with open(report / "reliability.csv", newline="") as file:
        groups = list(csv.DictReader(file))
    assert sum(int(group["teeth"]) for group in groups) == found["counts"]["teeth"]
    assert "Errors made and expected" in (report / "index.html").read_text(encoding="utf-8")

    case = sorted((attentive.root / "cases" / "json").iterdir())[0].stem
    attentive.run("dentalign", "predict", "--case", f"cases/json/{case}.json", "--meshes", "cases/stl",
                  "--out", "out")  # fmt: skip
    with open(attentive.root / "out" / "movement" / f"{case}.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["fate"] == "predicted"]
    assert rows
    assert all(float(row["expected_add_mm"]) > 0 for row in rows)
    assert "rigidity_residual_mm" not in rows[0]
    assert "To be looked at" in (attentive.root / "out" / "report" / f"{case}.html").read_text(
        encoding="utf-8"
    )
    with open(attentive.root / "out" / "to_look_at.csv", newline="") as file:
        looks = list(csv.DictReader(file))
    assert {look["tooth"] for look in looks} == {row["fdi"] for row in rows}  # all above 0.001 mm
    assert "expected_error" in {look["code"] for look in looks} <= {"expected_error", "overlap"}


@pytest.mark.long
def test_more_epochs_go_on_and_end_as_one_run(attentive: Project) -> None:
    outputs = ("models/alignment.pt", "reports/train_align")
    attentive.set("train.epochs", 4)
    attentive.repro("train_align")
    wanted = attentive.hashes(*outputs)
    other = attentive.copy(attentive.root.parent / "two")
    other.run("rm", "-rf", ".dentalign")
    for epochs in (2, 4):
        other.set("train.epochs", epochs)
        said = other.dvc("repro", "--force", "--single-item", "train_align").stdout
    assert "going on after epoch 2" in said
    assert other.hashes(*outputs) == wanted
