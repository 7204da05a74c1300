"""A file of rows of one kind, read as they are needed.

Not mapped into memory: what was read of a mapped file counts as the program's own memory, and grows with
the data set. What is read here lies in the system's cache at most, which gives way to programs.
"""

import tempfile
import weakref
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.integer[Any]]


class RowFile:
    """Rows that can be read in any order, and written; one thread at a time. Closed when nobody has it.

    dtype : of a row; with a shape (`np.dtype(("<f4", (2, 3)))`) or named parts, as numpy has them
    first : byte at which row 0 begins
    """

    def __init__(self, stream: IO[bytes], dtype: np.dtype[Any], first: int = 0):
        self._stream, self.dtype, self._first = stream, dtype, first
        weakref.finalize(self, stream.close)

    @classmethod
    def temporary(cls, folder: Path, dtype: np.dtype[Any]) -> "RowFile":
        """An empty one in a folder, that is gone when it is closed, also when the program is killed."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(tempfile.TemporaryFile(dir=folder, buffering=0), dtype)

    @classmethod
    def of_npy(cls, path: Path, row_axes: int) -> tuple["RowFile", tuple[int, ...]]:
        """The array of an .npy file, and its shape; its leading `row_axes` axes number the rows, C order."""
        stream = open(path, "rb", buffering=0)  # noqa: SIM115  as long as the rows are wanted
        assert np.lib.format.read_magic(stream) == (1, 0)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
        assert not fortran_order
        return cls(stream, np.dtype((dtype, shape[row_axes:])), stream.tell()), shape

    def read(self, rows: Rows) -> NDArray[Any]:
        """The rows of some numbers, in their order."""
        found: NDArray[Any] = np.empty(len(rows), self.dtype)
        for number, row in enumerate(rows.tolist()):
            self._fill(found[number : number + 1], row)
        return found

    def read_from(self, start: int, count: int) -> NDArray[Any]:
        """`count` rows in a row."""
        found: NDArray[Any] = np.empty(count, self.dtype)
        self._fill(found, start)
        return found

    def write(self, start: int, values: NDArray[Any]) -> None:
        """Put rows at a number and after it."""
        self._seek(start)
        given = _bytes(np.ascontiguousarray(values, self.dtype.base))
        while given:  # a write without a buffer may take a part
            given = given[self._stream.write(given) :]

    def _fill(self, values: NDArray[Any], start: int) -> None:
        self._seek(start)
        wanted = _bytes(values)
        while wanted:
            count = self._stream.readinto(wanted)  # type: ignore[attr-defined]
            if not count:
                raise EOFError(f"the file ends before row {start + len(values)}")
            wanted = wanted[count:]

    def _seek(self, row: int) -> None:
        self._stream.seek(self._first + row * self.dtype.itemsize)


def _bytes(values: NDArray[Any]) -> memoryview:
    """The memory of a contiguous array."""
    return values.view(np.uint8).reshape(-1).data
