"""Freed memory is kept for the next tensor, unless the user has set another threshold."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these limits")

# Page faults while 16 MiB are taken, filled and given back fifty times over, by the C library itself.
PROGRAM = """
import ctypes, resource, sys
from dentalign.running import allocator
if "keep" in sys.argv:
    allocator.keep_freed_memory()
c, size = ctypes.CDLL(None), 16 << 20
c.malloc.restype = ctypes.c_void_p
for number in range(51):
    if number == 1:  # the first has to be new
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pieces = [ctypes.c_void_p(c.malloc(size // 4)) for _ in range(4)]
    for piece in pieces:
        ctypes.memset(piece, 1, size // 4)
    for piece in pieces:
        c.free(piece)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(*arguments: str, **variables: str) -> int:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=environment | variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


def test_what_was_free_a_moment_ago_is_not_cleared_again() -> None:
    assert page_faults("keep") < 5_000 < page_faults()  # 4,096 pages each time


def test_what_the_user_set_stays() -> None:
    assert page_faults("keep", MALLOC_TRIM_THRESHOLD_="100000") > 5_000
    assert page_faults("keep", GLIBC_TUNABLES="glibc.malloc.trim_threshold=100000") > 5_000
