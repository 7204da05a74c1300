"""Source code that the output of a pipeline stage depends on: files reached by its imports, and their hash.

`dvc.yaml` lists these files as deps, most of them by their folder; the key of a checkpoint contains the hash.
"""

import ast
from pathlib import Path

from dentalign.files import hashing

ROOT = Path(__file__).resolve().parents[2]  # folder that contains dentalign/

# Reached by stages and listed by none, each with the reason.
NO_DEPENDENCY = {
    "dentalign/__init__.py": "imports public names on demand; defines nothing itself",
    "dentalign/errors.py": "exception classes; the texts of errors stand where they are raised",
    "dentalign/params.py": "reader of params.yaml, whose values DVC compares itself",
    "dentalign/running": "progress, locks, processes, profiler: how a stage runs, not what it computes",
}


def reached(script: Path, root: Path = ROOT) -> list[str]:
    """List the Python files that a script's output depends on: itself and all dentalign modules it reaches.

    Reached are modules that the script or another reached module imports, even inside a function.
    `__init__.py` of packages (docstrings) and NO_DEPENDENCY are left out, and their imports not followed.

    root    : folder that contains dentalign/
    returns : POSIX paths relative to `root`, sorted
    raises  : ValueError for a relative import
    """
    found: set[str] = set()
    waiting = [script.resolve()]
    while waiting:
        file = waiting.pop()
        path = file.relative_to(root).as_posix()
        if path not in found and not _is_no_dependency(path):
            found.add(path)
            waiting += imported(file, root)
    return sorted(found)


def imported(file: Path, root: Path = ROOT) -> list[Path]:
    """List the dentalign modules that one file imports; raises ValueError for a relative import."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level or not node.module:
                raise ValueError(f"{file}: relative import; write it as `from dentalign...`")
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = (name.split(".") for name in names if name.startswith("dentalign."))
    paths = {root.joinpath(*parts).with_suffix(".py") for parts in ours}
    return sorted(path for path in paths if path.is_file())


def code_digest(script: str | Path, root: Path = ROOT) -> str:
    """Return the SHA-256, hexadecimal, of paths and contents of the files that `reached` lists."""
    files = reached(Path(script), root)
    return hashing.sha256("\n".join(f"{path} {hashing.sha256_file(root / path)}" for path in files))


def _is_no_dependency(path: str) -> bool:
    folders = {parent.as_posix() for parent in Path(path).parents}
    return path.endswith("/__init__.py") or path in NO_DEPENDENCY or bool(folders & NO_DEPENDENCY.keys())
