"""Sources of case files: a directory, or any store that fsspec knows; what every source promises."""

import functools
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from dentalign.errors import CaseDefect, DentalignError, ParamError

_FSSPEC_VERSION_KEYS = (
    "ETag",
    "etag",
    "md5",
    "checksum",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)


SETTLED_S = 2.0  # the coarsest tick of a file system's clock: FAT's


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

    def folder_state(self, folder: str) -> str | None:
        """What changes when a file of a folder does, added or taken away; None if nothing tells."""

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

    def folder_state(self, folder: str) -> str | None:
        return None

    def close(self) -> None:
        """Nothing to let go of."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self.close()


class LocalSource(BaseSource):
    """Files of a directory; a link that leads out of it is refused."""

    is_local = True

    def __init__(self, directory: str | Path):
        self.prefix = str(directory)
        self._root = Path(directory).resolve()
        # The files of a case lie in one folder: looked up step by step once, not for each of 28.
        self._folder = functools.lru_cache(64)(self._look_up)
        if not self._root.is_dir():
            mend = "correct it on the command line, or under `source` in params.yaml"
            raise DentalignError(f"{directory}: no such folder; {mend}")

    def path(self, name: str) -> Path:
        """The file itself; raises Unreachable if it is not there, CaseDefect if it is no plain file here."""
        file = self.location(name)
        folder, _, last = safe_name(name).rpartition("/")
        try:
            home, inside = self._folder(folder)
            real = home / last
            mode = os.lstat(real).st_mode
            if stat.S_ISLNK(mode):
                real = real.resolve(strict=True)
                inside, mode = real.is_relative_to(self._root), real.stat().st_mode
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
            raise _unreadable(error, file) from error
        if not inside:
            raise CaseDefect(
                "link_out_of_folder", "a link out of the folder", "put the file itself there", file=file
            )
        if not stat.S_ISREG(mode):
            raise CaseDefect("no_file", "not a plain file", "put the file itself there", file=file)
        return real

    def _look_up(self, folder: str) -> tuple[Path, bool]:
        """A folder below the prefix without links on the way, and whether it lies there."""
        real = (self._root / folder).resolve(strict=True)
        return real, real.is_relative_to(self._root)

    def local_path(self, name: str) -> Path | None:
        return self.path(name)

    def read(self, name: str, limit: int) -> bytes:
        try:
            with open(self.path(name), "rb") as stream:
                check_size(os.fstat(stream.fileno()).st_size, limit, self.location(name))
                data = stream.read(limit + 1)  # it may have grown since
        except OSError as error:
            raise _unreadable(error, self.location(name)) from error
        check_size(len(data), limit, self.location(name))
        return data

    def validator(self, name: str) -> str | None:
        try:
            status = self.path(name).stat()
        except OSError as error:
            raise _unreadable(error, self.location(name)) from error
        return _version(status)

    def folder_state(self, folder: str) -> str | None:
        """None, too, where a file has just changed: a second change in the same tick would not be seen."""
        try:
            home, inside = self._folder(safe_name(folder))
        except FileNotFoundError:
            return "no such folder"
        except (OSError, RuntimeError, CaseDefect):
            return None
        if not inside:
            return None
        status: dict[str, list[os.stat_result]] = {}
        try:
            with os.scandir(home) as entries:
                for entry in entries:
                    status[entry.name] = [entry.stat(follow_symlinks=False)]
                    if entry.is_symlink() and os.path.exists(entry.path):  # not if it leads nowhere
                        status[entry.name].append(entry.stat())
        except OSError:
            return None
        newest = max((each.st_ctime for stats in status.values() for each in stats), default=0.0)
        if newest > time.time() - SETTLED_S:
            return None
        return "\n".join(" ".join([name, *map(_version, stats)]) for name, stats in sorted(status.items()))

    def read_if_changed(self, name: str, limit: int, known: str | None) -> Content | None:
        current = self.validator(name)  # before the bytes: a change in between is then seen next time
        if current == known:
            return None
        return Content(self.read(name, limit), current)


class FsspecSource(BaseSource):
    """Files of a store that fsspec knows; log-in data are found as the store's own package finds them."""

    def __init__(self, prefix: str):
        import fsspec

        if urlsplit(prefix).password is not None:
            raise ParamError("a URL prefix must not hold a password, it would stand in reports")
        self.prefix = prefix
        try:
            self._store, self._root = fsspec.url_to_fs(prefix)
        except ImportError as error:
            raise DentalignError(f"{prefix}: this store needs a package of its own: {error}") from error
        except ValueError as error:
            raise ParamError(f"{prefix}: no store is known by this name: {error}") from error

    def read(self, name: str, limit: int) -> bytes:
        file = self.location(name)
        try:
            with self._store.open(self._path(name), "rb") as stream:
                data = bytes(stream.read(limit + 1))
        except Exception as error:  # each store raises classes of its own; nothing is hidden, it is listed
            raise _unreadable(error, file) from error
        check_size(len(data), limit, file)
        return data

    def validator(self, name: str) -> str | None:
        try:
            self._store.invalidate_cache()  # a listing of before must not hide a change
            info: dict[str, Any] = self._store.info(self._path(name))
        except Exception as error:  # as above
            raise _unreadable(error, self.location(name)) from error
        versions = [f"{key}={info[key]}" for key in _FSSPEC_VERSION_KEYS if info.get(key) is not None]
        return " ".join([f"size={info.get('size')}", *versions]) if versions else None

    def read_if_changed(self, name: str, limit: int, known: str | None) -> Content | None:
        current = self.validator(name)
        if current is not None and current == known:
            return None
        return Content(self.read(name, limit), current)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{safe_name(name)}"


def _version(status: os.stat_result) -> str:
    # The change time too: copies and archives keep a file's modification time.
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"


def _unreadable(error: BaseException, file: str) -> Unreachable:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Unreachable(
            "not_found", "no such file", "put it there, or take the case off the list", file=file
        )
    # Only the name of the error: messages of stores may hold signed addresses.
    reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    return Unreachable(
        "unreadable", f"cannot be read: {reason}", "see to the access rights and the store", file=file
    )
