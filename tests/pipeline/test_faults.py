"""Ctrl-C, a full disk, damaged files: said in one line, and the next run gives the right bytes."""

import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import kill_pipeline
import numpy as np
import pytest
import torch
import yaml

from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.cases import fetch
from dentalign.cases.manifests import Manifest
from dentalign.cases.settings import Fetch, Limits
from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout, MouthStore
from dentalign.errors import DentalignError
from dentalign.files import weights
from dentalign.mouth import Mouth
from dentalign.running import command
from tests.support import pipeline_project
from tests.support.pipeline_project import SHARDS, Project
from tests.support.repository import ROOT

LIMIT_S = 60.0

# --- Ctrl-C


def start(script: str, *words: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *([script] if script.endswith(".py") else ["-c", script]), *words],
        cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(cwd)}, text=True,
        start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def wait_for(met: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not met():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


STUCK = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from dentalign.running import command

def main():
    with ThreadPoolExecutor() as pool:  # waits at its end for what cannot be stopped
        pool.submit(time.sleep, float(sys.argv[1]))
        open("started", "w").close()
        try:
            time.sleep(600)
        finally:
            open("leaving", "w").close()

words = sys.argv[1:]
command.run(main, [])
"""


def test_ctrl_c_once_leaves_in_order_and_twice_at_once(tmp_path: Path) -> None:
    process = start(STUCK, "600", cwd=tmp_path)
    wait_for((tmp_path / "started").exists)
    os.killpg(process.pid, signal.SIGINT)
    wait_for((tmp_path / "leaving").exists)
    with pytest.raises(subprocess.TimeoutExpired):  # it waits for its thread, as it should
        process.wait(0.3)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert said == command.INTERRUPTED_AGAIN + "\n"


def test_ctrl_c_once_ends_with_130_as_soon_as_what_is_under_way_is_done(tmp_path: Path) -> None:
    process = start(STUCK, "0.2", cwd=tmp_path)
    wait_for((tmp_path / "started").exists)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert said == command.INTERRUPTED + "\n"


@pytest.fixture
def sampling(finished_project: Project, tmp_path: Path) -> subprocess.Popen[str]:
    """Stage sample_clouds, running in two processes on more cases than it will finish."""
    project = finished_project.copy(tmp_path / "project")
    project.set("sample.workers", 2)
    file = project.root / "data" / "transforms" / f"{SHARDS[0]}.json"
    few = Manifest.load(file)
    cases = []
    for case, number in itertools.product(few.cases, range(500)):
        case_id = f"{case.mouth.case_id}-{number:03d}"
        (project.root / "cases" / "stl" / case_id).symlink_to(case.mouth.case_id)
        cases.append(replace(case, mouth=replace(case.mouth, case_id=case_id)))
    Manifest(few.shard, tuple(cases), (), len(cases)).save(file)
    script = str(ROOT / "stages" / "sample_clouds.py")
    words = [str(file.relative_to(project.root)), "data/clouds/new.h5"]
    process = start(script, *words, cwd=project.root)
    wait_for(lambda: any((project.root / "data" / "clouds").glob(".new.h5.*.part")))
    time.sleep(0.5)
    return process


def test_ctrl_c_in_worker_processes_is_one_line_and_leaves_no_output(
    sampling: subprocess.Popen[str], tmp_path: Path
) -> None:
    os.killpg(sampling.pid, signal.SIGINT)
    said, _ = sampling.communicate(timeout=LIMIT_S)
    assert sampling.returncode == 130
    assert said == command.INTERRUPTED + "\n"
    assert not list((tmp_path / "project" / "data" / "clouds").glob("*new.h5*"))
    assert not list((tmp_path / "project" / "data" / "clouds").glob(".new.h5*"))


def test_worker_processes_end_with_a_killed_parent(sampling: subprocess.Popen[str]) -> None:
    sampling.kill()
    sampling.communicate(timeout=LIMIT_S)  # the workers hold the other end of the pipe

    def all_gone() -> bool:
        try:
            os.killpg(sampling.pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_for(all_gone)


# --- a full disk

STAGES: dict[str, tuple[str, ...]] = {
    "fetch_json": ("data/json", "data/cases.csv", "data/left_out"),
    "rigid_transforms": ("data/transforms",),
    "sample_clouds": (f"data/clouds/{SHARDS[0]}.h5",),
    "autoencoder_cases": ("data/autoencoder_clouds.h5",),
    "train_autoencoder": ("models/encoder.pt", "models/decoder.pt", "reports/train_autoencoder"),
    "encode_latents_sharded": (f"data/latents/{SHARDS[0]}.h5",),
    "concat_hdf5": ("data/latents.h5", "reports/left_out.csv"),
    "train_align": ("models/alignment.pt", "reports/train_align"),
    "validate": ("reports/validation", "metrics/validation.json"),
}


def command_of(stage: str) -> list[str]:
    clouds, latents = [[f"data/{kind}/{shard}.h5" for shard in SHARDS] for kind in ("clouds", "latents")]
    words = {
        "sample_clouds": [f"data/transforms/{SHARDS[0]}.json", clouds[0]],
        "autoencoder_cases": ["data/clouds", "--shards", str(len(SHARDS))],
        "encode_latents_sharded": [clouds[0], latents[0]],
        "concat_hdf5": ["data/latents", "--shards", str(len(SHARDS))],
    }
    return [sys.executable, f"stages/{stage}.py", *words.get(stage, [])]


def test_every_stage_is_tried_on_a_full_disk() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert set(STAGES) == set(stages)


def remove(project: Project, names: tuple[str, ...]) -> None:
    """Remove outputs as DVC does before a run, and checkpoints, so that a training starts again."""
    for path in [*(project.root / name for name in names), project.root / ".dentalign"]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def unmeasured(project: Project) -> dict[str, str]:
    """Return the environment without coverage, which would complain about the full disk as well."""
    return {name: value for name, value in project.environment.items() if not name.startswith("COVERAGE")}


def check_full(stage: str, code: int, said: str) -> None:
    assert code == 1, said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    assert re.search("No space left on device|File too large", errors[0]), said
    assert "Traceback" not in said


QUICK = ("fetch_json", "sample_clouds", "concat_hdf5")  # one of each kind of writing; the others take longer


@pytest.mark.parametrize(
    "stage", [pytest.param(stage, marks=[] if stage in QUICK else pytest.mark.long) for stage in STAGES]
)
def test_a_stage_without_room_says_so_leaves_nothing_corrupt_and_then_goes_on(
    project: Project, stage: str
) -> None:
    outs = STAGES[stage]
    wanted = project.hashes(*outs)
    remove(project, outs)
    done = subprocess.run(
        command_of(stage), cwd=project.root, env=unmeasured(project), text=True, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700)),
    )  # fmt: skip
    check_full(stage, done.returncode, done.stdout)
    for name in outs:
        if not name.startswith("reports/train_"):  # curves, written as the training goes
            left = project.hashes(name) if (project.root / name).exists() else {}
            assert left.items() <= wanted.items()
    assert not [path for name in outs for path in (project.root / name).parent.glob(".*.part")]
    project.run(*command_of(stage))
    assert project.hashes(*outs) == wanted


FULL_DISK = """
set -e
mount -t tmpfs -o size=256m none "$1"
cp -a "$2/." "$1"
cd "$1"
shift 2
touch .room
dd if=/dev/zero of=.filler bs=64k 2>/dev/null || true
set +e
"$@"
echo "code $?"
rm .filler
"$@"
echo "code $?"
for name in $OUTS; do find "$name" -type f | sort | xargs sha256sum; done
"""


@pytest.mark.long
@pytest.mark.parametrize("stage", ["fetch_json", "sample_clouds", "encode_latents_sharded", "train_align"])
def test_a_really_full_disk_is_said_and_the_next_run_succeeds(
    project: Project, tmp_path: Path, stage: str
) -> None:
    mountable = ["unshare", "--user", "--map-root-user", "--mount"]
    if (
        not shutil.which("unshare")
        or subprocess.run(
            [*mountable, "mount", "-t", "tmpfs", "none", str(tmp_path)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no tmpfs can be mounted here without rights")
    outs = STAGES[stage]
    wanted = project.hashes(*outs)
    remove(project, outs)
    shutil.rmtree(project.root / ".dvc" / "cache")  # to be small
    (tmp_path / "disk").mkdir()
    where = [str(tmp_path / "disk"), str(project.root)]
    said = subprocess.run(
        [*mountable, "sh", "-c", FULL_DISK, "sh", *where, *command_of(stage)],
        env=unmeasured(project) | {"OUTS": " ".join(outs)}, cwd=project.root, text=True, check=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ).stdout  # fmt: skip
    first, second, listing = re.split(r"^code \d+\n", said, flags=re.M)
    codes = [int(code) for code in re.findall(r"^code (\d+)$", said, re.M)]
    check_full(stage, codes[0], first)
    assert codes[1] == 0, second
    found = {name: digest for digest, name in (line.split() for line in listing.splitlines())}
    assert found == wanted


# --- damage on disk


def damaged_copies(data: bytes, count: int) -> list[bytes]:
    """Make copies with a flipped bit, a block of zeros, or a missing end; the same ones each time."""
    draw = random.Random(0)
    copies = []
    for number in range(count):
        copy = bytearray(data)
        place = draw.randrange(len(data))
        if number % 4 == 3:
            copy[place : place + 512] = bytes(len(copy[place : place + 512]))
        elif number % 8 == 2:
            del copy[place:]
        else:
            copy[place] ^= 1 << draw.randrange(8)
        copies.append(bytes(copy))
    return copies


LAYOUT = Layout(points=4, features=2)


def mouth(number: int) -> Mouth:
    """Make a mouth of random numbers with the layout above."""
    rng = np.random.default_rng(number)
    return Mouth(
        points=rng.normal(size=(32, 4, 3)).astype(np.float32),
        pose=rng.normal(size=(2, 32, 4, 4)),
        present=rng.random((2, 32)) < 0.8,
        fdi=rng.integers(11, 49, 32).astype(np.uint8),
        dropped=rng.random(32) < 0.1,
        latents=rng.normal(size=(2, 32, 4, 2)).astype(np.float16),
        case_id=f"case-{number}",
        split="train",
    )


def test_a_damaged_shard_is_named_and_never_read_as_data(tmp_path: Path, state: Path) -> None:
    path = tmp_path / "a.h5"
    mouths = [mouth(number) for number in range(3)]
    with mouth_store.create(path, LAYOUT, {"shard": "shard-000"}) as writer:
        for one in mouths:
            writer.append(one)
        writer.write_record("left_out", [1, 2])
    with MouthStore(path) as store:
        attributes = str(store.attributes)
    named: list[str] = []
    for copy in damaged_copies(path.read_bytes(), 400):
        path.write_bytes(copy)
        try:
            with MouthStore(path) as store:
                assert len(store) == 3
                for number, wanted in enumerate(mouths):
                    found = store.mouth(number)
                    for name, value in vars(wanted).items():
                        np.testing.assert_array_equal(getattr(found, name), value)
                assert store.record("left_out") == [1, 2]
                assert str(store.attributes) == attributes
        except DentalignError as error:
            named.append(str(error))
    assert all(error.startswith(f"{path}: ") for error in named)
    assert len(named) > 40  # the others hit what HDF5 does not use


def test_damaged_weights_are_named_and_never_used(tmp_path: Path) -> None:
    path = tmp_path / "decoder.pt"
    network = Decoder(DecoderConfig(8))
    weights.save(path, network)
    wanted = network.state_dict()
    named: list[str] = []
    for copy in damaged_copies(path.read_bytes(), 200):
        path.write_bytes(copy)
        try:
            found = weights.load(path, Decoder, DecoderConfig).state_dict()
            assert all(torch.equal(found[name], wanted[name]) for name in wanted)
        except DentalignError as error:
            named.append(str(error))
    assert all(error.startswith(f"{path}: ") for error in named)
    assert len(named) > 50


def test_weights_of_the_user_s_own_need_no_checksum_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.pt"
    weights.save(path, Decoder(DecoderConfig(8)))
    content = torch.load(path, weights_only=True)
    name = next(iter(content["state_dict"]))
    content["state_dict"][name] = content["state_dict"][name] + 1
    torch.save(content, path)
    with pytest.raises(DentalignError, match=r"own\.pt: damaged, or changed .*leave 'sha256' out"):
        weights.load(path, Decoder, DecoderConfig)
    del content["sha256"]
    torch.save(content, path)
    weights.load(path, Decoder, DecoderConfig)


def test_a_changed_digit_in_a_manifest_is_noticed(project: Project) -> None:
    file = project.root / "data" / "transforms" / f"{SHARDS[0]}.json"
    text = file.read_text(encoding="utf-8")
    place = re.search(r"0\.\d{6}", text)
    assert place
    last = place.end() - 1
    file.write_text(text[:last] + str(9 - int(text[last])) + text[last + 1 :], encoding="utf-8")
    with pytest.raises(DentalignError, match="not a manifest of rigid_transforms"):
        Manifest.load(file)


def test_a_changed_digit_in_a_cached_document_is_not_believed(
    tmp_path: Path, state: Path, document: Callable[..., dict[str, Any]]
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a.json").write_text(json.dumps(document("a")))
    (tmp_path / "list.csv").write_text("case_id\na\n")

    def run() -> fetch.FetchResult:
        return fetch.fetch_cases(
            tmp_path / "list.csv", str(tmp_path / "store"), out=tmp_path / "json",
            cases_out=tmp_path / "cases.csv", left_out=tmp_path / "left_out.json",
            fetch=Fetch(), limits=Limits(),
        )  # fmt: skip

    run()
    first = (tmp_path / "json" / "a.json").read_bytes()
    assert run().unchanged == 1
    (cached,) = (state / "fetch").rglob("a.json")
    changed = cached.read_text().replace(r"\"x\":11", r"\"x\":12", 1)
    assert changed != cached.read_text()
    cached.write_text(changed)
    assert run().unchanged == 0
    assert (tmp_path / "json" / "a.json").read_bytes() == first


def flip(path: Path, place: int) -> None:
    """Flip a bit and keep the file's times, by which DVC tells a change."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[place] ^= 16
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_damaged_checkpoints_and_codes_are_made_again_and_the_result_is_the_same(project: Project) -> None:
    wanted = project.hashes("models/alignment.pt", "reports/train_align")
    for file in (project.root / ".dentalign").rglob("*"):
        if file.suffix in (".pt", ".npz"):
            flip(file, int(0.6 * file.stat().st_size))
    said = project.run(*command_of("train_align")).stdout
    assert "damaged checkpoint ignored" in said
    assert "latent_codes" in said
    assert "damaged, made again" in said
    assert project.hashes("models/alignment.pt", "reports/train_align") == wanted


def test_a_truncated_shard_is_made_again_and_a_changed_one_is_named(project: Project) -> None:
    wanted = project.hashes("data/latents", "data/latents.h5")
    shard = project.root / "data" / "latents" / f"{SHARDS[1]}.h5"
    shard.write_bytes(shard.read_bytes()[:-1000])
    project.dvc("repro", "concat_hdf5")
    assert project.hashes("data/latents", "data/latents.h5") == wanted

    with h5py.File(shard) as file:  # elsewhere in the file may be nothing that counts
        place = file["t2/latents"].id.get_chunk_info(0).byte_offset
    flip(shard, place + 1000)
    done = project.run(*command_of("concat_hdf5"), check=False)
    assert done.returncode == 1
    assert re.search(rf"^error: data/latents/{SHARDS[1]}\.h5: damaged, .*delete it, then", done.stdout, re.M)
    shard.unlink()
    project.dvc("repro", "concat_hdf5")
    assert project.hashes("data/latents", "data/latents.h5") == wanted


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path, state: Path) -> None:
    for name in (".a.h5.123.part", ".ab.h5.123.part"):
        (tmp_path / name).touch()
    (tmp_path / ".a.h5.124.part").mkdir()
    with mouth_store.create(tmp_path / "a.h5", LAYOUT, {}):
        pass
    assert sorted(path.name for path in tmp_path.glob("*") if path.suffix) == [".ab.h5.123.part", "a.h5"]


