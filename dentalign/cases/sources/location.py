"""Opening of a source of case files by its location: a folder, a URL prefix or a `.url` file."""

import os
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from dentalign.cases.settings import Fetch
from dentalign.cases.sources.base import CaseSource
from dentalign.cases.sources.folder import LocalSource
from dentalign.cases.sources.fsspec_store import FsspecSource
from dentalign.cases.sources.http import HttpSource
from dentalign.errors import ParamError

URL_FILE_SUFFIX = ".url"

# Scheme of a URL prefix -> its source, from the prefix and the settings; fsspec opens other schemes.
SOURCES: dict[str, Callable[[str, Fetch], CaseSource]] = {
    "file": lambda prefix, _: LocalSource(_path(prefix)),
    "http": HttpSource,
    "https": HttpSource,
}


def open_source(location: str, fetch: Fetch | None = None) -> CaseSource:
    """Open the source of case files at a location.

    location : directory; URL prefix (http, https, file, or an fsspec store such as s3://bucket/x); or file
               `*.url` whose only line is such a prefix, because a dep of DVC must be a file
    fetch    : time-outs and retries for http(s)
    raises   : ParamError if the location is none of these; DentalignError if the directory does not exist
    """
    location = _resolve(location)
    scheme, separator, _ = location.partition("://")
    if not separator:
        return LocalSource(location)
    if scheme in SOURCES:
        return SOURCES[scheme](location, fetch or Fetch())
    return FsspecSource(location)


def _path(url: str) -> str:
    """Path that a file URL names, such as file:///my%20cases."""
    path = url.removeprefix("file://").removeprefix("localhost")
    return os.fsdecode(unquote_to_bytes(os.fsencode(path)))


def _resolve(location: str) -> str:
    """Return the prefix itself, read from a `.url` file if one is named."""
    if not location.endswith(URL_FILE_SUFFIX) or "://" in location:
        return location
    try:
        with open(location, encoding="utf-8-sig") as stream:
            lines = [line.strip() for line in stream.read(4096).splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ParamError(
            f"{location}: cannot be read as a text with a URL prefix: {type(error).__name__}"
        ) from error
    if len(lines) != 1 or "://" not in lines[0]:
        raise ParamError(f"{location}: must hold one line, a URL prefix such as https://server/cases/json")
    return lines[0]
