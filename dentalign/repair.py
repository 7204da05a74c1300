"""DVC's own files that a killed DVC can leave half written, and then refuses to start with."""

import json
from collections.abc import Iterator
from pathlib import Path

import yaml
from dvc.lock import LockError, make_lock
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from voluptuous import Invalid

from dentalign.errors import DentalignError


def remove_half_written(root: Path) -> list[Path]:
    """Delete what a killed DVC left half written in the repository at `root`; the paths of those files.

    Nothing that counts is in them: what `dvc.lock` said of finished stages DVC finds again in its cache of
    runs, and the file `rwlock` only says which DVC is at work.

    raises: DentalignError where there is no DVC repository, or where a DVC is at work in it
    """
    tmp = root / ".dvc" / "tmp"
    if not (root / ".dvc").is_dir():
        raise DentalignError(f"{root.resolve()}: no DVC repository; go to the folder that holds .dvc")
    tmp.mkdir(exist_ok=True)
    removed = []
    try:
        # DVC writes each of the two kinds while it holds one of these locks.
        with make_lock(str(tmp / "lock"), tmp_dir=str(tmp)):
            removed += [path for path in _lock_files(root) if not _is_lock_file(path)]
            for path in removed:
                path.unlink()
        with make_lock(str(tmp / "rwlock.lock"), tmp_dir=str(tmp)):
            if not _is_json(tmp / "rwlock"):
                (tmp / "rwlock").unlink()
                removed.append(tmp / "rwlock")
    except LockError as error:
        raise DentalignError(f"{root.resolve()}: a DVC is at work here; wait until it has ended") from error
    return removed


def _lock_files(root: Path) -> Iterator[Path]:
    for pipeline in (root / "dvc.yaml", *sorted(root.glob("*/dvc.yaml"))):
        lock = pipeline.with_name("dvc.lock")
        if lock.is_file():
            yield lock


def _is_lock_file(path: Path) -> bool:
    try:
        COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(path.read_bytes()))
    except (yaml.YAMLError, Invalid, UnicodeDecodeError):
        return False
    return True


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return True