# --- kills, and two at once


@pytest.mark.slow
def test_killed_at_random_moments_the_pipeline_ends_as_if_undisturbed(
    finished_project: Project, tmp_path: Path
) -> None:
    fresh = finished_project.copy(tmp_path / "fresh")
    for name in ("data/latents", "data/latents.h5", "models", "reports", "metrics/validation.json"):
        path = fresh.root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(fresh.root / ".dentalign")
    shutil.rmtree(fresh.root / ".dvc" / "cache" / "runs")  # nothing is taken from an earlier run
    result = kill_pipeline.kill_and_compare(
        fresh, finished_project, tmp_path, kills=3, draw=random.Random(2), longest_s=6.0
    )
    assert result.kills.total() == 3
    assert result.files > 20
    assert not result.differing


@pytest.mark.long
def test_two_runs_at_once_end_with_the_outputs_of_one(project: Project) -> None:
    wanted = project.hashes(*kill_pipeline.OUTPUTS)
    words = (sys.executable, "-m", "dvc", "repro", "--force", "validate")
    both = [project.start(*words) for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in both]
    codes = [process.returncode for process in both]
    assert 0 in codes, said
    for code, text in zip(codes, said, strict=True):
        assert code == 0 or "busy" in text or "lock" in text, text
    assert project.hashes(*kill_pipeline.OUTPUTS) == wanted
    assert pipeline_project.ran(project.dvc("repro").stdout) == []
