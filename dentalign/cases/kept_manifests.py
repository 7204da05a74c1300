"""Manifests of the last run, kept outside DVC: a shard of which nothing changed is not made again.

DVC deletes the outputs of a stage before it runs, so that one new case would have every mesh of every case
hashed again. A manifest is kept with a digest of all that it was made from. Meshes count by their size, times
and inode, as in DVC itself; those of a remote store have none of these, and nothing is kept of them.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dentalign import atomic
from dentalign.state import state_dir


@dataclass(frozen=True)
class Counts:
    """Of one shard: cases used and excluded, teeth dropped from the cases used, meshes asked for."""

    cases: int
    excluded: int
    dropped_teeth: int
    meshes: int


class KeptManifests:
    """One manifest a shard, below `state_dir`; a damaged file counts as none."""

    def __init__(self, shards: Sequence[str]):
        """Of these shards; what is kept of others is deleted."""
        self._folder = state_dir() / "transforms"
        self._code = code_digest()
        names = {f"{shard}.json" for shard in shards}
        for file in self._folder.iterdir() if self._folder.is_dir() else ():
            if file.name not in names:
                file.unlink(missing_ok=True)

    def key(self, made_from: Any) -> str:
        """Digest of all that a manifest is made from (JSON values) and of the code that makes it."""
        text = json.dumps([self._code, made_from], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def find(self, shard: str, key: str) -> tuple[bytes, Counts] | None:
        """The manifest that was made from the same, as its file's bytes, and its counts."""
        try:
            head, _, content = (self._folder / f"{shard}.json").read_bytes().partition(b"\n")
            known = json.loads(head)
            if (known["key"], known["sha256"]) == (key, hashlib.sha256(content).hexdigest()):
                return content, Counts(**known["counts"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # none yet, or damaged: it is made again
        return None

    def keep(self, shard: str, key: str, content: bytes, counts: Counts) -> None:
        """Keep a manifest's bytes in place of the last one's."""
        head = {"key": key, "sha256": hashlib.sha256(content).hexdigest(), "counts": asdict(counts)}
        atomic.write_bytes(self._folder / f"{shard}.json", json.dumps(head).encode() + b"\n" + content)


def code_digest() -> str:
    """Of the modules of this package that are loaded: other code may make another manifest."""
    files = (module.__file__ for name, module in sorted(sys.modules.items()) if name.startswith("dentalign."))
    digest = hashlib.sha256()
    for file in files:
        digest.update(Path(file).read_bytes() if file else b"")
    return digest.hexdigest()
