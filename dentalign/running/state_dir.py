"""Where dentalign keeps what outlives a run but is no output: caches and checkpoints."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_instead: list[Path] = []


def state_dir() -> Path:
    """The git-ignored folder `.dentalign` of the project (`DVC_ROOT` if set, else the working folder).

    DVC deletes the outputs of a stage before it runs, and names the main repository in DVC_ROOT even
    for an experiment in a temporary copy: what is to be found again next time must live here.
    """
    return _instead[-1] if _instead else Path(os.environ.get("DVC_ROOT") or Path.cwd()) / ".dentalign"


@contextmanager
def kept_in(folder: str | Path) -> Iterator[None]:
    """Within the block `state_dir` is this folder, for work that is to leave nothing behind."""
    _instead.append(Path(folder))
    try:
        yield
    finally:
        _instead.pop()
