"""The device that torch computes on."""

import torch

from dentalign.errors import DentalignError


def choose_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one; raises DentalignError where another is asked for in vain."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise DentalignError("device 'cuda' is asked for, but torch finds none; set it to auto or cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise DentalignError(
            f"device {device!r} is none that torch knows; set it to auto, cpu or cuda"
        ) from error
