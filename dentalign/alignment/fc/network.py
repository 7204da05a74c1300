"""Network of the alignment model `fc`: fully connected layers from latents at T1 to latents at T2.

Each tooth's latent becomes a short latent code (`latent_basis`). From the codes of the whole mouth at T1 and
the conditions of the plan the layers predict the change of the codes up to T2. An untrained network predicts
the average movement.
"""

import torch
from torch import nn
from torch.nn import functional

from dentalign.alignment.conditions import ARCH_COUNT, Conditions
from dentalign.teeth import SLOT_COUNT

_MM, _RADIANS = 2.0, 0.1  # bring the conditions to order 1
_PLANNER = 16  # length of a planner's embedding
_ARCH_FIELD = ARCH_COUNT * 2 * (6 + 2)  # motion and widths of each arch, and which of them are known
_ERROR_WIDTH = 128


class ResidualBlock(nn.Module):
    """Residual block x + W2 dropout(gelu(W1 film(norm(x)))), initialised as the identity.

    The planner's embedding scales and shifts the normed x (FiLM, Perez et al. 2018, arXiv:1709.07871).
    """

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.planner_scale_shift = nn.Linear(_PLANNER, 2 * width)
        self.first = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(width, width)
        for parameter in (*self.second.parameters(), *self.planner_scale_shift.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor, planner: torch.Tensor) -> torch.Tensor:
        """Map x (N, width) to (N, width); planner (N, _PLANNER) is the embedding of the mouth's planner."""
        scale, shift = self.planner_scale_shift(planner).chunk(2, -1)
        normed = self.norm(x) * (1 + scale) + shift
        out: torch.Tensor = self.second(self.dropout(functional.gelu(self.first(normed))))
        return x + out


class FullyConnected(nn.Module):
    """Network that predicts the change of a mouth's latent codes from T1 to T2.

    components   : d, length of the latent code of a tooth
    hidden       : width of the fully connected layers
    blocks       : number of residual blocks
    dropout      : share of hidden units set to 0 in training
    planners     : number of planners that the model knows
    input_scale  : (32, d), spread of the codes; the input is divided by it
    output_mean  : (32, d), average change in the training cases; added to the output
    output_scale : (32, d), spread of the change; the output is multiplied by it
    """

    input_scale: torch.Tensor
    output_mean: torch.Tensor
    output_scale: torch.Tensor

    def __init__(self, components: int, hidden: int, blocks: int, dropout: float, planners: int = 0):
        super().__init__()
        code = (SLOT_COUNT, components)
        self.register_buffer("input_scale", torch.ones(code))
        self.register_buffer("output_mean", torch.zeros(code))
        self.register_buffer("output_scale", torch.ones(code))
        numbers = SLOT_COUNT * components
        self.planner_embedding = nn.Embedding(1 + planners, _PLANNER)
        self.embed = nn.Linear(numbers + 3 * SLOT_COUNT + _ARCH_FIELD + _PLANNER, hidden)
        self.blocks = nn.ModuleList(ResidualBlock(hidden, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, numbers)
        self.own_code = nn.Parameter(torch.zeros(*code, components))
        self.arch_field = nn.Linear(_ARCH_FIELD, numbers, bias=False)
        self.error_head = nn.Sequential(
            nn.Linear(hidden, _ERROR_WIDTH), nn.GELU(), nn.Linear(_ERROR_WIDTH, SLOT_COUNT)
        )
        # Planners begin nearly alike, so that one with few cases stays close to the others.
        nn.init.normal_(self.planner_embedding.weight, std=0.3)
        last = self.error_head[-1]
        for parameter in (*self.head.parameters(), *self.arch_field.parameters(), *last.parameters()):
            nn.init.zeros_(parameter)

    def forward(
        self, z: torch.Tensor, t1_mask: torch.Tensor, t2_mask: torch.Tensor, told: Conditions
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict the change of the latent codes, and its error.

        z       : (N, 32, d) latent codes at T1; ignored where t1_mask is False
        t1_mask : (N, 32) bool, slots with a tooth at T1
        t2_mask : (N, 32) bool, slots with a tooth at T2
        told    : conditions; that held teeth stay is left to the caller
        returns : (N, 32, d), to be added to z; log_expected_error (N, 32), log of mm
        """
        masks = torch.cat([t1_mask, t2_mask, told.held], dim=1).to(z.dtype)
        seen = z / self.input_scale * t1_mask[..., None]  # (N, 32, d)
        of_arches = _arch_field(told).to(z.dtype)
        planner = self.planner_embedding(told.planner)
        x = self.embed(torch.cat([seen.flatten(1), masks, of_arches, planner], dim=1))
        for block in self.blocks:
            x = block(x, planner)
        x = self.norm(x)
        # Beside the layers, what is linear in a tooth's own code and in the motions of the arches.
        linear = torch.einsum("nsd,sde->nse", seen, self.own_code).flatten(1) + self.arch_field(of_arches)
        change = (self.head(x) + linear).reshape(z.shape)
        return self.output_mean + change * self.output_scale, self.error_head(x.detach())


def _arch_field(told: Conditions) -> torch.Tensor:
    """Motions and changes of width of both arches (N, _ARCH_FIELD), 0 where unknown, and which are known."""
    values = torch.cat([told.motion[..., :3] / _MM, told.motion[..., 3:] / _RADIANS, told.width / _MM], -1)
    return torch.cat([values.nan_to_num(0.0), torch.isfinite(values)], -1).flatten(1)
