"""Folder of caches, checkpoints and locks, which outlive a run but are no outputs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_replaced_by: list[Path] = []


def state_dir() -> Path:
    """Folder `.dentalign` of the project (`DVC_ROOT` if set, else the working folder), ignored by git.

    DVC deletes the outputs of a pipeline stage before it runs the stage, so a checkpoint cannot be an output.
    For an experiment in a temporary copy DVC_ROOT is the main repository, so experiments share the folder.
    """
    return _replaced_by[-1] if _replaced_by else Path(os.environ.get("DVC_ROOT") or Path.cwd()) / ".dentalign"


@contextmanager
def kept_in(folder: str | Path) -> Iterator[None]:
    """Use another folder as `state_dir` in the block, for work that leaves nothing in the project."""
    _replaced_by.append(Path(folder))
    try:
        yield
    finally:
        _replaced_by.pop()
