"""Alignment model `attention`: every tooth looks at every other and says where it should stand.

A tooth is one token: its points, how it stands in the mouth, whether it is there and whether it stays. The
mouth is first brought to a standard place by its teeth, so that no motion of the whole mouth changes the
answer. A tooth's answer is a motion away from the mean place of its slot at T2, to which a learnt share of
its own deviation at T1 is added; so the pose is rigid by construction, and an untrained network says
something sensible.

Attention: Vaswani et al. 2017, arXiv:1706.03762, with the norm before each layer.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from dentalign.alignment.attention.dropout import Dropout
from dentalign.geometry import rotations
from dentalign.teeth import SLOT_COUNT

_MM, _RADIANS = 2.0, 0.25  # an output of 1 is so much: about what treatments move and turn
_POINT_MM, _DEVIATION_MM, _TURNS = 4.0, 2.0, 4.0  # bring the inputs to order 1
_NO_TURN_MM2 = 0.05  # says which way up a mouth of one tooth is; a whole mouth has some hundred mm^2
_UNSEEN = -1e4  # added to the attention to what is not there


@dataclass(frozen=True)
class ToothAttentionConfig:
    """Shape of the network; stored in the weights file.

    points  : points of a tooth that it looks at
    width   : numbers per tooth between the layers
    layers  : attention layers
    heads   : of each layer
    dropout : share of hidden units left out in training
    midway  : it is asked a second time with the teeth this share of the way to its first answer; 0: it is not
    """

    points: int
    width: int
    layers: int
    heads: int
    dropout: float
    midway: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.midway < 1:
            raise ValueError(f"midway must be 0 or more and below 1, got {self.midway}")


class PosedTeeth(NamedTuple):
    """Teeth of N mouths, and how they stand.

    points   : (N, 32, p, 3) from the tooth's middle, tooth-local mm
    rotation : (N, 32, 3, 3) tooth-local -> head
    middle   : (N, 32, 3) head, mm
    """

    points: torch.Tensor
    rotation: torch.Tensor
    middle: torch.Tensor


def to_standard_place(
    middle: torch.Tensor, present: torch.Tensor, reference: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The motion (N, 3, 3), (N, 3) that brings middles (N, 32, 3) nearest to the reference (32, 3), mm."""
    spread, here, there = spread_about(reference, middle, present)
    turn = rotations.nearest(spread)
    return turn, (there - here @ turn.mT)[:, 0]


