"""Training by two processes of `torchrun`: the curve of one, outputs written once, resumed after a kill."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from tests.pipeline.test_interruption import MODEL, TRAIN, Held, wait_until
from tests.support.pipeline_project import Project

EPOCHS = 5
TOLERANCE = 1e-5  # relative; sums go in another order
ATTENTION = {
    "points": 8,
    "width": 16,
    "layers": 2,
    "heads": 2,
    "batch_cases": 13,
    "warm_up": 1,
    "learning_rate": 0.01,
}
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", TRAIN[1])


def prepared(finished: Project, root: Path, model: str = "fc", dropout: float = 0.3) -> Project:
    """A project that is to train anew: 14 cases, in batches that two processes cannot share evenly."""
    project = finished.copy(root)
    for file in (project.root / ".dentalign" / "checkpoints").rglob("*.pt"):
        file.unlink()
    project.set("train.model", model)
    project.set("train.epochs", EPOCHS)
    project.set("train.fc.batch_cases", 13)  # the last one is a case, which is all that one process gets
    project.set("train.fc.learning_rate", 0.02)
    project.set("train.fc.warm_up", 1)
    project.set("train.attention", ATTENTION)
    project.set(f"train.{model}.dropout", dropout)
    return project


def history(project: Project) -> list[dict[str, float]]:
    (file,) = (project.root / ".dentalign" / "checkpoints" / "align").glob("*.pt")
    found: list[dict[str, float]] = torch.load(file, weights_only=True)["progress"]["history"]
    return found


@pytest.mark.parametrize("model", ["fc", pytest.param("attention", marks=pytest.mark.long)])
def test_without_dropout_two_processes_follow_the_curve_of_one_and_write_once(
    finished_project: Project, tmp_path: Path, model: str
) -> None:
    one, two = (prepared(finished_project, tmp_path / name, model, 0.0) for name in ("one", "two"))
    one.run(*TRAIN)
    assert two.run(*TORCHRUN).stdout.count("train_align: best of") == 1
    assert set(one.hashes(*MODEL)) == set(two.hashes(*MODEL))
    a, b = history(one), history(two)
    assert len(a) == len(b) == EPOCHS
    for before, after in zip(a, b, strict=True):
        assert after == pytest.approx(before, rel=TOLERANCE)
    assert len({epoch["loss"] for epoch in a}) == EPOCHS  # it does learn
    weights = [torch.load(p.root / MODEL[0], weights_only=True)["state_dict"] for p in (one, two)]
    # AdamW steps as far along a small gradient: where one is next to nothing, rounding moves a weight.
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4, equal_nan=True)


@pytest.fixture(scope="module")
def undisturbed(finished_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after a training by two processes, each with dropout of its own."""
    project = prepared(finished_project, tmp_path_factory.mktemp("two") / "project")
    project.run(*TORCHRUN)
    return project


@pytest.mark.long
def test_a_shorter_run_of_two_processes_is_resumed_to_the_same_bytes(
    finished_project: Project, undisturbed: Project, tmp_path: Path
) -> None:
    project = prepared(finished_project, tmp_path / "shorter")
    project.set("train.epochs", 2)
    project.run(*TORCHRUN)
    assert len(history(project)) == 2
    project.set("train.epochs", EPOCHS)
    assert project.run(*TORCHRUN).stdout.count("going on after epoch 2") == 1
    assert project.hashes(*MODEL) == undisturbed.hashes(*MODEL)


@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_other_and_the_same_command_resumes(
    finished_project: Project, undisturbed: Project, tmp_path: Path, rank: int
) -> None:
    project = prepared(finished_project, tmp_path / "project")
    (tmp_path / "hold").mkdir()
    held = Held(project, tmp_path / "hold", "third checkpoint", *TORCHRUN)
    try:
        os.kill(ranks(held)[rank], signal.SIGKILL)
        held.process.communicate(timeout=120)
        assert held.process.returncode == 1
        wait_until(lambda: not ranks(held))
    finally:
        held.end()
    assert "going on after epoch 2" in project.run(*TORCHRUN).stdout
    assert project.hashes(*MODEL) == undisturbed.hashes(*MODEL)


def ranks(training: Held) -> dict[int, int]:
    """Rank -> process number of the processes of this training."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != training.process.pid:
            try:
                environment = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            values = dict(one.split("=", 1) for one in environment if "=" in one)
            if values.get("HOLD_WHILE") == str(training.flag) and "RANK" in values:
                found[int(values["RANK"])] = int(folder.name)
    return found
