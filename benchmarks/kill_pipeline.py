"""Kill `dvc repro` at random moments, over and over, and compare what it makes with an undisturbed run.

    nice -n 10 python benchmarks/kill_pipeline.py --kills 50 --seed 0

A small project (20 cases, 3 shards) is run once undisturbed. A second copy is then run, killed after a
random time and started again, until it gets to its end; then its outputs are compared byte for byte, and
it begins anew, until the wanted number of kills is reached. SIGKILL goes to DVC and everything below it
or, every fourth time on average, to DVC alone, so that the stage under way outlives it.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dentalign.repair import remove_half_written
from tests.support import pipeline_project
from tests.support.pipeline_project import Project

OUTPUTS = ("data", "models", "metrics", "reports", "dvc.lock")
DVC_S_OWN = re.compile(r"(^|/)\.[\w-]{20,}\.tmp$")  # with which it finds out what the disk can do
SHORTEST_S = 0.2
ALONE = 0.25  # share of the kills that leave the stage under way alive


@dataclass
class Result:
    """How it went: kills by the stage under way, runs from the start to the end, files that differed."""

    kills: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)  # files DVC left half written, deleted
    runs: int = 0
    files: int = 0
    differing: list[str] = field(default_factory=list)
    left_by_dvc: list[str] = field(default_factory=list)

    def table(self) -> str:
        """One line a stage, and the sum."""
        lines = [f"{'stage under way':<26} kills"]
        lines += [f"{stage:<26} {count:>5}" for stage, count in sorted(self.kills.items())]
        lines.append(f"{'all':<26} {self.kills.total():>5}")
        lines.append(
            f"{self.runs} run(s) to the end, {self.files} files each: "
            f"{len(self.differing)} files differ from the undisturbed run's"
        )
        for file, times in sorted(self.repaired.items()):
            lines.append(f"{file}, left half written by a killed DVC, deleted {times} times")
        if self.left_by_dvc:
            lines.append(f"temporary files of DVC's own left behind: {', '.join(self.left_by_dvc)}")
        return "\n".join(lines)


def kill_and_compare(fresh: Project, undisturbed: Project, folder: Path, kills: int, draw: random.Random,
                     longest_s: float) -> Result:  # fmt: skip
    """Run copies of `fresh` in `folder` with so many kills, and compare with the project `undisturbed`.

    longest_s: a run is killed after a random time of at most so many seconds
    """
    wanted = undisturbed.hashes(*OUTPUTS)
    result = Result(files=len(wanted))
    while result.kills.total() < kills:
        project = fresh.copy(folder / f"run-{result.runs}")
        while result.kills.total() < kills:
            stage = _killed(project, draw, longest_s)
            result.repaired.update(path.name for path in remove_half_written(project.root))
            if stage is None:
                break
            result.kills[stage] += 1
        project.dvc("repro")
        found = project.hashes(*OUTPUTS)
        for name in wanted | found:
            if name not in wanted and DVC_S_OWN.search(name):
                result.left_by_dvc.append(name)
            elif wanted.get(name) != found.get(name):
                result.differing.append(name)
        result.runs += 1
    return result


def _killed(project: Project, draw: random.Random, longest_s: float) -> str | None:
    """Start `dvc repro` and kill it; the stage it was at, or None where it had come to its end."""
    after_s, alone = draw.uniform(SHORTEST_S, longest_s), draw.random() < ALONE
    log = project.root.with_suffix(".log")  # a pipe would break under a stage that outlives DVC
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"], cwd=project.root, env=project.environment,
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            if process.wait(timeout=after_s):
                raise RuntimeError(f"dvc repro failed by itself:\n{log.read_text(encoding='utf-8')}")
            return None
        except subprocess.TimeoutExpired:
            if alone:
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return _stage(log.read_text(encoding="utf-8"))


def _stage(said: str) -> str:
    started = re.findall(r"^Running stage '(?:[^':]*:)?([^'@]+)", said, re.M)
    return started[-1] if started else "(before a stage)"


def main() -> None:
    """Print the table; exit 1 where a file differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest-s", type=float, default=8.0, help="kill after at most so many seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fresh = pipeline_project.make(Path(folder) / "fresh")
        undisturbed = fresh.copy(Path(folder) / "undisturbed")
        undisturbed.dvc("repro")
        draw = random.Random(options.seed)
        result = kill_and_compare(fresh, undisturbed, Path(folder), options.kills, draw, options.longest_s)
    print(result.table())
    if result.differing:
        print("\n".join(sorted(set(result.differing))))
        sys.exit(1)


if __name__ == "__main__":
    main()
