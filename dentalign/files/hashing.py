"""SHA-256 digests, hexadecimal: of bytes or text, of a file, of JSON values."""

import hashlib
import json
from pathlib import Path
from typing import Any


def sha256(data: bytes | str) -> str:
    """Digest of bytes, or of text as UTF-8; non-UTF-8 bytes of a file name are hashed as they are."""
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogateescape")
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """Digest of a file's bytes, read in pieces; raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Digest of values that JSON can hold; the order of an object's keys does not matter."""
    return sha256(json.dumps(value, sort_keys=True))
