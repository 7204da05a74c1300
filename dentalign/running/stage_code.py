"""Code that a stage's output depends on: the files reached by its imports, and their digest.

`dvc.yaml` lists these files, most by their folder, as deps; a checkpoint's key contains their digest.
"""

import ast
import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # folder that contains dentalign/

# Reached by stages and listed by none, each with the reason.
NO_DEPENDENCY = {
    "dentalign/__init__.py": "imports public names on demand; defines nothing itself",
    "dentalign/errors.py": "exception classes; the texts of errors stand where they are raised",
    "dentalign/params.py": "reader of params.yaml, whose values DVC compares itself",
    "dentalign/running": "progress, locks, processes, profiler: how a stage runs, not what it computes",
}


def reached(script: Path, root: Path = ROOT) -> list[str]:
    """List the Python files behind a script's output, sorted: itself and the dentalign modules it imports.

    Imports inside functions count. `__init__.py` of packages (docstrings) and NO_DEPENDENCY do not.

    root    : folder that contains dentalign/
    returns : POSIX paths relative to `root`
    raises  : ValueError for a relative import
    """
    found: set[Path] = set()
    waiting = [script.resolve()]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += imported(file, root)
    paths = {path.relative_to(root).as_posix() for path in found}
    return sorted(path for path in paths if not _is_no_dependency(path))


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
    """Return the SHA-256, hexadecimal, of the files that `reached` lists: their paths and contents."""
    digest = hashlib.sha256()
    for path in reached(Path(script), root):
        digest.update(f"{path} {hashlib.sha256((root / path).read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _is_no_dependency(path: str) -> bool:
    folders = {parent.as_posix() for parent in Path(path).parents}
    return path.endswith("/__init__.py") or path in NO_DEPENDENCY or bool(folders & NO_DEPENDENCY.keys())
