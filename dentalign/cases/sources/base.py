"""Source of case files: what each kind of place must answer, and what they share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from dentalign.errors import CaseDefect


class Unreachable(CaseDefect):
    """File that could not be had now: it may be there another time. Not the fault of its content."""


@dataclass(frozen=True)
class Content:
    """Bytes of a file, and a text that changes when the file does (None if the source has none)."""

    data: bytes
    validator: str | None


class CaseSource(ABC):
    """Files named `<name>` under a prefix. Safe to use from several threads.

    is_local : True if it is a folder
    """

    prefix: str
    is_local = False

    @abstractmethod
    def read_if_changed(self, name: str, limit: int, known: str | None) -> Content | None:
        """Read a file of at most `limit` bytes; return None if its validator is still `known`.

        raises: Unreachable; CaseDefect if the file is too large, or its name leaves the prefix
        """

    def read(self, name: str, limit: int) -> bytes:
        """Read a file of at most `limit` bytes; raises as `read_if_changed`."""
        content = self.read_if_changed(name, limit, None)
        assert content is not None  # None stands for an unchanged file, and no version of it is known
        return content.data

    def location(self, name: str) -> str:
        """Path or URL of the file, as the user knows it."""
        return f"{self.prefix.rstrip('/')}/{name}"

    def names(self, folder: str) -> list[str] | None:
        """Names of what lies in a folder below the prefix, sorted; None if the source is not a folder."""
        return None

    def spelled(self, name: str) -> str:
        """Return the name as the file has it, which may differ in the letter case of the extension."""
        return name

    def local_path(self, name: str) -> Path | None:
        """Path of the file itself if the source is a folder, else None; raises as `read_if_changed`."""
        return None

    def close(self) -> None:  # noqa: B027  most have nothing to close
        """Close connections, and wake what waits for a retry."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self.close()


def safe_name(name: str) -> str:
    """Return the name if it stays below its prefix; raises CaseDefect otherwise."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or not {*parts} - {"", "."}:
        raise CaseDefect("unsafe_name", "a file name that leaves its folder", "rename the file")
    return name


def check_size(size: int, limit: int, file: str) -> None:
    """Raise CaseDefect for a file over the limit, in bytes."""
    if size > limit:
        fix = "raise limits.max_json_mb or limits.max_mesh_mb if this is what it should be"
        raise CaseDefect("too_large", f"over {limit / 1e6:g} MB", fix, file=file)


def unreadable(error: BaseException, file: str) -> Unreachable:
    """Make the defect of a file that is not there or cannot be read; quotes no message of the store."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Unreachable(
            "not_found", "no such file", "put it there, or take the case off the list", file=file
        )
    # Only the name of the error: messages of stores may hold signed addresses.
    reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    fix = "check the access rights and the store"
    return Unreachable("unreadable", f"cannot be read: {reason}", fix, file=file)
