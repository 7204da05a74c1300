"""Which files of this repository a stage's script reaches by its imports, and what is in them."""

import ast
import hashlib
from pathlib import Path

from dentalign.errors import DentalignError

ROOT = Path(__file__).resolve().parents[1]  # of the code that runs


def reached(script: Path, root: Path) -> set[str]:
    """The script and every module of dentalign that it reaches, lazily imported ones included.

    root    : the folder that holds dentalign/
    returns : paths from there
    """
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += imported(file, root)
    return {path.relative_to(root).as_posix() for path in found}


def imported(file: Path, root: Path) -> list[Path]:
    """The dentalign modules that a file imports itself, and the packages above them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level or not node.module:
                raise ValueError(f"{file}: a relative import, of which nobody would see what it reaches")
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    modules = []
    for name in names:
        parts = name.split(".")
        if parts[0] == "dentalign":
            # Importing a module runs the __init__ of every package above it, too.
            for depth in range(1, len(parts) + 1):
                base = root.joinpath(*parts[:depth])
                either = (base.with_suffix(".py"), base / "__init__.py")
                modules += [path for path in either if path.is_file()]
    return modules


def checksums(script: Path, root: Path) -> str:
    """A line for each file that a script reaches, SHA-256 and path as `sha256sum` writes them."""
    files = sorted(reached(script, root))
    return "".join(f"{hashlib.sha256((root / file).read_bytes()).hexdigest()}  {file}\n" for file in files)


def check(listed: Path) -> None:
    """See that the code that runs is the code of a list that `checksums` wrote.

    `dvc repro --single-item` looks at no stage above the one it is given, so a list may be of older code.

    raises: DentalignError where a file has changed, or the list is not there
    """
    mend = "`dvc repro -s shard_code` lists it anew; name that stage before the shards"
    try:
        lines = listed.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise DentalignError(f"{listed}: not there; {mend}") from error
    for line in lines:
        digest, _, file = line.partition("  ")
        path = ROOT / file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise DentalignError(f"{listed}: {file} has changed since; {mend}")