def spread_about(
    reference: torch.Tensor, middle: torch.Tensor, present: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What that motion is found from: it turns by the rotation nearest to a matrix, mean upon mean.

    returns : the matrix (N, 3, 3), mm^2, and the mean place of the teeth that are present (N, 1, 3), mm,
              as they stand and in the reference
    """
    weight = present[..., None].to(middle)
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1)
    here, there = (weight * middle).sum(1, keepdim=True), (weight * reference).sum(1, keepdim=True)
    spread = (reference - there).mT @ (weight * (middle - here))
    return spread + _NO_TURN_MM2 * torch.eye(3).to(spread), here, there


class Block(nn.Module):
    """Attention among the teeth of a mouth, then a layer of its own for each; starts as the identity."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_own = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask, self.answer = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.own = nn.Sequential(
            nn.Linear(width, 3 * width), nn.GELU(), Dropout(dropout), nn.Linear(3 * width, width)
        )
        self.neighbourhood = nn.Parameter(torch.zeros(heads, SLOT_COUNT, SLOT_COUNT))
        for last in (self.answer, self.own[-1]):
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)

    def forward(self, x: torch.Tensor, unseen: torch.Tensor) -> torch.Tensor:
        """x (N, 32, width), unseen (N, 1, 1, 32) added to the attention -> (N, 32, width)."""
        n, slots, width = x.shape
        asked = self.ask(self.before_attention(x)).view(n, slots, 3, self.heads, width // self.heads)
        query, key, value = asked.permute(2, 0, 3, 1, 4)
        # What `scaled_dot_product_attention` does, which on a CPU takes a quarter longer where the mask has a
        # gradient, as in training here.
        scores = (query * (width // self.heads) ** -0.5) @ key.mT + self.neighbourhood + unseen
        seen = scores.softmax(-1) @ value
        x = x + self.answer(seen.transpose(1, 2).reshape(n, slots, width))
        out: torch.Tensor = x + self.own(self.before_own(x))
        return out


class PoseNetwork(nn.Module, ABC):
    """What a network of poses knows of the training mouths, and the standard place it works in.

    reference : (32, 3) mm, where the teeth of the mean mouth stand at T1: the standard place
    t1_middle, t1_rotation, t2_middle, t2_rotation : means of the slots there, at T1 and at T2
    known_at_t1 : (32,) bool, slots that there were enough teeth of at T1: others are taken for absent
    known_at_t2 : (32,) bool, slots that there were enough teeth of at T1 and T2: others are not moved
    doubt_scale : () what the expected error is multiplied by; found on the validation cases
    points      : points of a tooth that it looks at
    """

    reference: torch.Tensor
    t1_middle: torch.Tensor
    t1_rotation: torch.Tensor
    t2_middle: torch.Tensor
    t2_rotation: torch.Tensor
    known_at_t1: torch.Tensor
    known_at_t2: torch.Tensor
    doubt_scale: torch.Tensor

    def __init__(self, points: int):
        super().__init__()
        self.points = points
        self.register_buffer("reference", torch.zeros(SLOT_COUNT, 3))
        for stage in ("t1", "t2"):
            self.register_buffer(f"{stage}_middle", torch.zeros(SLOT_COUNT, 3))
            self.register_buffer(f"{stage}_rotation", torch.eye(3).repeat(SLOT_COUNT, 1, 1))
            self.register_buffer(f"known_at_{stage}", torch.zeros(SLOT_COUNT, dtype=torch.bool))
        self.register_buffer("doubt_scale", torch.ones(()))

    @abstractmethod
    def forward(
        self, teeth: PosedTeeth, present: torch.Tensor, stays: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Where the teeth stand at T2: rotation, middle, and the logarithm of the expected ADD in mm (N, 32).

        teeth          : at T1 in the standard place, see `to_standard_place`
        present, stays : (N, 32) bool; of teeth that are not present nothing is seen. No tooth of a slot that
                         is not `known_at_t1` may be called present
        """

    def to_standard_place(
        self, middle: torch.Tensor, present: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `to_standard_place`; the reference is the network's own."""
        return to_standard_place(middle, present, self.reference)


class ToothAttention(PoseNetwork):
    """The network."""

    def __init__(self, config: ToothAttentionConfig):
        super().__init__(config.points)
        self.config = config
        width = config.width
        features = 2 * 3 * config.points + 3 + 9 + 3 + 2
        self.enter = nn.Sequential(nn.Linear(features, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.slot = nn.Parameter(0.02 * torch.randn(SLOT_COUNT, width))
        self.blocks = nn.ModuleList(Block(width, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, 6)
        self.kept = nn.Parameter(torch.full((SLOT_COUNT, 2), 0.5))
        self.doubt = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        for last in (self.leave, self.doubt[-1]):
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(
        self, teeth: PosedTeeth, present: torch.Tensor, stays: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `PoseNetwork.forward`."""
        deviation = teeth.middle - self.t1_middle
        relative = self.t1_rotation.mT @ teeth.rotation
        turn = rotations.vector(relative)
        features = [
            teeth.points.flatten(2) / _POINT_MM,
            (teeth.points @ teeth.rotation.mT).flatten(2) / _POINT_MM,
            deviation / _DEVIATION_MM,
            relative.flatten(2),
            turn * _TURNS,
            torch.stack([present, stays], -1).to(deviation),
        ]
        x = (self.enter(torch.cat(features, -1)) + self.slot) * present[..., None]
        unseen = torch.where(present, 0.0, _UNSEEN)[:, None, None, :].to(x)
        for block in self.blocks:
            x = block(x, unseen)
        x = self.norm(x)
        motion = self.leave(x)
        middle = self.t2_middle + self.kept[:, :1] * deviation + _MM * motion[..., :3]
        turned = self.kept[:, 1:] * turn + _RADIANS * motion[..., 3:]
        return self.t2_rotation @ rotations.matrix(turned), middle, self.doubt(x.detach())[..., 0]
