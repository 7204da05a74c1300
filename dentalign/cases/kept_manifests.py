"""Manifests of the last run, kept outside DVC: a shard of which nothing changed is not made again.

DVC deletes the outputs of a stage before it runs, so that one new case would have every mesh of every case
hashed again. A manifest is kept with a digest of all that it was made from. Meshes count by their size, times
and inode, as in DVC itself; those of a remote store have none of these, and no manifest with such is kept.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dentalign.errors import DiskFull
from dentalign.files import atomic
from dentalign.running.locks import exclusive
from dentalign.running.state_dir import state_dir


@dataclass(frozen=True)
class Counts:
    """Of one shard: cases used and excluded, teeth dropped from the cases used, meshes asked for."""

    cases: int
    excluded: int
    dropped_teeth: int
    meshes: int


@dataclass(frozen=True)
class KeptManifest:
    """A manifest's bytes, what it was made from (`key_of`), and its counts."""

    content: bytes
    key: str
    counts: Counts


def key_of(made_from: Any) -> str:
    """Digest of all that a manifest is made from (JSON values), and of the code that makes it."""
    text = json.dumps([code_digest(), np.__version__, made_from], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def code_digest() -> str:
    """Of the modules of this package that are loaded: other code may make another manifest."""
    digest = hashlib.sha256()
    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] == "dentalign" and module.__file__:
            digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()


def find(shard: str, key: str) -> KeptManifest | None:
    """The manifest that is kept of a shard, if it was made from the same; a damaged one counts as none."""
    try:
        head, _, content = (_folder() / f"{shard}.json").read_bytes().partition(b"\n")
        known = json.loads(head)
        if (known["key"], known["sha256"]) == (key, hashlib.sha256(content).hexdigest()):
            return KeptManifest(content, key, Counts(**known["counts"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or damaged: it is made again
    return None


def replace(made: Mapping[str, KeptManifest], unchanged: Collection[str]) -> None:
    """Keep these by their shards, and those that are kept of unchanged shards; delete all others.

    Where there is no room or no right to write, nothing is kept: it would only save time.
    """
    folder = _folder()
    with suppress(OSError, DiskFull), exclusive(folder):
        for file in folder.iterdir() if folder.is_dir() else ():
            if file.name not in {f"{shard}.json" for shard in unchanged}:
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        for shard, kept in made.items():
            head = {
                "key": kept.key,
                "sha256": hashlib.sha256(kept.content).hexdigest(),
                "counts": asdict(kept.counts),
            }
            atomic.write_bytes(folder / f"{shard}.json", json.dumps(head).encode() + b"\n" + kept.content)


def _folder() -> Path:
    return state_dir() / "transforms"
