"""Which files of this repository a Python file reaches by its imports, lazy ones included.

Run as a script it writes them into the pipeline files: each stage's `deps` of Python files.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def reached(script: Path) -> set[str]:
    """Paths, relative to the repository, of the script and of every dentalign module it reaches."""
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += imported(file)
    return {path.relative_to(ROOT).as_posix() for path in found}


def imported(file: Path) -> list[Path]:
    """The dentalign modules that a file imports itself, and the packages above them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    modules = []
    for name in names:
        parts = name.split(".")
        if parts[0] == "dentalign":
            # Importing a module runs the __init__ of every package above it, too.
            for depth in range(1, len(parts) + 1):
                base = ROOT.joinpath(*parts[:depth])
                either = (base.with_suffix(".py"), base / "__init__.py")
                modules += [path for path in either if path.is_file()]
    return modules


def with_modules(pipeline: str) -> str:
    """The text of a pipeline file, each stage's list of Python files brought up to date."""
    lines: list[str] = []
    script = ""
    for line in pipeline.splitlines():
        if found := re.search(r"python (stages/\w+\.py)", line):
            script = found[1]
        if listed := re.match(r"( +- )(\S+\.py)$", line):
            if listed[2] == script:  # the script closes the list
                modules = sorted(reached(ROOT / script) - {script})
                lines += [f"{listed[1]}{module}" for module in (*modules, script)]
        else:
            lines.append(line)
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    for name in ("dvc.yaml", "data/dvc.yaml"):
        file = ROOT / name
        file.write_text(with_modules(file.read_text(encoding="utf-8")), encoding="utf-8")
