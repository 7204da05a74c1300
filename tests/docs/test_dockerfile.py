"""Dockerfile of the GPU box: checks that need no docker, and its build if there is docker."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_its_constraints_name_the_torch_of_its_own_index_and_no_other(tmp_path: Path) -> None:
    (step,) = (line for line in instructions("RUN") if "constraints.txt >" in line)
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    written = step.split(" && pip install")[0].replace("/tmp/constraints.txt", "out.txt")
    written = re.split(r"\s+&& pip install", written)[0]
    words = ["sh", "-c", written]
    subprocess.run(words, cwd=tmp_path, check=True, env={"TORCH_VERSION": "9.9", "PATH": "/usr/bin:/bin"})
    lines = (tmp_path / "out.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("torch")] == ["torch==9.9"]
    assert len(lines) == len((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())


def test_what_it_runs_by_default_imports_here() -> None:
    for module in ("dvc_ssh", "dvc_s3"):
        if importlib.util.find_spec(module) is None:
            pytest.skip("dvc[ssh,s3] is not installed: pip install -e '.[remote]'")
    (command,) = instructions("CMD")
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
