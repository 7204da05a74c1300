"""Network of the alignment model `fc`: a fully connected autoencoder, latents(T1) -> latents(T2).

Each tooth's latent goes through a linear code (`latent_basis`), fully connected layers see the whole mouth,
and the change that they give is added to T1: an untrained network predicts the average movement.
"""

import torch
from torch import nn
from torch.nn import functional

from dentalign.teeth import SLOT_COUNT


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
    """Change of the code from T1 to T2, from the code at T1 and which teeth stay.

    components   : d, numbers per tooth in the linear code
    hidden       : width of the fully connected layers
    blocks       : number of residual blocks
    dropout      : share of hidden units left out in training
    input_scale  : (32, d) spread of the code, by which z is divided
    output_mean  : (32, d) average change over the training cases
    output_scale : (32, d) spread of the change, by which the output is multiplied
    """

    input_scale: torch.Tensor
    output_mean: torch.Tensor
    output_scale: torch.Tensor

    def __init__(self, components: int, hidden: int, blocks: int, dropout: float):
        super().__init__()
        code = (SLOT_COUNT, components)
        self.register_buffer("input_scale", torch.ones(code))
        self.register_buffer("output_mean", torch.zeros(code))
        self.register_buffer("output_scale", torch.ones(code))
        numbers = SLOT_COUNT * components
        self.embed = nn.Linear(numbers + 2 * SLOT_COUNT, hidden)
        self.blocks = nn.Sequential(*(ResidualBlock(hidden, dropout) for _ in range(blocks)))
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, numbers)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, z: torch.Tensor, t1_mask: torch.Tensor, t2_mask: torch.Tensor) -> torch.Tensor:
        """Predict the change of the code.

        z                : (N, 32, d) code at T1; masked slots are ignored
        t1_mask, t2_mask : (N, 32) bool, teeth present, teeth that stay
        returns          : (N, 32, d), to be added to z
        """
        masks = torch.cat([t1_mask, t2_mask], dim=1).to(z.dtype)
        seen = (z / self.input_scale * t1_mask[..., None]).flatten(1)  # (N, 32 d)
        x = self.embed(torch.cat([seen, masks], dim=1))
        x = self.head(self.norm(self.blocks(x)))
        return self.output_mean + x.reshape(z.shape) * self.output_scale
