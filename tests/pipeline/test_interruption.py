"""Stages killed, stopped or overtaken halfway: the next run gives the bytes of an undisturbed one."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dentalign.running import locks
from tests.support.pipeline_project import SHARDS, Project, ran

EPOCHS = 5
MODEL = ("models/alignment.pt", "reports/train_align")
LIMIT_S = 120.0

# Python runs a module of this name before any script: it holds a stage in the middle of its work.
HOLD = """
import os, sys, time

what, flag = os.environ.get("HOLD_AT"), os.environ.get("HOLD_WHILE")
if what and any("stages/" in word for word in sys.orig_argv):
    seen = 0

    def hold():
        open(flag + ".reached", "w").close()
        while os.path.exists(flag):
            time.sleep(0.01)

    if what == "rows being written":
        import h5py

        resize = h5py.Dataset.resize

        def held_resize(self, size, axis=None):
            global seen
            seen += 1
            if seen == 2:  # something is in the file
                hold()
            resize(self, size, axis)

        h5py.Dataset.resize = held_resize
    else:
        replace = os.replace

        def held_replace(source, target):
            global seen
            seen += "checkpoints" in str(target)
            if seen == 3 and "checkpoints" in str(target):
                hold()
            replace(source, target)

        os.replace = held_replace
"""


class Held:
    """Command whose stage pauses halfway until it is let go, or killed."""

    def __init__(self, project: Project, folder: Path, at: str, *words: str):
        (folder / "sitecustomize.py").write_text(HOLD, encoding="utf-8")
        self.flag = folder / "hold"
        self.flag.touch()
        path = os.pathsep.join([str(folder), project.environment["PYTHONPATH"]])
        self.process = project.start(
            *words, HOLD_AT=at, HOLD_WHILE=str(self.flag), PYTHONPATH=path, DENTALIGN_SAVE_EVERY_S="0"
        )
        reached = folder / "hold.reached"
        wait_until(lambda: reached.exists() or self.process.poll() is not None)
        assert reached.exists(), self.process.communicate()[0]

    def let_go(self) -> None:
        self.flag.unlink(missing_ok=True)

    def send(self, number: signal.Signals) -> str:
        """Send a signal to the whole process group; returns its output."""
        os.killpg(self.process.pid, number)
        return self.process.communicate(timeout=LIMIT_S)[0]

    def kill_dvc_alone(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT_S)

    def end(self) -> None:
        self.let_go()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process.stdout:
            self.process.stdout.close()


def wait_until(met: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not met():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.01)


@pytest.fixture
def held(project: Project, tmp_path: Path) -> Iterator[Callable[..., Held]]:
    """Start commands that pause: held(where, *words)."""
    started: list[Held] = []

    def start(at: str, *words: str) -> Held:
        folder = tmp_path / f"hold-{len(started)}"
        folder.mkdir()
        started.append(Held(project, folder, at, *words))
        return started[-1]

    yield start
    for one in started:
        one.end()


@pytest.fixture(scope="module")
def undisturbed(finished_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Project after a longer training without interruption."""
    project = longer(finished_project.copy(tmp_path_factory.mktemp("undisturbed") / "project"))
    project.dvc("repro")
    return project


def longer(project: Project) -> Project:
    project.set("train.epochs", EPOCHS)
    for file in (project.root / ".dentalign" / "checkpoints").rglob("*.pt"):
        file.unlink()
    return project


DVC = (sys.executable, "-m", "dvc", "repro")
TRAIN = (sys.executable, "stages/train_align.py")


@pytest.fixture
def forced() -> tuple[str, ...]:
    """Command that encodes a shard of several cases again, though nothing has changed."""
    return (*DVC, "--force", "--single-item", f"encode_latents_sharded@{SHARDS[0]}")


def test_a_killed_encoding_is_done_again_and_gives_the_same_bytes(
    project: Project, held: Callable[..., Held], forced: tuple[str, ...]
) -> None:
    before = project.hashes("data/latents", "data/latents.h5")
    held("rows being written", *forced).send(signal.SIGKILL)
    assert not (project.root / "data" / "latents" / f"{SHARDS[0]}.h5").exists()
    project.run(*forced)
    assert project.repro() == []
    after = project.hashes("data/latents", "data/latents.h5")
    assert {name: after[name] for name in before} == before


def test_an_encoding_that_outlives_its_dvc_is_waited_for(
    project: Project, held: Callable[..., Held], forced: tuple[str, ...]
) -> None:
    before = project.hashes("data/latents", "data/latents.h5")
    orphan = held("rows being written", *forced)
    orphan.kill_dvc_alone()
    said = overtake(project, orphan, *forced)
    assert re.search(r"waiting: process \d+ still writes data/latents/shard-000.h5", said)
    assert project.hashes("data/latents", "data/latents.h5") == before


