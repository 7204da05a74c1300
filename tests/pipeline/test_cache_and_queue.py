"""DVC's run cache across machines, shards on several machines, a queue of experiments."""

import json
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.support.dvc_remotes import Remote
from tests.support.pipeline_project import SHARDS, Project, ran
from tests.support.repository import ROOT
from tests.support.second_machine import NEEDED, Shared, at_home, cached, forbid

LIMIT_S = 300.0
STAGES = [path.stem for path in (ROOT / "stages").glob("*.py")]
TRAINING = ("--pull", "--allow-missing", "train_align", "validate")


@pytest.fixture(scope="module")
def shared(finished_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Project whose data is in a folder remote, with encoder weights of the user's own beside it."""
    folder = tmp_path_factory.mktemp("shared")
    shared = at_home(finished_project, folder, Remote(str(folder / "storage")))
    home = shared.home
    home.set("train.epochs", 1)
    content = torch.load(home.root / "models/encoder.pt", weights_only=True)
    state = content["state_dict"]
    key = next(name for name in state if name.endswith("weight"))
    state[key] = state[key] * 1.01
    del content["sha256"]
    (home.root / "weights").mkdir()
    torch.save(content, home.root / "weights/encoder.pt")
    home.dvc("add", "weights/encoder.pt")
    shared.publish()
    return shared


def use_own_encoder(machine: Project) -> None:
    machine.set("encoder.weights", "weights/encoder.pt")
    machine.dvc("pull", "weights/encoder.pt")


@pytest.mark.slow
def test_what_one_has_computed_the_other_downloads(shared: Shared, tmp_path: Path) -> None:
    one, other = shared.clone(tmp_path / "one"), shared.clone(tmp_path / "other")
    for machine in (one, other):
        machine.set("train.seed", 1)
    one.dvc("pull", *NEEDED)
    assert one.repro(*TRAINING) == ["train_align", "validate"]
    one.dvc("push", "--run-cache")
    forbid(other, "train_align")
    other.dvc("pull", *NEEDED)
    done = other.dvc("repro", *TRAINING)
    assert "Stage 'train_align' is cached - skipping run, checking out outputs" in done.stdout
    assert ran(done.stdout) == ["validate"]  # whose metrics are in git and not in the remote
    results = ("models/alignment.pt", "metrics/validation.json", "reports/train_align", "reports/validation")
    assert other.hashes(*results) == one.hashes(*results)
    assert one.hashes("models/alignment.pt") != shared.home.hashes("models/alignment.pt")


@pytest.mark.slow
def test_shards_encoded_on_two_machines_are_joined_on_a_third(shared: Shared, tmp_path: Path) -> None:
    for number, shards in enumerate((SHARDS[:1], SHARDS[1:])):
        machine = shared.clone(tmp_path / f"machine-{number}")
        use_own_encoder(machine)
        stages = [f"encode_latents_sharded@{shard}" for shard in shards]
        assert machine.repro("-s", "--pull", "--allow-missing", *stages) == stages
        clouds = [path.stem for path in (machine.root / "data/clouds").iterdir()]
        assert sorted(clouds) == sorted(shards)
        machine.dvc("push", "--run-cache", *stages)
    collector = shared.clone(tmp_path / "collector")
    use_own_encoder(collector)
    forbid(collector, "encode_latents_sharded", "sample_clouds", "fetch_json", "rigid_transforms")
    assert collector.repro("--pull", "--allow-missing", "concat_hdf5") == ["concat_hdf5"]
    assert collector.hashes("data/latents.h5") != shared.home.hashes("data/latents.h5")


def test_a_machine_with_other_code_encodes_its_shard_anew(shared: Shared, tmp_path: Path) -> None:
    machine = shared.clone(tmp_path / "machine")
    with open(machine.root / "dentalign" / "autoencoder" / "encoder.py", "a", encoding="utf-8") as file:
        file.write("# a change\n")
    words = ("-s", "--pull", "--allow-missing", f"encode_latents_sharded@{SHARDS[0]}")
    assert machine.repro(*words) == [f"encode_latents_sharded@{SHARDS[0]}"]


def test_a_shard_that_nobody_has_pushed_stops_the_collector(shared: Shared, tmp_path: Path) -> None:
    collector = shared.clone(tmp_path / "collector")
    use_own_encoder(collector)
    forbid(collector, "encode_latents_sharded")
    collector.set("encoder.threads", 2)  # which no machine has encoded with
    done = collector.dvc("repro", "--pull", "--allow-missing", "concat_hdf5", check=False)
    assert done.returncode != 0
    assert "encode_latents_sharded" in done.stdout and "concat_hdf5" not in ran(done.stdout)


@pytest.mark.long
def test_two_workers_train_the_queued_experiments_side_by_side(shared: Shared, tmp_path: Path) -> None:
    box = shared.clone(tmp_path / "box")
    box.dvc("pull", *NEEDED)
    before = box.hashes("models", "params.yaml", "dvc.lock")
    seeds = {"two": 2, "three": 3, "four": 4}
    for name, seed in seeds.items():
        box.dvc("exp", "run", "--queue", "-n", name, "-S", f"train.seed={seed}", *TRAINING)
    assert box.dvc("queue", "status").stdout.count("Queued") >= len(seeds)
    # Not through a pipe: the workers hold what they are given as stdout, and its end would be theirs.
    box.run("sh", "-c", f"{sys.executable} -m dvc queue start -j 2 > ../start.log 2>&1")
    most, end = 0, time.monotonic() + LIMIT_S
    while (status := box.dvc("queue", "status").stdout).count("Success") < len(seeds):
        most = max(most, status.count("Running"))
        assert "Failed" not in status, box.dvc("queue", "logs", "two", check=False).stdout
        assert time.monotonic() < end, status
        time.sleep(0.2)
    assert most == 2, "never two at once"
    checkpoints = box.root / ".dentalign/checkpoints/align"  # of the main repository, not in the copies
    assert len(list(checkpoints.glob("*.pt"))) >= len(seeds)
    assert box.hashes("models", "params.yaml", "dvc.lock") == before  # the workspace is left alone
    names = re.findall(r"\[(\w+)\]", box.dvc("exp", "list").stdout)
    assert sorted(names) == sorted(seeds)
    losses = set()
    for name in seeds:
        box.dvc("exp", "apply", name, check=False)  # applied, and then misses what was never pulled here
        assert f"seed: {seeds[name]}" in (box.root / "params.yaml").read_text(encoding="utf-8")
        losses.add(json.loads((box.root / "reports/train_align/metrics.json").read_text("utf-8"))["loss"])
        assert box.repro("--dry", *TRAINING) == []
    assert len(losses) == len(seeds)
    box.dvc("queue", "stop", "--kill", check=False)


@pytest.mark.long
def test_a_whole_project_is_downloaded_where_even_its_dvc_lock_is_gone(
    shared: Shared, tmp_path: Path
) -> None:
    """A colleague with the cases sets parameters that somebody else has run already."""
    shared.home.dvc("push", "--run-cache")
    other = shared.clone(tmp_path / "other")
    shutil.copytree(shared.home.root / "cases", other.root / "cases")
    other.set("train.epochs", 3)  # as in the finished project
    (other.root / "dvc.lock").unlink()
    forbid(other, *(stage for stage in STAGES if stage != "validate"))
    assert other.repro("--pull") == ["validate"]  # as above
    results = ("data", "models", "reports", "metrics")
    assert other.hashes(*results) == shared.home.hashes(*results)
    assert set(cached(other)) <= set(cached(shared.home))
