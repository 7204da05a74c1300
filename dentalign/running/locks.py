"""One writer at a time: a stage that outlived its pipeline is waited for, never raced."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dentalign.files import atomic
from dentalign.running.state_dir import state_dir


@contextmanager
def exclusive(path: str | Path) -> Iterator[None]:
    """Be the only process that writes `path`; where another one is, say so and wait for its end.

    The lock is the operating system's: it goes with the process, however that ends.
    """
    name = hashlib.sha256(str(Path(path).resolve()).encode()).hexdigest()[:32]
    file = state_dir() / "locks" / f"{name}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(file), file.with_suffix(".pid")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        number = owner.read_text() if owner.exists() else "unknown"
        print(f"waiting: process {number} still writes {path}", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        owner.write_text(str(os.getpid()))
        atomic.remove_parts(path)
        yield
    finally:
        lock.release()
