"""Cases on a cluster of two nodes: the bytes of the local run, whichever worker dies."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dentalign.autoencoder.encoder import Encoder, EncoderConfig
from dentalign.dataset.mouth_store import MouthStore
from dentalign.demo_clinic.clinic import make_clinic
from dentalign.errors import DentalignError
from dentalign.files import weights
from dentalign.running import pool
from tests.support.dask_nodes import LIMIT_S, Nodes, wait_until
from tests.support.repository import ROOT

CASES = 8
HERE = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
STAGES = {
    "sample_clouds": ("data/transforms/one.json", "data/clouds/one.h5"),
    "encode_latents_sharded": ("data/clouds/one.h5", "data/latents/one.h5"),
}


class Workspace:
    """Folder with made-up cases, broken ones among them, in which stages run."""

    def __init__(self, root: Path):
        self.root = root

    def set(self, section: str, **values: Any) -> None:
        file = self.root / "params.yaml"
        document = yaml.safe_load(file.read_text())
        document.setdefault(section, {}).update(values)
        file.write_text(yaml.safe_dump(document))

    def start(self, stage: str, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Start a stage in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, str(ROOT / "stages" / f"{stage}.py"), *(words or STAGES.get(stage, ()))],
            cwd=self.root, env=HERE | {"PYTHONPATH": str(ROOT)} | environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def run(self, stage: str, *words: str, **environment: str) -> tuple[int, str]:
        """Run a stage; returns its exit code and output."""
        process = self.start(stage, *words, **environment)
        said = process.communicate(timeout=LIMIT_S)[0]
        return process.returncode, said

    def output(self, stage: str) -> Path:
        return self.root / STAGES[stage][1]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Workspace after the stages have run on this machine."""
    root = tmp_path_factory.mktemp("local")
    shutil.copy(ROOT / "params.yaml", root)
    make_clinic(root / "data" / "demo", cases=CASES, seed=2)
    workspace = Workspace(root)
    workspace.set("sample", points=32, oversampling=2, workers=1)
    workspace.set("encoder", weights="encoder.pt", device="auto", threads=1)
    file = root / "params.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"shards": ["one"]}))
    torch.manual_seed(0)
    weights.save(root / "encoder.pt", Encoder(EncoderConfig(points=32, neighbours=4, hidden=8, features=8)))
    for stage in ("fetch_json", "rigid_transforms", *STAGES):
        code, said = workspace.run(stage)
        assert code == 0, said
    return workspace


@pytest.fixture
def workspace(local: Workspace, tmp_path: Path) -> Workspace:
    """Copy that works on the cluster; the outputs of the local run are still there, to compare with."""
    shutil.copytree(local.root, tmp_path / "project")
    copy = Workspace(tmp_path / "project")
    copy.set("parallel", engine="dask")
    return copy


@pytest.fixture
def start_nodes(tmp_path: Path) -> Iterator[Callable[[], Nodes]]:
    """Start schedulers, to which workers can be added."""
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed: make test-all does")
    started: list[Nodes] = []

    def start() -> Nodes:
        started.append(Nodes(tmp_path / f"nodes-{len(started)}"))
        return started[-1]

    yield start
    for nodes in started:
        nodes.end()


def held(nodes: Nodes, name: str) -> int:
    """Count the cases that a worker holds without a result; -1 if there is no such worker."""
    from distributed import Client

    with Client(nodes.address, set_as_default=False) as client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        address = [where for where, one in workers.items() if one["name"] == name]
        return len(client.processing()[address[0]]) if address else -1


@pytest.mark.parametrize("stage", STAGES)
def test_a_node_that_dies_with_cases_in_its_hands_loses_none(
    workspace: Workspace, start_nodes: Callable[[], Nodes], stage: str
) -> None:
    nodes = start_nodes()
    dying, _ = nodes.add_worker("--name", "dying"), nodes.add_worker("--name", "other")
    expected = workspace.output(stage).read_bytes()
    workspace.output(stage).unlink()
    os.kill(dying.pid, signal.SIGSTOP)  # it takes cases and does not get to answering
    process = workspace.start(stage, DASK_SCHEDULER_ADDRESS=nodes.address)
    wait_until(lambda: held(nodes, "dying") > 0 and held(nodes, "other") == 0)
    assert process.poll() is None
    dying.kill()
    said = process.communicate(timeout=LIMIT_S)[0]
    assert process.returncode == 0, said
    assert workspace.output(stage).read_bytes() == expected
    assert held(nodes, "dying") == -1


def test_bad_cases_are_listed_as_they_are_locally(
    workspace: Workspace, start_nodes: Callable[[], Nodes]
) -> None:
    nodes = start_nodes()
    nodes.add_worker()
    with MouthStore(workspace.output("sample_clouds")) as store:
        expected = store.record("left_out")
    workspace.output("sample_clouds").unlink()
    assert any(line["stage"] == "sample_clouds" for line in expected)
    code, said = workspace.run("sample_clouds", DASK_SCHEDULER_ADDRESS=nodes.address)
    assert code == 0, said
    with MouthStore(workspace.output("sample_clouds")) as store:
        assert store.record("left_out") == expected


