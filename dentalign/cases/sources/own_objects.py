"""Test whether a file is an object of the DVC cache or git-annex store of the repository around a folder.

A link that leads out of a folder of cases is followed only to such a file.
"""

import re
from functools import cached_property
from pathlib import Path

# The name of an object has the hash of its content: whoever can name one in a link has the content.
_DVC_OBJECT = re.compile(r"(files/md5/)?[0-9a-f]{2}/[0-9a-f]{30}")
_ANNEX_OBJECT = re.compile(r"[^/]+/[^/]+/([A-Z0-9_]+-[^/]*--[^/]+)/\1")


class OwnObjects:
    """Set of the files in the DVC cache and the git-annex store of the repositories around a folder.

    `path in OwnObjects(folder)` tests a path; both must be real paths.
    """

    def __init__(self, folder: Path):
        self._around = (folder, *folder.parents)

    def __contains__(self, file: Path) -> bool:
        """True for the real path of an object in the configured DVC cache, or in `.git/annex/objects`."""
        return any(
            file.is_relative_to(store) and name.fullmatch(file.relative_to(store).as_posix())
            for store, name in self._stores
        )

    @cached_property
    def _stores(self) -> list[tuple[Path, re.Pattern[str]]]:
        dvc = next((one / ".dvc" for one in self._around if (one / ".dvc").is_dir()), None)
        git = next((one / ".git" for one in self._around if (one / ".git").exists()), None)
        stores = [] if dvc is None else [(_cache_dir(dvc).resolve(), _DVC_OBJECT)]
        return stores if git is None else [*stores, ((git / "annex/objects").resolve(), _ANNEX_OBJECT)]


def _cache_dir(dvc: Path) -> Path:
    """Cache of a repository: `cache.dir` as DVC reads it (system, user, repository), else `.dvc/cache`."""
    from dvc.config import Config

    try:
        return Path(Config(str(dvc)).get("cache", {}).get("dir") or dvc / "cache")
    except Exception:  # noqa: BLE001  DVC itself reports what is wrong with it, in a dozen classes
        return dvc / "cache"
