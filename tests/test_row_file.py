"""Rows in a file: what was written is read, in any order, and memory does not grow with the file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dentalign.training.row_file import RowFile

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


@pytest.mark.skipif(sys.platform == "win32", reason="no resource module there")
def test_reading_all_of_a_large_file_takes_no_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.ones((1024, 4, 4096), np.float32))  # 64 MB
    script = """
import resource, sys
import numpy as np
from pathlib import Path
from dentalign.training.row_file import RowFile
file, shape = RowFile.of_npy(Path(sys.argv[1]), 2)
file.read(np.arange(8))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total = sum(float(file.read(np.array([row])).sum()) for row in range(4096))
assert total == 4096 * 4096
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "z.npy")], capture_output=True, text=True, check=True
    )
    grown = int(done.stdout) * (1 if sys.platform == "darwin" else 1024)
    assert grown < 8e6
