"""The protocol of every source of case files, and what the sources share."""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from dentalign.errors import CaseDefect


class Unreachable(CaseDefect):
    """A file that could not be had: it may be there another time. Not the fault of its content."""


@dataclass(frozen=True)
class Content:
    """A file's bytes, and what tells this version from a later one (None: nothing does)."""

    data: bytes
    validator: str | None


class CaseSource(Protocol):
    """Files named `<name>` under a prefix. Safe to use from several threads."""

    prefix: str
    is_local: bool  # it is a folder

    def location(self, name: str) -> str:
        """The file's path or URL, as the user knows it."""

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of a file of at most `limit` bytes; raises Unreachable, or CaseDefect if too large."""

    def validator(self, name: str) -> str | None:
        """What changes when the file does; None if the source does not tell. Raises as `read`."""

    def read_if_changed(self, name: str, limit: int, known: str | None) -> Content | None:
        """The file, or None if its validator is still `known`. Raises as `read`."""

    def local_path(self, name: str) -> Path | None:
        """The file itself where the source is a folder, else None. Raises as `read`."""

    def close(self) -> None:
        """Let go of connections; what waits for a retry gives up."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None: ...


def safe_name(name: str) -> str:
    """The name, if it stays below its prefix; raises CaseDefect otherwise."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or not {*parts} - {"", "."}:
        raise CaseDefect("unsafe_name", "a file name that leaves its folder", "rename the file")
    return name


def check_size(size: int, limit: int, file: str) -> None:
    """Refuse a file over the limit, in bytes."""
    if size > limit:
        mend = "raise limits.max_json_mb or limits.max_mesh_mb if this is what it should be"
        raise CaseDefect("too_large", f"over {limit / 1e6:g} MB", mend, file=file)


class BaseSource:
    """What the sources share."""

    prefix: str
    is_local = False

    def location(self, name: str) -> str:
        return f"{self.prefix.rstrip('/')}/{name}"

    def local_path(self, name: str) -> Path | None:
        return None

    def close(self) -> None:
        """Nothing to let go of."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self.close()


def unreadable(error: BaseException, file: str) -> Unreachable:
    """The defect of a file that is not there or cannot be read; quotes no message of the store."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Unreachable(
            "not_found", "no such file", "put it there, or take the case off the list", file=file
        )
    # Only the name of the error: messages of stores may hold signed addresses.
    reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    return Unreachable(
        "unreadable", f"cannot be read: {reason}", "see to the access rights and the store", file=file
    )