def overtake(project: Project, orphan: Held, *words: str) -> str:
    """Run a command beside an orphaned stage, which goes on once the command waits for it."""
    process = project.start(*words)
    assert process.stdout
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith("waiting:"):
            orphan.let_go()
    process.stdout.close()
    assert process.wait(LIMIT_S) == 0, said
    return said


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_as_if_undisturbed(
    project: Project, undisturbed: Project, held: Callable[..., Held]
) -> None:
    longer(project)
    held("third checkpoint", *DVC).send(signal.SIGKILL)
    assert not (project.root / "models" / "alignment.pt").exists()
    said = project.dvc("repro").stdout
    assert ran(said) == ["train_align", "validate"]
    assert "going on after epoch 2" in said
    wanted = (*MODEL, "metrics/validation.json", "reports/validation")
    assert project.hashes(*wanted) == undisturbed.hashes(*wanted)


def test_a_training_that_outlives_its_dvc_is_waited_for(
    project: Project, undisturbed: Project, held: Callable[..., Held]
) -> None:
    longer(project)
    orphan = held("third checkpoint", *DVC)
    orphan.kill_dvc_alone()
    said = overtake(project, orphan, *DVC, "train_align")
    assert re.search(r"waiting: process \d+ still writes models/alignment.pt", said)
    assert project.hashes(*MODEL) == undisturbed.hashes(*MODEL)


def test_ctrl_c_in_a_training_ends_with_130_says_how_to_go_on_and_goes_on(
    project: Project, undisturbed: Project, held: Callable[..., Held]
) -> None:
    longer(project)
    stopped = held("third checkpoint", *TRAIN)
    said = stopped.send(signal.SIGINT)
    assert stopped.process.returncode == 130
    assert said.splitlines()[-1] == "interrupted: the same command goes on from here"
    said = project.run(*TRAIN).stdout
    assert "going on after epoch 2" in said
    assert project.hashes(*MODEL) == undisturbed.hashes(*MODEL)


def test_ctrl_c_stops_dvc_too_and_no_half_trained_model_is_recorded(
    project: Project, held: Callable[..., Held]
) -> None:
    longer(project)
    lock = project.hashes("dvc.lock")
    stopped = held("third checkpoint", *DVC)
    stopped.send(signal.SIGINT)
    assert stopped.process.returncode != 0
    assert project.hashes("dvc.lock") == lock
    assert not (project.root / "models" / "alignment.pt").exists()


TRAININGS = {
    "train": (TRAIN, MODEL),
    "autoencoder": (
        (sys.executable, "stages/train_autoencoder.py"),
        ("models/encoder.pt", "models/decoder.pt", "reports/train_autoencoder"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("section", ["train", pytest.param("autoencoder", marks=pytest.mark.long)])
def test_epochs_in_two_runs_give_what_they_give_in_one(
    project: Project, tmp_path: Path, section: str
) -> None:
    script, outs = TRAININGS[section]
    found: dict[str, Any] = {}
    for place, epochs in (("one", 2), ("one", 5), ("other", 5), ("other", 2)):
        project.environment["DVC_ROOT"] = str(tmp_path / place)  # checkpoints of its own
        project.set(f"{section}.epochs", epochs)
        params = tmp_path / "longer.yaml"
        (project.root / "params.yaml").rename(params)
        said = project.run(*script, "--params", str(params)).stdout
        params.rename(project.root / "params.yaml")
        assert ("going on after epoch 2" in said) is ((place, epochs) == ("one", 5))
        assert ("starting over" in said) is ((place, epochs) == ("other", 2))
        found[f"{place} {epochs}"] = project.hashes(*outs)
    assert found["one 5"] == found["other 5"]
    assert found["one 2"] == found["other 2"]
    assert found["one 5"] != found["one 2"]


def test_a_writer_waits_for_another_and_then_writes(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import sys, time\nfrom dentalign.running.locks import exclusive\n"
        "with exclusive(sys.argv[1]):\n    print('in', flush=True)\n    time.sleep(0.5)\n"
        "    open(sys.argv[1], 'w').close()\n"
    )
    path = tmp_path / "out"
    words = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "in\n"
        with locks.exclusive(path):
            assert path.exists()
            assert other.wait(LIMIT_S) == 0
        assert capsys.readouterr().err == f"waiting: process {other.pid} still writes {path}\n"


def test_the_lock_of_a_killed_writer_is_free(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import os, sys\nfrom dentalign.running.locks import exclusive\n"
        "with exclusive(sys.argv[1]):\n    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    with locks.exclusive(tmp_path / "out"):
        pass
    assert capsys.readouterr().err == ""


def test_two_writers_of_different_files_do_not_wait(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with locks.exclusive(tmp_path / "a"), locks.exclusive(tmp_path / "b"):
        pass
    assert capsys.readouterr().err == ""
