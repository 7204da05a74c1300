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
_ROUNDS = 3  # of removing the motion of a mouth: with teeth missing, one leaves some of it


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

    Inside, a tooth is m numbers, the directions in which teeth move, and the three extents of its crown: of
    all else that a code of length d says of the shape, a network with some hundred mouths learns only noise.

    components   : d, length of the latent code of a tooth
    hidden       : width of the fully connected layers
    blocks       : number of residual blocks
    dropout      : share of hidden units set to 0 in training
    planners     : number of planners that the model knows
    movements    : m, at most d
    to_movement, from_movement : (32, d, m), code @ to_movement is a tooth's place along the m directions, mm;
                   from_movement @ place the code that changes with it; see `movement_code.movements`
    to_frame, from_frame : (32, m, 6), place . to_frame, summed over the teeth, is the motion of a mouth as a
                   whole, and from_frame @ motion what it does to the places; see `movement_code.frames`
    to_extent      : (32, d, 3), code @ to_extent is the crown's extents along its own axes, mm, but for a
                   constant; see `movement_code.extents`
    extent_mean, extent_scale : (32, 3) mm, mean and spread of these
    input_mean, input_scale   : (32, m) mm, mean of the places at T1, and their spread in `relative_place`
    output_mean, output_scale : (32, m) mm, mean and spread of the movements of the training cases
    """

    to_movement: torch.Tensor
    from_movement: torch.Tensor
    to_extent: torch.Tensor
    extent_mean: torch.Tensor
    extent_scale: torch.Tensor
    to_frame: torch.Tensor
    from_frame: torch.Tensor
    input_mean: torch.Tensor
    input_scale: torch.Tensor
    output_mean: torch.Tensor
    output_scale: torch.Tensor

    def __init__(
        self, components: int, hidden: int, blocks: int, dropout: float, planners: int = 0, movements: int = 8
    ):
        super().__init__()
        place = (SLOT_COUNT, min(movements, components))
        self.places, numbers = place[1], place[0] * place[1]
        for name in ("to_movement", "from_movement"):
            self.register_buffer(name, torch.zeros(SLOT_COUNT, components, place[1]))
        for name in ("to_frame", "from_frame"):
            self.register_buffer(name, torch.zeros(*place, 6))
        self.register_buffer("to_extent", torch.zeros(SLOT_COUNT, components, 3))
        self.register_buffer("extent_mean", torch.zeros(SLOT_COUNT, 3))
        self.register_buffer("extent_scale", torch.ones(SLOT_COUNT, 3))
        for name in ("input", "output"):
            self.register_buffer(f"{name}_mean", torch.zeros(place))
            self.register_buffer(f"{name}_scale", torch.ones(place))
        self.planner_embedding = nn.Embedding(1 + planners, _PLANNER)
        self.embed = nn.Linear(numbers + (3 + 3) * SLOT_COUNT + _ARCH_FIELD + _PLANNER, hidden)
        self.blocks = nn.ModuleList(ResidualBlock(hidden, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, numbers)
        self.own_place = nn.Parameter(torch.zeros(*place, place[1]))
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
        seen = self.relative_place(z, t1_mask) / self.input_scale  # (N, 32, m)
        extent = (torch.einsum("nsd,sdk->nsk", z, self.to_extent) - self.extent_mean) / self.extent_scale
        extent = extent * t1_mask[..., None]
        of_arches = _arch_field(told).to(z.dtype)
        planner = self.planner_embedding(told.planner)
        x = self.embed(torch.cat([seen.flatten(1), extent.flatten(1), masks, of_arches, planner], dim=1))
        for block in self.blocks:
            x = block(x, planner)
        x = self.norm(x)
        # Beside the layers, what is linear in a tooth's own place and in the motions of the arches.
        linear = torch.einsum("nsm,smk->nsk", seen, self.own_place).flatten(1) + self.arch_field(of_arches)
        movement = self.output_mean + (self.head(x) + linear).reshape(seen.shape) * self.output_scale
        return torch.einsum("nsm,sdm->nsd", movement, self.from_movement), self.error_head(x.detach())

    def relative_place(self, z: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Places (N, 32, m), mm, of teeth less the mean and less the motion of the mouth as a whole.

        present : (N, 32) bool, slots with a tooth; the places of others are 0
        """
        place = torch.einsum("nsd,sdm->nsm", z, self.to_movement) - self.input_mean
        place = place * present[..., None]
        for _ in range(_ROUNDS):
            motion = torch.einsum("nsm,smk->nk", place, self.to_frame)
            place = place - torch.einsum("nk,smk->nsm", motion, self.from_frame) * present[..., None]
        return place


def _arch_field(told: Conditions) -> torch.Tensor:
    """Motions and changes of width of both arches (N, _ARCH_FIELD), 0 where unknown, and which are known."""
    values = torch.cat([told.motion[..., :3] / _MM, told.motion[..., 3:] / _RADIANS, told.width / _MM], -1)
    return torch.cat([values.nan_to_num(0.0), torch.isfinite(values)], -1).flatten(1)
