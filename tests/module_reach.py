"""What the stages of this repository reach, as dvc.yaml has to list it.

Run as a script it writes that into the pipeline files: each stage's `deps` of Python files.
"""

import re
from pathlib import Path

from dentalign import reached_modules

ROOT = Path(__file__).resolve().parents[1]
PER_SHARD = "stages/shard_code.py"  # lists the modules of the stages that it names, for all their shards


def reached(script: Path) -> set[str]:
    """Paths, relative to the repository, of the script and of every dentalign module it reaches."""
    return reached_modules.reached(script, ROOT)


def imported(file: Path) -> list[Path]:
    """The dentalign modules that a file imports itself, and the packages above them."""
    return reached_modules.imported(file, ROOT)


def per_shard(pipeline: str) -> list[str]:
    """Scripts of the stages whose modules `shard_code` lists, by the text of a pipeline file."""
    named = re.search(rf"python {PER_SHARD} (.*)", pipeline)
    return [f"stages/{stage}.py" for stage in named[1].split()] if named else []


def modules_of(script: str, pipeline: str) -> list[str]:
    """The Python files that the stage of a script lists in a pipeline file; the script closes the list."""
    sharded = per_shard(pipeline)
    if script in sharded:
        return [script]
    together = (script, *sharded) if script == PER_SHARD else (script,)
    return [*sorted(set().union(*(reached(ROOT / each) for each in together)) - {script}), script]


def with_modules(pipeline: str) -> str:
    """The text of a pipeline file, each stage's list of Python files brought up to date."""
    lines: list[str] = []
    script = ""
    for line in pipeline.splitlines():
        if found := re.search(r"python (stages/\w+\.py)", line):
            script = found[1]
        if listed := re.match(r"( +- )(\S+\.py)$", line):
            if listed[2] == script:
                lines += [f"{listed[1]}{module}" for module in modules_of(script, pipeline)]
        else:
            lines.append(line)
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    for name in ("dvc.yaml", "data/dvc.yaml"):
        file = ROOT / name
        file.write_text(with_modules(file.read_text(encoding="utf-8")), encoding="utf-8")
