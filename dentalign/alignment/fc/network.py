"""Alignment model `fc`: a fully connected autoencoder, latents(T1) -> latents(T2).

Every tooth's 256 x 32 latent goes through a linear code (`latent_basis`), fully connected layers see
the whole mouth, and a linear layer goes back to the change of every latent. The answer is T1 plus
that change, so an untrained network says "no movement but the average one".
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from dentalign.teeth import SLOT_COUNT


@dataclass(frozen=True)
class FullyConnectedConfig:
    """Shape of the network; stored in the weights file.

    components : numbers per tooth in the linear code
    hidden     : width of the fully connected layers
    blocks     : residual blocks
    dropout    : share of hidden units left out in training
    """

    components: int
    hidden: int
    blocks: int
    dropout: float


class ResidualBlock(nn.Module):
    """x + W2 dropout(gelu(W1 norm(x))); starts as the identity."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(width, width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (N, width) -> (N, width)."""
        out: torch.Tensor = self.second(self.dropout(functional.gelu(self.first(self.norm(x)))))
        return x + out


class FullyConnected(nn.Module):
    """From the mouth's code at T1 and which teeth stay to the change of the code.

    in_scale : (32, d) what z is divided by on the way in
    mean     : (32, d) average change over the training cases
    scale    : (32, d) what the output is multiplied by
    """

    in_scale: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, config: FullyConnectedConfig):
        super().__init__()
        self.config = config
        code = (SLOT_COUNT, config.components)
        self.register_buffer("in_scale", torch.ones(code))
        self.register_buffer("mean", torch.zeros(code))
        self.register_buffer("scale", torch.ones(code))
        numbers = SLOT_COUNT * config.components
        self.enter = nn.Linear(numbers + 2 * SLOT_COUNT, config.hidden)
        blocks = (ResidualBlock(config.hidden, config.dropout) for _ in range(config.blocks))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(config.hidden)
        self.leave = nn.Linear(config.hidden, numbers)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, z: torch.Tensor, t1_mask: torch.Tensor, t2_mask: torch.Tensor) -> torch.Tensor:
        """Predict the change of the code.

        z                : (N, 32, d) code at T1; masked slots are ignored
        t1_mask, t2_mask : (N, 32) bool, teeth present, teeth that stay
        returns          : (N, 32, d), to be added to z
        """
        masks = torch.cat([t1_mask, t2_mask], dim=1).to(z.dtype)
        seen = (z / self.in_scale * t1_mask[..., None]).flatten(1)  # (N, 32 d)
        x = self.enter(torch.cat([seen, masks], dim=1))
        x = self.leave(self.norm(self.blocks(x)))
        return self.mean + x.reshape(z.shape) * self.scale
