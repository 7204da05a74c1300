"""Folder as a source of case files."""

import os
import stat
from pathlib import Path

from dentalign.cases.sources.base import CaseSource, Content, check_size, safe_name, unreadable
from dentalign.cases.sources.own_objects import OwnObjects
from dentalign.errors import CaseDefect, DentalignError


class LocalSource(CaseSource):
    """Files of a directory; a link out of it is refused, unless the user's own DVC or git-annex made it."""

    is_local = True

    def __init__(self, directory: str | Path):
        self.prefix = str(directory)
        self._root = Path(directory).resolve()
        self._objects = OwnObjects(self._root)
        self._last: tuple[str, Path] | None = None
        self._listed: tuple[str, list[str] | None] | None = None
        if not self._root.is_dir():
            fix = "correct the path on the command line, or under `source` in params.yaml"
            raise DentalignError(f"{directory}: no such folder; {fix}")

    def local_path(self, name: str) -> Path:
        file = self.location(name)
        folder, _, last = safe_name(name).rpartition("/")
        try:
            home = self._resolve(folder)
            inside, real = home.is_relative_to(self._root), home / last
            mode = os.lstat(real).st_mode
            if stat.S_ISLNK(mode):
                real = real.resolve(strict=True)
                inside = real.is_relative_to(self._root) or real in self._objects
                mode = real.stat().st_mode
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
            raise unreadable(error, file) from error
        if not inside:
            fix = "put the file itself there; only links of this repository's DVC or git-annex are followed"
            raise CaseDefect("link_out_of_folder", "a link out of the folder", fix, file=file)
        if not stat.S_ISREG(mode):
            raise CaseDefect("no_file", "not a plain file", "put the file itself there", file=file)
        return real

    def names(self, folder: str) -> list[str] | None:
        """Sorted names of the entries of a folder; None if the folder is a link out of the source."""
        last = self._listed  # one object, as several threads use it
        if last is None or last[0] != folder:
            try:
                home = self._resolve(folder)
                found = sorted(os.listdir(home)) if home.is_relative_to(self._root) else None
            except (OSError, RuntimeError) as error:
                raise unreadable(error, self.location(folder)) from error
            self._listed = last = folder, found
        return last[1]

    def spelled(self, name: str) -> str:
        if os.path.lexists(self._root / name):
            return name
        stem = name.rpartition(".")[0]
        others = (one for one in self.names("") or () if one.lower() == name.lower())
        return next((one for one in others if one.startswith(stem)), name)

    def version(self, name: str) -> str:
        """Validator of a file, see `Content`; raises as `read_if_changed`."""
        try:
            return _version(self.local_path(name))
        except OSError as error:
            raise unreadable(error, self.location(name)) from error

    def read_if_changed(self, name: str, limit: int, known: str | None) -> Content | None:
        path, file = self.local_path(name), self.location(name)
        try:
            current = _version(path)  # before the bytes: a change in between is then seen next time
            if current == known:
                return None
            with open(path, "rb", buffering=0) as stream:
                size = os.fstat(stream.fileno()).st_size
                check_size(size, limit, file)
                return Content(stream.read(size), current)
        except OSError as error:
            raise unreadable(error, file) from error

    def _resolve(self, folder: str) -> Path:
        """Resolve the links in a folder's path; keeps the last answer, as a case's files share a folder."""
        last = self._last  # one object, as several threads use it
        if last is None or last[0] != folder:
            self._last = last = folder, (self._root / folder).resolve(strict=True)
        return last[1]


def _version(path: Path) -> str:
    status = path.stat()
    # The change time too: copies and archives keep a file's modification time.
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"
