"""Any store that fsspec knows (S3, SSH, ...) as a source of case files."""

from typing import Any
from urllib.parse import urlsplit

from dentalign.cases.sources.base import (
    BaseSource,
    Content,
    check_size,
    safe_name,
    unreadable,
)
from dentalign.errors import DentalignError, ParamError

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
            raise unreadable(error, file) from error
        check_size(len(data), limit, file)
        return data

    def validator(self, name: str) -> str | None:
        try:
            self._store.invalidate_cache()  # a listing of before must not hide a change
            info: dict[str, Any] = self._store.info(self._path(name))
        except Exception as error:  # as above
            raise unreadable(error, self.location(name)) from error
        versions = [f"{key}={info[key]}" for key in _FSSPEC_VERSION_KEYS if info.get(key) is not None]
        return " ".join([f"size={info.get('size')}", *versions]) if versions else None

    def read_if_changed(self, name: str, limit: int, known: str | None) -> Content | None:
        current = self.validator(name)
        if current is not None and current == known:
            return None
        return Content(self.read(name, limit), current)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{safe_name(name)}"
