"""Weights files: {"config": ..., "state_dict": ...}, read without running any code in them."""

import hashlib
import io
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from dentalign.errors import DentalignError
from dentalign.files.atomic import write_bytes

Network = TypeVar("Network", bound=nn.Module)


def save(path: str | Path, network: Any) -> None:
    """Write a network's config and state, all or nothing; the same weights give the same bytes."""
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    write(path, {"config": _interned(asdict(network.config)), "state_dict": state})


def _interned(value: Any) -> Any:
    """The same value in which equal texts are one object: pickle writes those shorter than equal ones."""
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        return {_interned(key): _interned(part) for key, part in value.items()}
    return type(value)(map(_interned, value)) if isinstance(value, list | tuple) else value


def write(path: str | Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values, all or nothing.

    The key `sha256` is added, the digest of the content, because torch does not detect damage in a file.
    """
    buffer = io.BytesIO()
    torch.save({**content, "sha256": content_sha256(content)}, buffer)
    write_bytes(path, buffer.getvalue())


def read(path: str | Path, keys: Sequence[str] = ("config", "state_dict")) -> dict[str, Any]:
    """Read a weights file, and verify it if it has `sha256`; a user's own weights may lack that key.

    keys   : keys that the file must have
    raises : DentalignError if the file is missing, damaged or lacks one of the keys
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DentalignError(f"{path}: no such weights file; `dvc repro` trains the models") from None
    except Exception as error:  # torch raises many kinds for a damaged or unsafe file
        # torch's own words are left out: some advise to load with weights_only off, which runs code.
        raise DentalignError(
            f"{path}: not a readable weights file ({type(error).__name__}); it is damaged or something else: "
            "fetch or make it again"
        ) from error
    if not isinstance(content, dict) or not set(keys) <= content.keys():
        raise DentalignError(f"{path}: a weights file must have the keys {' and '.join(map(repr, keys))}")
    claimed = content.pop("sha256", None)
    if claimed is not None and claimed != content_sha256(content):
        raise DentalignError(
            f"{path}: damaged, or changed since it was written: its content does not fit its 'sha256'; "
            "take a good copy, or leave 'sha256' out of weights that you change yourself"
        )
    return content


def load(path: str | Path, network: type[Network], config: Any) -> Network:
    """Load a network in eval mode, without gradients, from its weights file.

    network, config : classes of the network and of its config
    raises          : DentalignError as `read`, and if the file does not fit the network
    """
    content = read(path)
    try:
        loaded = network(config(**content["config"]))
        loaded.load_state_dict(content["state_dict"])
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        short = reason if len(reason) <= 300 else reason[:300].rsplit(" ", 1)[0] + " ..."
        raise DentalignError(f"{path}: does not fit {network.__name__}: {short}") from None
    return loaded.eval().requires_grad_(False)


def content_sha256(content: Any) -> str:
    """SHA-256, hexadecimal, of nested dicts and lists of tensors and plain values."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(f"tensor {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, dict):
            digest.update(f"dict {len(value)}".encode())
            for key in sorted(value, key=str):
                add(key)
                add(value[key])
        elif isinstance(value, list | tuple):
            digest.update(f"list {len(value)}".encode())
            for item in value:
                add(item)
        else:
            digest.update(f"{type(value).__name__} {value!r};".encode())

    add(content)
    return digest.hexdigest()
