"""Store that fsspec supports (S3, SSH, ...) as a source of case files."""

from typing import Any
from urllib.parse import urlsplit

from dentalign.cases.sources.base import CaseSource, Content, check_size, safe_name, unreadable
from dentalign.errors import DentalignError, ParamError

# What stores call the version of a file; they agree on no name.
_VERSIONS = (
    "ETag", "etag", "md5", "checksum", "mtime", "LastModified", "last_modified", "updated", "created",
)  # fmt: skip


class FsspecSource(CaseSource):
    """Files of a store that fsspec supports; the store's own package finds the credentials."""

    def __init__(self, prefix: str):
        import fsspec

        if urlsplit(prefix).password is not None:
            raise ParamError("a URL prefix must not contain a password, because reports show the prefix")
        self.prefix = prefix
        try:
            self._store, self._root = fsspec.url_to_fs(prefix)
        except ImportError as error:
            raise DentalignError(f"{prefix}: this store needs another Python package: {error}") from error
        except ValueError as error:
            raise ParamError(f"{prefix}: fsspec supports no such store: {error}") from error

    def read_if_changed(self, name: str, limit: int, known: str | None) -> Content | None:
        path = f"{self._root.rstrip('/')}/{safe_name(name)}"
        try:
            self._store.invalidate_cache()  # a listing of before must not hide a change
            info: dict[str, Any] = self._store.info(path)
            versions = [f"{key}={info[key]}" for key in _VERSIONS if info.get(key) is not None]
            current = " ".join([f"size={info.get('size')}", *versions]) if versions else None
            if current is not None and current == known:
                return None
            with self._store.open(path, "rb") as stream:
                data = bytes(stream.read(limit + 1))
        except Exception as error:  # each store raises classes of its own; nothing is hidden, it is listed
            raise unreadable(error, self.location(name)) from error
        check_size(len(data), limit, self.location(name))
        return Content(data, current)
