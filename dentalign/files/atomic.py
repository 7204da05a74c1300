"""Atomic writes: a file or folder gets its final name only when it is complete."""

import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dentalign.errors import DiskFull

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path, which is renamed to `path` if the `with` block succeeds, and removed if not.

    The block writes a file or folder to the temporary path, which is beside `path` and unique to the process.

    raises: DiskFull if the disk, a quota or a limit on file sizes refuses a write
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f".{final.name}.{os.getpid()}.part")
    _remove(part)
    try:
        yield part
        if final.is_dir():
            shutil.rmtree(final)
        os.replace(part, final)
    except OSError as error:
        if error.errno in FULL:
            reason = os.strerror(error.errno)
            raise DiskFull(f"{final}: {reason}; make room, then run the same command again") from error
        raise
    finally:
        _remove(part)


def remove_parts(path: str | Path) -> None:
    """Remove temporary files of `path` left by killed processes; the caller must hold the lock on `path`."""
    final = Path(path)
    for part in final.parent.glob(f".{glob.escape(final.name)}.*.part"):
        _remove(part)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically; newlines stay as they are."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write bytes atomically."""
    with replacing(path) as part:
        part.write_bytes(data)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
