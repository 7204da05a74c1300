"""Weights files: {"config": ..., "state_dict": ...}, read without running any code in them."""

import hashlib
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from dentalign.atomic import write_bytes
from dentalign.errors import DentalignError

Network = TypeVar("Network", bound=nn.Module)


def save(path: str | Path, network: Any, **extra: Any) -> None:
    """Write a network's config and state, all or nothing; the same weights give the same bytes."""
    buffer = io.BytesIO()
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    torch.save({"config": asdict(network.config), "state_dict": state, **extra}, buffer)
    write_bytes(path, buffer.getvalue())


def read(path: str | Path) -> dict[str, Any]:
    """The content of a weights file.

    raises: DentalignError where the file is missing, damaged or not of this form
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DentalignError(f"{path}: no such weights file") from None
    except Exception as error:  # noqa: BLE001  torch raises many kinds for a damaged or unsafe file
        reason = str(error).splitlines()[0][:200]
        raise DentalignError(f"{path}: not a readable weights file ({reason})") from None
    if not isinstance(content, dict) or not {"config", "state_dict"} <= content.keys():
        raise DentalignError(f"{path}: a weights file holds 'config' and 'state_dict'")
    return content


def load(path: str | Path, network: type[Network], config: Any) -> Network:
    """A network in eval mode from its weights file; `config` is the class of its config.

    raises: DentalignError where the file does not fit the network
    """
    content = read(path)
    try:
        loaded = network(config(**content["config"]))
        loaded.load_state_dict(content["state_dict"])
    except (TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DentalignError(f"{path}: does not fit {network.__name__}: {reason}") from None
    return loaded.eval().requires_grad_(False)


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
