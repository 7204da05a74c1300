"""Base class of the sources of case files, and the checks of names and sizes that all sources share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from dentalign.errors import CaseDefect


class Unreachable(CaseDefect):
    """Defect of a file that could not be read or downloaded now, but may be later."""


@dataclass(frozen=True)
class Content:
    """Content of a file.

    validator : text that changes when the file changes, such as an ETag; None if the source has none
    """

    data: bytes
    validator: str | None


class CaseSource(ABC):
    """Source of files, each named by its path below `prefix`. Safe to use from several threads.

    prefix   : folder or URL
    is_local : True if the source is a folder
    """

    prefix: str
    is_local = False

    @abstractmethod
    def read_if_changed(self, name: str, limit: int, known: str | None) -> Content | None:
        """Read a file of at most `limit` bytes; return None if its validator is still `known`.

        known  : validator from an earlier read, or None to read the file in any case
        raises : Unreachable; CaseDefect if the file is too large, or its name leads out of the prefix
        """

    def read(self, name: str, limit: int) -> bytes:
        """Read a file of at most `limit` bytes; raises as `read_if_changed`."""
        content = self.read_if_changed(name, limit, None)
        assert content is not None  # None stands for an unchanged file, and no version of it is known
        return content.data

    def location(self, name: str) -> str:
        """Path or URL of a file, as the user knows it."""
        return f"{self.prefix.rstrip('/')}/{name}"

    def names(self, folder: str) -> list[str] | None:
        """Sorted names of the entries of a folder below the prefix; None if the source cannot list it."""
        return None

    def spelled(self, name: str) -> str:
        """Return the real name of a file; its extension may be in other letter case, such as `.JSON`."""
        return name

    def local_path(self, name: str) -> Path | None:
        """Path of a file if the source is a folder, else None; raises as `read_if_changed`."""
        return None

    def close(self) -> None:  # noqa: B027  most have nothing to close
        """Close connections and end all waits for a retry."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self.close()


def safe_name(name: str) -> str:
    """Return the name of a file unchanged; raises CaseDefect if it leads out of the prefix."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or not {*parts} - {"", "."}:
        raise CaseDefect("unsafe_name", "a file name that leaves its folder", "rename the file")
    return name


def check_size(size: int, limit: int, file: str) -> None:
    """Raise CaseDefect if `size` is over `limit`, both in bytes."""
    if size > limit:
        fix = "raise limits.max_json_mb or limits.max_mesh_mb if the file is right"
        raise CaseDefect("too_large", f"over {limit / 1e6:g} MB", fix, file=file)


def unreadable(error: BaseException, file: str) -> Unreachable:
    """Defect of a file that is missing or cannot be read; the store's own message is not quoted."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Unreachable(
            "not_found", "no such file", "add the file, or remove the case from the list", file=file
        )
    # Only the name of the error: messages of stores may hold signed addresses.
    reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    fix = "check the access rights and the store"
    return Unreachable("unreadable", f"cannot be read: {reason}", fix, file=file)
