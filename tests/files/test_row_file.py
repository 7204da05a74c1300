"""Rows in a file: what was written is read, in any order, and memory does not grow with the file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dentalign.files.row_file import RowFile

NAMED = np.dtype([("a", "<f4", (3, 2)), ("b", "?", (4,))])


def test_rows_are_read_in_the_order_asked_for_also_twice(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5, 2, 3, 4)).astype(np.float32)
    np.save(tmp_path / "z.npy", values)
    file, shape = RowFile.of_npy(tmp_path / "z.npy", 2)
    assert shape == values.shape
    np.testing.assert_array_equal(file.read(np.array([9, 0, 3, 3])), values.reshape(10, 3, 4)[[9, 0, 3, 3]])
    np.testing.assert_array_equal(file.read_from(4, 6), values.reshape(10, 3, 4)[4:])
    assert file.read(np.array([], int)).shape == (0, 3, 4)


def test_rows_of_named_parts_are_written_and_written_over(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    values = np.empty(7, NAMED)
    values["a"], values["b"] = rng.normal(size=(7, 3, 2)), rng.random((7, 4)) < 0.5
    file = RowFile.temporary(tmp_path / "new", NAMED)
    file.write(0, values[:4])
    file.write(4, values[4:])
    values["a"][2] = 9
    file.write(2, values[2:3])
    np.testing.assert_array_equal(file.read_from(0, 7), values)
    del file
    assert not list((tmp_path / "new").iterdir())


def test_a_file_that_ends_too_soon_is_told(tmp_path: Path) -> None:
    file = RowFile.temporary(tmp_path, NAMED)
    file.write(0, np.zeros(2, NAMED))
    with pytest.raises(EOFError, match="ends before row 3"):
        file.read_from(1, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak of a program's memory")
@pytest.mark.parametrize("mapped", [False, True])
def test_reading_all_of_a_large_file_takes_no_memory_unlike_mapping_it(tmp_path: Path, mapped: bool) -> None:
    np.save(tmp_path / "z.npy", np.ones((1024, 4, 4096), np.float32))  # 64 MB
    script = """
import sys
import numpy as np
from pathlib import Path
from dentalign.files.row_file import RowFile

def peak_kb():  # not ru_maxrss, which a program takes over from the one that starts it
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

file, shape = RowFile.of_npy(Path(sys.argv[1]), 2)
array = np.load(sys.argv[1], mmap_mode="r").reshape(4096, 4096)
read = array.__getitem__ if sys.argv[2] == "True" else file.read
read(np.arange(8))
before = peak_kb()
assert sum(float(read(np.array([row])).sum()) for row in range(4096)) == 4096 * 4096
print(peak_kb() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "z.npy"), str(mapped)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    grown_mb = int(done.stdout) / 1e3
    assert grown_mb > 50 if mapped else grown_mb < 8
