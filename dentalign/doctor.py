"""Examination of the machine: versions, GPU, DVC and its cache, disk, models, and what would be slow."""

import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch

from dentalign.errors import DentalignError
from dentalign.prediction import model_sets

COLUMNS = ("what", "found", "verdict", "what to do")
FEWEST_GB = 10.0  # the demo takes under 1 GB, the meshes of 1,000 cases some 4 GB
EXTRAS = {"serve": "fastapi", "export": "onnx", "cluster": "distributed", "remote": "dvc_s3"}


@dataclass(frozen=True)
class Finding:
    """Finding about the machine.

    what    : what was looked at
    found   : what was found, with figures
    verdict : "good"; "slow", if everything works and something takes longer than it must; "missing", if
              something fails without it
    fix     : what to do; "" if there is nothing to do
    """

    what: str
    found: str
    verdict: Literal["good", "slow", "missing"] = "good"
    fix: str = ""


def examine() -> list[Finding]:
    """Examine the machine and the working folder; a file is in DVC's cache for a moment, nothing stays."""
    return [*_python(), *_torch(), *_dvc(), *_disk(), *_models(), *_extras()]


def _python() -> Iterator[Finding]:
    yield Finding("dentalign", f"{version('dentalign')} on Python {platform.python_version()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    slow = "crowns are read by one process per core: use a machine with more"
    yield Finding("processor", f"{cores} cores, {platform.machine()}", *(() if cores > 1 else ("slow", slow)))


def _torch() -> Iterator[Finding]:
    found = f"{torch.__version__}, {torch.get_num_threads()} threads"
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads == "1" and (os.cpu_count() or 1) > 1:
        fix = "unset OMP_NUM_THREADS, unless several commands share the machine"
        yield Finding("torch", f"{found} (OMP_NUM_THREADS={threads})", "slow", fix)
    else:
        yield Finding("torch", found)
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(number)
            yield Finding("GPU", f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")
    elif torch.version.cuda is None and shutil.which("nvidia-smi"):
        fix = "install torch with CUDA: https://pytorch.org/get-started/locally"
        yield Finding("GPU", "there is one by nvidia-smi, and this torch is built without CUDA", "slow", fix)
    else:
        fix = "predict needs none; train on over a few hundred cases where there is one (docs/machines.md)"
        yield Finding("GPU", "none that torch sees", "slow", fix)


def _dvc() -> Iterator[Finding]:
    git = shutil.which("git")
    if git is None:
        yield Finding("git", "not found", "missing", "install it: DVC needs it; predict does not")
    else:
        said = subprocess.run([git, "--version"], capture_output=True, text=True, check=False)
        yield Finding("git", said.stdout.strip().removeprefix("git version "))
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repo = Repo()
    except DvcException:
        yield Finding("DVC", f"{version('dvc')}; this folder is no DVC project, which predict does not need")
        return
    with repo:
        yield Finding("DVC", f"{version('dvc')}, project {repo.root_dir}")
        yield _links(repo.cache.local, repo.fs, repo.root_dir)


def _links(cache: object, fs: object, root: str) -> Finding:
    """Examine which links from the project into the cache its file system can make."""
    from dvc.fs import generic

    path, wanted = cache.path, cache.cache_types  # type: ignore[attr-defined]
    Path(path).mkdir(parents=True, exist_ok=True)
    kinds = generic.test_links(["reflink", "hardlink", "symlink"], cache.fs, path, fs, root)  # type: ignore[attr-defined]
    found = f"can be {', '.join(kinds) or 'copies only'}; cache.type is {','.join(wanted)}"
    if next((kind for kind in wanted if kind in kinds or kind == "copy"), "copy") != "copy":
        return Finding("cache links", found)
    fix = "every tracked file stands on the disk twice: btrfs, XFS or APFS have reflinks (docs/machines.md)"
    return Finding("cache links", f"{found}: copies", "slow", fix)


def _disk() -> Iterator[Finding]:
    places = {"disk, working folder": Path.cwd(), "disk, temporary files": Path(tempfile.gettempdir())}
    for what, place in places.items():
        free = shutil.disk_usage(place).free / 1e9
        few = ("slow", "make room before a pipeline is run") if free < FEWEST_GB else ()
        yield Finding(what, f"{free:.0f} GB free in {place}", *few)
        if not os.access(place, os.W_OK):
            yield Finding(what, f"{place} cannot be written", "missing", "change to another folder")


def _models() -> Iterator[Finding]:
    try:
        chosen = model_sets.find_models()
        if chosen.is_complete:
            yield Finding("models", str(chosen))
            return
        seen = "neither trained models in models/ nor starter weights"
    except DentalignError as error:
        seen = str(error)
    yield Finding("models", seen, "missing", "`dvc repro` trains some; or name a folder with --models DIR")


def _extras() -> Iterator[Finding]:
    there = [name for name, module in EXTRAS.items() if importlib.util.find_spec(module)]
    absent = [name for name in EXTRAS if name not in there]
    fix = f"to add one: pip install 'dentalign[{absent[0]}]'" if absent else ""
    found = f"installed: {', '.join(there) or 'none'}; not installed: {', '.join(absent) or 'none'}"
    yield Finding("extras", found, "good", fix)
