"""Where dentalign keeps what outlives a run but is no output: caches and checkpoints."""

import os
from pathlib import Path


def state_dir() -> Path:
    """The git-ignored folder `.dentalign` of the project (`DVC_ROOT` if set, else the working folder).

    DVC deletes the outputs of a stage before it runs, and names the main repository in DVC_ROOT even
    for an experiment in a temporary copy: what is to be found again next time must live here.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()) / ".dentalign"
