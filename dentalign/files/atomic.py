"""Files appear under their final name only when they are complete."""

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
    """A temporary path beside `path`; renamed onto it when the block ends well, else removed.

    The block writes a file or makes a directory at the path it is given. The temporary name holds
    the process number, so that two writers never share one.

    raises: DiskFull where there is no room for it
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
            raise DiskFull(f"{final}: {reason}; make room, then the same command goes on") from error
        raise
    finally:
        _remove(part)


def remove_parts(path: str | Path) -> None:
    """Remove what killed writers of this path left; only for who knows that no other writer is alive."""
    final = Path(path)
    for part in final.parent.glob(f".{glob.escape(final.name)}.*.part"):
        _remove(part)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text with newlines as they are, all or nothing."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write bytes, all or nothing."""
    with replacing(path) as part:
        part.write_bytes(data)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
