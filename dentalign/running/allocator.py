"""How the C library keeps memory that was given back: for the next tensor of that size."""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_VARIABLES = {"MALLOC_TRIM_THRESHOLD_": 1 << 28, "MALLOC_MMAP_THRESHOLD_": 1 << 25}  # bytes


def keep_freed_memory() -> None:
    """Let glibc keep up to 256 MiB a thread that is free, and map only pieces from 32 MiB on by themselves.

    To be called before there are other threads.

    By default it gives a megabyte back as soon as it is free, and the system clears it page by page when the
    next tensor wants it: adding two tensors of 1 MiB took thirteen times as long. glibc raises its limits by
    itself, up to the same 32 MiB, but only as far as what has been freed so far. Child processes inherit the
    limits as environment variables; where the user has set one, nothing is changed. Elsewhere than on glibc
    this does nothing.
    """
    told = any(name in os.environ for name in _VARIABLES) or "glibc.malloc" in os.environ.get(
        "GLIBC_TUNABLES", ""
    )
    if told or not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    os.environ.update({name: str(value) for name, value in _VARIABLES.items()})
    mallopt(_TRIM_THRESHOLD, _VARIABLES["MALLOC_TRIM_THRESHOLD_"])
    mallopt(_MMAP_THRESHOLD, _VARIABLES["MALLOC_MMAP_THRESHOLD_"])
