"""Training by two processes: the curve of one, outputs written once, and ends in order."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.pipeline.test_interruption import DVC, LIMIT_S, MODEL, TRAIN, Held, wait_until
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


def prepared(finished: Project, root: Path, processes: int, model: str = "fc") -> Project:
    """A project that is to train anew: 14 cases, in batches that two processes cannot share evenly."""
    project = finished.copy(root)
    for file in (project.root / ".dentalign" / "checkpoints").rglob("*.pt"):
        file.unlink()
    project.set("train.model", model)
    project.set("train.epochs", EPOCHS)
    project.set("train.processes", processes)
    project.set("train.fc.batch_cases", 13)  # the last one is a case, which is all that one process gets
    project.set("train.fc.learning_rate", 0.02)  # the network begins where dropout has no effect
    project.set("train.fc.warm_up", 1)
    project.set("train.attention", ATTENTION)
    return project


def history(project: Project) -> list[dict[str, float]]:
    (file,) = (project.root / ".dentalign" / "checkpoints" / "align").glob("*.pt")
    found: list[dict[str, float]] = torch.load(file, weights_only=True)["progress"]["history"]
    return found


@pytest.fixture(scope="module")
def undisturbed(finished_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after a training by two processes, started by DVC."""
    project = prepared(finished_project, tmp_path_factory.mktemp("two") / "project", 2)
    said = project.dvc(*DVC[3:], "--single-item", "train_align").stdout
    assert said.count("train_align: best of") == 1
    return project


def assert_the_curves_agree(one: Project, two: Project) -> None:
    a, b = history(one), history(two)
    assert len(a) == len(b) == EPOCHS
    for before, after in zip(a, b, strict=True):
        assert after == pytest.approx(before, rel=TOLERANCE)
    assert len({epoch["loss"] for epoch in a}) == EPOCHS  # it does learn
    weights = [torch.load(p.root / MODEL[0], weights_only=True)["state_dict"] for p in (one, two)]
    # AdamW steps as far along a small gradient: where one is next to nothing, rounding moves a weight.
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4)


def test_two_processes_follow_the_curve_of_one(
    finished_project: Project, undisturbed: Project, tmp_path: Path
) -> None:
    one = prepared(finished_project, tmp_path / "one", 1)
    one.run(*TRAIN)
    assert_the_curves_agree(one, undisturbed)
    assert set(one.hashes(*MODEL)) == set(undisturbed.hashes(*MODEL))


@pytest.mark.long
def test_two_processes_follow_the_curve_of_one_with_attention_too(
    finished_project: Project, tmp_path: Path
) -> None:
    one, two = (prepared(finished_project, tmp_path / str(n), n, "attention") for n in (1, 2))
    one.run(*TRAIN)
    two.run(*TRAIN)
    assert_the_curves_agree(one, two)


@pytest.mark.long
def test_torchrun_gives_the_same_bytes_and_goes_on_from_a_shorter_run(
    finished_project: Project, undisturbed: Project, tmp_path: Path
) -> None:
    project = prepared(finished_project, tmp_path / "torchrun", 1)
    project.set("train.epochs", 2)
    project.run(*TORCHRUN)
    assert len(history(project)) == 2
    project.set("train.epochs", EPOCHS)
    said = project.run(*TORCHRUN).stdout
    assert said.count("going on after epoch 2") == 1
    assert project.hashes(*MODEL) == undisturbed.hashes(*MODEL)


@pytest.mark.long
def test_a_profile_of_several_processes_is_that_of_the_first(
    finished_project: Project, undisturbed: Project, tmp_path: Path
) -> None:
    project = prepared(finished_project, tmp_path / "profiled", 2)
    said = project.run(*TRAIN, "--profile").stdout
    assert said.count("functions of dentalign") == said.count("steps: milliseconds") == 1
    assert len(list((project.root / ".dentalign" / "profiles").iterdir())) == 1
    assert project.hashes(*MODEL) == undisturbed.hashes(*MODEL)


@pytest.fixture
def held(finished_project: Project, tmp_path: Path) -> Iterator[Held]:
    """A training by two processes, the first of which waits as it writes its third checkpoint."""
    project = prepared(finished_project, tmp_path / "project", 2)
    (tmp_path / "hold").mkdir()
    training = Held(project, tmp_path / "hold", "third checkpoint", *TRAIN)
    yield training
    for pid in ranks(training).values():
        kill(pid, signal.SIGKILL)
    training.end()


def ranks(training: Held) -> dict[int, int]:
    """Rank -> process number, of the processes that were started by the launcher of this training."""
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


def kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def ended(training: Held) -> tuple[int, str]:
    """Exit code and what was said, once no process is left."""
    said = training.process.communicate(timeout=LIMIT_S)[0]
    wait_until(lambda: not ranks(training))
    return training.process.returncode, said


def goes_on(tmp_path: Path, undisturbed: Project) -> None:
    project = Project(tmp_path / "project")
    assert "going on after epoch 2" in project.run(*TRAIN).stdout
    assert project.hashes(*MODEL) == undisturbed.hashes(*MODEL)


@pytest.mark.long
def test_ctrl_c_ends_both_processes_and_the_same_command_goes_on(
    held: Held, tmp_path: Path, undisturbed: Project
) -> None:
    assert set(ranks(held)) == {0, 1}
    os.killpg(held.process.pid, signal.SIGINT)
    code, said = ended(held)
    assert code == 130, said
    assert said == "stopped in epoch 4\ninterrupted: the same command goes on from here\n"
    goes_on(tmp_path, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_other_and_the_same_command_goes_on(
    held: Held, tmp_path: Path, undisturbed: Project, rank: int
) -> None:
    kill(ranks(held)[rank], signal.SIGKILL)
    code, said = ended(held)
    assert code == 1, said
    assert f"error: training process {rank} was ended by SIGKILL; the same command" in said.splitlines()[-1]
    goes_on(tmp_path, undisturbed)


@pytest.mark.long
def test_the_processes_end_with_a_killed_launcher(held: Held) -> None:
    assert set(ranks(held)) == {0, 1}
    held.process.kill()
    held.process.wait()
    wait_until(lambda: not ranks(held))


@pytest.mark.long
def test_what_ends_one_process_by_its_own_doing_gives_the_exit_code(
    finished_project: Project, tmp_path: Path
) -> None:
    project = prepared(finished_project, tmp_path / "project", 2)
    (project.root / "models" / "decoder.pt").write_bytes(b"no weights")
    done = project.run(*TRAIN, check=False)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert re.match(r"error: models/decoder.pt: not a readable weights file", lines[0])
    assert len(lines) <= 2  # each process says so
