"""Network of the alignment model `fc`: fully connected layers from latents at T1 to latents at T2.

Each tooth's latent becomes a short latent code (`latent_basis`). From the codes of the whole mouth at T1 the
layers predict their change up to T2. An untrained network predicts the average movement.
"""

import torch
from torch import nn
from torch.nn import functional

from dentalign.teeth import SLOT_COUNT


class ResidualBlock(nn.Module):
    """Residual block x + W2 dropout(gelu(W1 norm(x))), initialised as the identity."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(width, width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x (N, width) to (N, width)."""
        out: torch.Tensor = self.second(self.dropout(functional.gelu(self.first(self.norm(x)))))
        return x + out


class FullyConnected(nn.Module):
    """Network that predicts the change of a mouth's latent codes from T1 to T2.

    components   : d, length of the latent code of a tooth
    hidden       : width of the fully connected layers
    blocks       : number of residual blocks
    dropout      : share of hidden units set to 0 in training
    input_scale  : (32, d), spread of the codes; the input is divided by it
    output_mean  : (32, d), average change in the training cases; added to the output
    output_scale : (32, d), spread of the change; the output is multiplied by it
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
        """Predict the change of the latent codes.

        z       : (N, 32, d) latent codes at T1; ignored where t1_mask is False
        t1_mask : (N, 32) bool, slots with a tooth at T1
        t2_mask : (N, 32) bool, slots with a tooth at T2
        returns : (N, 32, d), to be added to z
        """
        masks = torch.cat([t1_mask, t2_mask], dim=1).to(z.dtype)
        seen = (z / self.input_scale * t1_mask[..., None]).flatten(1)  # (N, 32 d)
        x = self.embed(torch.cat([seen, masks], dim=1))
        x = self.head(self.norm(self.blocks(x)))
        return self.output_mean + x.reshape(z.shape) * self.output_scale
