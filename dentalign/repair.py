"""Removal of DVC's own files that a killed DVC left half written; DVC does not start with such files."""

import json
import re
from pathlib import Path

import yaml
from dvc.config import Config
from dvc.lock import LockError, make_lock
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from voluptuous import Invalid

from dentalign.errors import DentalignError

_CONFLICT = re.compile(rb"^(<{7}|\|{7}|>{7}) ", re.MULTILINE)
_STAGE = re.compile(rb"^  \S", re.MULTILINE)
_HEAD = b"schema: '2.0'\nstages:\n"


def remove_half_written(root: Path) -> list[Path]:
    """Delete the files that a killed DVC left half written in the repository at `root`; return their paths.

    No result is lost: DVC finds finished pipeline stages in its run cache, and the file `rwlock` only records
    which DVC processes are running.

    raises: DentalignError if `root` is no DVC repository or not in git, if a DVC is running in it, or if a
            `dvc.lock` is damaged in another way, such as by a merge; then nothing is deleted
    """
    tmp = root / ".dvc" / "tmp"
    if not (root / ".dvc").is_dir():
        raise DentalignError(f"{root.resolve()}: no DVC repository; go to the folder that holds .dvc")
    _need_git(root.resolve())
    tmp.mkdir(exist_ok=True)
    try:
        # DVC writes each of the two kinds while it holds one of these locks.
        repository, rwlock = (make_lock(str(tmp / n), tmp_dir=str(tmp)) for n in ("lock", "rwlock.lock"))
        with repository, rwlock:
            locks = [pipeline.with_name("dvc.lock") for pipeline in root.glob("dvc.yaml")]
            locks += [pipeline.with_name("dvc.lock") for pipeline in sorted(root.glob("*/dvc.yaml"))]
            removed = [lock for lock in locks if lock.is_file() and _is_half_written(lock)]
            for lock in removed:
                lock.unlink()
            if not _is_json(tmp / "rwlock"):
                (tmp / "rwlock").unlink()
                removed.append(tmp / "rwlock")
    except LockError as error:
        seen = "DVC is running here; wait until it has ended (or does this drive not support locks?)"
        raise DentalignError(f"{root.resolve()}: {seen}") from error
    return removed


def _need_git(root: Path) -> None:
    """Refuse a copy without `.git`, such as an unpacked ZIP: DVC's own error names no remedy."""
    if any((folder / ".git").exists() for folder in (root, *root.parents)):
        return
    if not Config(str(root / ".dvc")).get("core", {}).get("no_scm"):
        raise DentalignError(
            f"{root}: no git repository, which DVC needs (an unpacked ZIP?): run `git init`, `git add --all` "
            "and `git commit -m start` there, then the same command again"
        )


def _is_half_written(lock: Path) -> bool:
    """True for the beginning of a lock file, False for a whole one; raises DentalignError otherwise."""
    content = lock.read_bytes()
    if _is_lock_file(content):
        return False
    if _CONFLICT.search(content):
        raise DentalignError(
            f"{lock}: holds a merge conflict; resolve the conflict (`git checkout --ours {lock}` takes your "
            "side), then `dvc repro`"
        )
    written = content.rstrip(b"\0")  # a power cut leaves zeros
    before_last_stage = written[: max((stage.start() for stage in _STAGE.finditer(written)), default=0)]
    if _HEAD.startswith(written) or before_last_stage == _HEAD or _is_lock_file(before_last_stage):
        return True
    raise DentalignError(
        f"{lock}: damaged, but not by a killed DVC, which leaves the beginning of a lock file; "
        f"take a good one back (`git checkout {lock}`)"
    )


def _is_lock_file(content: bytes) -> bool:
    try:
        COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(content))
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
