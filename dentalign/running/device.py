"""Choice of the device that torch computes on."""

import torch

from dentalign.errors import DentalignError


def choose_device(device: str) -> torch.device:
    """Make a torch device from a setting; "auto" is the GPU if there is one, else the CPU.

    raises: DentalignError if the device is unknown to torch, or torch finds no GPU
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise DentalignError("device is 'cuda', but torch finds no GPU; set it to auto or cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise DentalignError(f"device {device!r} is unknown to torch; set it to auto, cpu or cuda") from error
