"""Dockerfile of the GPU box and of the server: checks without docker, and its build if there is docker."""

import importlib.util
import inspect
import json
import re
import shutil
import subprocess
import sys

import pytest

from dentalign import cli
from tests.support.repository import ROOT

LINES = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8")).splitlines()


def instructions(word: str) -> list[str]:
    return [line.removeprefix(word).strip() for line in LINES if line.startswith(f"{word} ")]


def copied() -> list[str]:
    return [source for line in instructions("COPY") for source in line.split()[:-1]]


def test_what_it_copies_exists_and_dockerignore_lets_it_through() -> None:
    let_through = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert "*" in let_through
    for source in copied():
        assert (ROOT / source).exists()
        assert f"!{source}" in let_through
    for hidden in ("data", ".git", ".dvc", ".venv", ".dentalign", "cases"):
        assert f"!{hidden}" not in let_through


def test_every_version_comes_from_the_constraints() -> None:
    steps = [line for line in instructions("RUN") if "pip install" in line]
    assert len(steps) == 2
    assert all("-c constraints.txt" in step and "==" not in step for step in steps)
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("torch=")] == ["torch==2.13.0"]


def test_the_server_starts_with_options_that_there_are() -> None:
    server, _ = (json.loads(command) for command in instructions("CMD"))
    assert server == ["dentalign", "serve", "--host", "0.0.0.0"]
    options = inspect.signature(cli.serve_).parameters
    assert {"host", "port"} <= options.keys() and options["port"].default == 8000


def test_what_it_runs_by_default_imports_here() -> None:
    for module in ("dvc_ssh", "dvc_s3"):
        if importlib.util.find_spec(module) is None:
            pytest.skip("dvc[ssh,s3] is not installed: pip install -e '.[remote]'")
    *_, command = instructions("CMD")
    python, *words = json.loads(command)
    assert python == "python"
    done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
    assert re.fullmatch(r"torch \S+ CUDA \S+ GPUs \d+\n", done.stdout)


@pytest.mark.long
def test_it_builds_and_imports_everything() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], check=False, capture_output=True).returncode:
        pytest.skip("no docker daemon answers here")
    subprocess.run([docker, "build", "--quiet", "--tag", "dentalign-test", str(ROOT)], check=True)
    run = [docker, "run", "--rm", "dentalign-test"]
    assert "torch" in subprocess.run(run, check=True, capture_output=True, text=True).stdout
