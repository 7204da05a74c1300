"""Dask cluster on this machine for tests: a scheduler and workers, each a process that stands for a node."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.repository import ROOT

LIMIT_S = 120.0


def wait_until(met: Callable[[], bool]) -> None:
    """Wait until a condition holds; fail after LIMIT_S."""
    end = time.monotonic() + LIMIT_S
    while not met():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


class Nodes:
    """Cluster; `address` is its scheduler's."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.workers: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0")
        self.address = self._said("Scheduler at:").split()[-1]

    def add_worker(self, *words: str, path: Path = ROOT) -> "subprocess.Popen[bytes]":
        """Start a worker with the dentalign of a path; nothing restarts it when it dies."""
        number = f"worker {len(self.workers)}"
        options = ("--no-nanny", "--nthreads", "1", "--host", "127.0.0.1", "--name", str(len(self.workers)))
        self.workers.append(self._start("worker", self.address, *options, *words, log=number, path=path))
        wait_until(lambda: "Registered to:" in self.log(number))
        return self.workers[-1]

    def log(self, name: str) -> str:
        """Return the output of the scheduler or of a worker ("worker 0")."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8")

    def end(self) -> None:
        """Kill all processes."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()

    def _said(self, what: str) -> str:
        wait_until(lambda: what in self.log("scheduler") or self.scheduler.poll() is not None)
        return next(line for line in self.log("scheduler").splitlines() if what in line)

    def _start(self, kind: str, *words: str, log: str = "", path: Path = ROOT) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *words, "--no-dashboard"]
        environment = os.environ | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
        self.folder.mkdir(exist_ok=True)
        away = self.folder / "elsewhere"  # a node has a working folder of its own
        away.mkdir(exist_ok=True)
        with open(self.folder / f"{log or kind}.log", "wb") as file:
            return subprocess.Popen(command, cwd=away, env=environment, stdout=file, stderr=file)
