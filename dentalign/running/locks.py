"""Locks that allow one writer per output, even if a pipeline stage outlives its killed DVC."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dentalign.errors import DentalignError
from dentalign.files import atomic, hashing
from dentalign.running.state_dir import state_dir

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def exclusive(path: str | Path) -> Iterator[None]:
    """Hold the lock on `path` for the block; while another process holds it, print a message and wait.

    The lock is the operating system's: it ends with the process, even a killed one. Temporary files that a
    killed writer left beside `path` are removed.

    raises: DentalignError where the file system has no locks
    """
    name = hashing.sha256(str(Path(path).resolve()))[:32]
    file = state_dir() / "locks" / f"{name}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock, pid_file = FileLock(file), file.with_suffix(".pid")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        pid = pid_file.read_text() if pid_file.exists() else "unknown"
        print(f"waiting: process {pid} still writes {path}", file=sys.stderr, flush=True)
        lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise DentalignError(
            f"{file.parent}: this file system has no locks ({os.strerror(error.errno)}); mount it with "
            "locks, or make .dentalign a link to a folder on a local disk"
        ) from error
    try:
        pid_file.write_text(str(os.getpid()))
        atomic.remove_parts(path)
        yield
    finally:
        lock.release()
