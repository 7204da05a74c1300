"""File object through which HDF5 writes a file; by itself HDF5 crashes on a full disk."""

import io
from typing import Any


class TellsLater(io.FileIO):
    """File object that keeps a write error in `failure` instead of raising it.

    After a write error, such as on a full disk, HDF5 can neither continue nor close the file, and crashes
    when Python exits. Whoever uses the object must raise `failure`.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write; keep an error in `failure`, and return as if all was written from then on."""
        view = memoryview(data).cast("B")
        try:
            done = 0
            while self.failure is None and done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Truncate; keep an error in `failure` instead of raising it. Once it is set, do nothing."""
        try:
            return self.tell() if self.failure else super().truncate(size)
        except OSError as error:
            self.failure = error
            return self.tell()

    def readinto(self, buffer: Any) -> int:
        """Read; data that could not be written are read as zeros."""
        view = memoryview(buffer).cast("B")
        done = super().readinto(view) or 0
        view[done:] = bytes(len(view) - done)
        return len(view)
