"""File object below an HDF5 file that is being written, as HDF5 itself does not survive a full disk."""

import io
from typing import Any


class TellsLater(io.FileIO):
    """File object that defers write errors to `failure`.

    On a full disk HDF5 can neither go on nor close a file, and crashes as Python ends.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write, or after a failure pretend to."""
        view = memoryview(data).cast("B")
        try:
            done = 0
            while self.failure is None and done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Truncate, or after a failure pretend to."""
        try:
            return self.tell() if self.failure else super().truncate(size)
        except OSError as error:
            self.failure = error
            return self.tell()

    def readinto(self, buffer: Any) -> int:
        """Read; zeros for what could not be written."""
        view = memoryview(buffer).cast("B")
        done = super().readinto(view) or 0
        view[done:] = bytes(len(view) - done)
        return len(view)
