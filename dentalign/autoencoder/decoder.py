"""Tooth decoder: from a latent to points in head coordinates; needs no other network."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class DecoderConfig:
    """Shape of the network; stored in the weights file.

    features : channels of the latent
    hidden   : channels of each of the two hidden layers
    """

    features: int = 32
    hidden: int = 64


class Decoder(nn.Module):
    """Small MLP from each point's features to that point; `centre` and `scale` (mm) adapt its output."""

    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config = config
        self.register_buffer("centre", torch.zeros(3))
        self.register_buffer("scale", torch.ones(()))
        self.layers = nn.Sequential(
            nn.Linear(config.features, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, 3),
        )
        self.straight = nn.Linear(config.features, 3, bias=False)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode latents (..., P, features) to points (..., P, 3), mm, head coordinates."""
        return (self.straight(latents) + self.layers(latents)) * self.scale + self.centre