def test_a_failure_on_a_node_is_told_here_and_not_in_the_node_s_log(
    workspace: Workspace, start_nodes: Callable[[], Nodes]
) -> None:
    nodes = start_nodes()
    nodes.add_worker()
    mesh = next((workspace.root / "data" / "demo" / "stl" / "demo-0003").glob("*.stl"))
    mesh.write_bytes(mesh.read_bytes() + b"x")
    code, said = workspace.run("sample_clouds", DASK_SCHEDULER_ADDRESS=nodes.address)
    assert code == 1
    assert said.count("\n") == 1
    assert f"demo-0003/{mesh.name}: has changed since rigid_transforms read it" in said
    assert "demo-0003" not in nodes.log("worker 0") + nodes.log("scheduler")


def test_ctrl_c_ends_the_stage_and_leaves_the_cluster_to_others(
    workspace: Workspace, start_nodes: Callable[[], Nodes]
) -> None:
    nodes = start_nodes()
    worker = nodes.add_worker("--name", "only")
    expected = workspace.output("sample_clouds").read_bytes()
    workspace.output("sample_clouds").unlink()
    os.kill(worker.pid, signal.SIGSTOP)
    process = workspace.start("sample_clouds", DASK_SCHEDULER_ADDRESS=nodes.address)
    wait_until(lambda: held(nodes, "only") > 0)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=LIMIT_S)[0]
    assert process.returncode == 130, said
    assert said == "interrupted: the same command goes on from here\n"
    assert time.monotonic() - began < 20
    assert not list(workspace.output("sample_clouds").parent.iterdir())
    os.kill(worker.pid, signal.SIGCONT)
    code, said = workspace.run("sample_clouds", DASK_SCHEDULER_ADDRESS=nodes.address)
    assert code == 0, said
    assert workspace.output("sample_clouds").read_bytes() == expected


def test_a_node_with_other_code_is_named_and_not_believed(
    workspace: Workspace, start_nodes: Callable[[], Nodes], tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "dentalign", tmp_path / "old" / "dentalign")
    with open(tmp_path / "old" / "dentalign" / "geometry" / "sampling.py", "a") as file:
        file.write("# of last week\n")
    nodes = start_nodes()
    nodes.add_worker(path=tmp_path / "old")
    code, said = workspace.run("sample_clouds", DASK_SCHEDULER_ADDRESS=nodes.address)
    assert code == 1
    assert "error: worker on " in said
    assert "restart workers after a change of source code" in said


def test_a_cluster_that_cannot_be_used_is_said(
    workspace: Workspace, start_nodes: Callable[[], Nodes]
) -> None:
    nodes = start_nodes()
    wait = {"DENTALIGN_CLUSTER_WAIT_S": "1"}
    code, said = workspace.run("sample_clouds", **wait)
    assert (code, said.count("\n")) == (1, 1)
    assert "set DASK_SCHEDULER_ADDRESS" in said
    code, said = workspace.run("sample_clouds", **wait, DASK_SCHEDULER_ADDRESS="tcp://127.0.0.1:9")
    assert (code, said.count("\n")) == (1, 1), said
    assert "tcp://127.0.0.1:9: no Dask scheduler there" in said
    code, said = workspace.run("sample_clouds", **wait, DASK_SCHEDULER_ADDRESS=nodes.address)
    assert (code, said.count("\n")) == (1, 1), said
    assert "the cluster has no worker after 1 s" in said
    nodes.add_worker()
    workspace.set("encoder", device="cuda")
    code, said = workspace.run("encode_latents_sharded", DASK_SCHEDULER_ADDRESS=nodes.address)
    assert (code, said.count("\n")) == (1, 1), said
    assert "no worker offers a GPU" in said


def test_without_dask_the_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask", None)
    monkeypatch.delitem(sys.modules, "dentalign.running.dask_cluster", raising=False)
    with pytest.raises(DentalignError, match=r"see docs/machines\.md"):
        list(pool.starmap(abs, [(1,)], "dask"))


def square(number: int) -> int:
    if number < 0:
        raise DentalignError(f"{number} is negative")
    return number * number


@pytest.mark.parametrize("workers", [1, 2])
def test_answers_come_in_order_and_calls_are_made_no_earlier_than_needed(workers: int) -> None:
    def calls() -> Iterator[tuple[int]]:
        for number in range(100):
            asked.append(number)
            yield (number,)

    asked: list[int] = []
    found = pool.starmap(square, calls(), "local", workers)
    assert [next(found), next(found), next(found)] == [0, 1, 4]
    assert len(asked) <= 3 + pool.AHEAD * workers
    assert list(found) == [number * number for number in range(3, 100)]
    with pytest.raises(DentalignError, match="-1 is negative"):
        list(pool.starmap(square, [(1,), (-1,), (2,)], "local", workers))


def test_when_all_is_answered_no_process_and_no_thread_is_left_to_disturb_the_end() -> None:
    before = set(threading.enumerate())
    for calls in ([(1,), (2,)], [(-1,), (2,)]):
        with suppress(DentalignError):
            list(pool.starmap(square, calls, "local", 2))
        assert set(threading.enumerate()) == before
        assert not multiprocessing.active_children()
