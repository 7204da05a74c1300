"""Network of the alignment model `attention`: attention among the teeth of a mouth gives the pose of each.

A tooth is one token: its points, its pose in the mouth, whether it is there and whether it stays. The mouth
stands in a canonical frame, so that no motion of the whole mouth changes the answer. The predicted pose is a
motion from the mean pose of the slot at T2, plus a learnt share of the tooth's own deviation at T1: rigid.

Attention: Vaswani et al. 2017, arXiv:1706.03762, with the norm before each layer.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import nn

from dentalign.alignment.attention.posed_teeth import PosedTeeth
from dentalign.geometry import rotations
from dentalign.teeth import SLOT_COUNT

_MM, _RADIANS = 2.0, 0.25  # of an output of 1: about the movements in treatments
_POINT_MM, _DEVIATION_MM, _ROTATIONS = 4.0, 2.0, 4.0  # bring the inputs to order 1
_NOT_PRESENT = -1e4  # added to the attention scores of empty slots


@dataclass(frozen=True)
class ToothAttentionConfig:
    """Shape of the network; stored in the weights file.

    points  : number of points per tooth
    width   : features of a token
    layers  : attention layers
    heads   : of each layer
    dropout : share of hidden units left out in training
    midway  : share of the way to the first prediction at which the teeth stand for the second; 0: no second
    """

    points: int
    width: int
    layers: int
    heads: int
    dropout: float
    midway: float = 0.0


class Block(nn.Module):
    """Attention among the teeth of a mouth, then an MLP for each tooth; starts as the identity."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 3 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(3 * width, width)
        )
        self.attention_bias = nn.Parameter(torch.zeros(heads, SLOT_COUNT, SLOT_COUNT))
        for last in (self.proj, self.mlp[-1]):
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)

    def forward(self, x: torch.Tensor, padding_mask: torch.Tensor) -> torch.Tensor:
        """x (N, 32, width), padding_mask (N, 1, 1, 32) added to the scores -> (N, 32, width)."""
        n, slots, width = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(n, slots, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        # As `scaled_dot_product_attention`, which takes a quarter longer where the mask has a gradient.
        scores = (query * (width // self.heads) ** -0.5) @ key.mT + self.attention_bias + padding_mask
        mixed = scores.softmax(-1) @ value
        x = x + self.proj(mixed.transpose(1, 2).reshape(n, slots, width))
        out: torch.Tensor = x + self.mlp(self.norm_mlp(x))
        return out


class PoseNetwork(nn.Module, ABC):
    """Network that predicts poses, with the statistics of the training mouths that it needs.

    reference : (32, 3) mm, centroids of the mean mouth at T1, which define the canonical frame
    t1_centroid, t1_rotation, t2_centroid, t2_rotation : mean of each slot in that frame, at T1 and at T2
    known_at_t1 : (32,) bool, slots with enough teeth at T1: others are taken for absent
    known_at_t2 : (32,) bool, slots with enough teeth at T1 and T2: others are not moved
    expected_error_scale : () factor of the expected error, calibrated on the validation cases
    points      : number of points per tooth
    """

    reference: torch.Tensor
    t1_centroid: torch.Tensor
    t1_rotation: torch.Tensor
    t2_centroid: torch.Tensor
    t2_rotation: torch.Tensor
    known_at_t1: torch.Tensor
    known_at_t2: torch.Tensor
    expected_error_scale: torch.Tensor

    def __init__(self, points: int):
        super().__init__()
        self.points = points
        self.register_buffer("reference", torch.zeros(SLOT_COUNT, 3))
        for stage in ("t1", "t2"):
            self.register_buffer(f"{stage}_centroid", torch.zeros(SLOT_COUNT, 3))
            self.register_buffer(f"{stage}_rotation", torch.eye(3).repeat(SLOT_COUNT, 1, 1))
            self.register_buffer(f"known_at_{stage}", torch.zeros(SLOT_COUNT, dtype=torch.bool))
        self.register_buffer("expected_error_scale", torch.ones(()))

    @abstractmethod
    def forward(
        self, teeth: PosedTeeth, present: torch.Tensor, stays: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Predict rotation, centroid and log_expected_error (N, 32), log of mm, at T2.

        teeth          : at T1 in the canonical frame
        present, stays : (N, 32) bool; teeth that are not present change nothing. No tooth of a slot that
                         is not `known_at_t1` may be called present
        """


class ToothAttention(PoseNetwork):
    """Transformer over the teeth of a mouth."""

    def __init__(self, config: ToothAttentionConfig):
        super().__init__(config.points)
        self.config = config
        width = config.width
        features = 2 * 3 * config.points + 3 + 9 + 3 + 2
        self.embed = nn.Sequential(nn.Linear(features, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.slot_embedding = nn.Parameter(0.02 * torch.randn(SLOT_COUNT, width))
        self.blocks = nn.ModuleList(Block(width, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 6)
        self.deviation_kept = nn.Parameter(torch.full((SLOT_COUNT, 2), 0.5))
        self.error_head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        for parameter in (*self.head.parameters(), *self.error_head[-1].parameters()):
            nn.init.zeros_(parameter)

    def forward(
        self, teeth: PosedTeeth, present: torch.Tensor, stays: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `PoseNetwork.forward`."""
        deviation = teeth.centroid - self.t1_centroid
        relative = self.t1_rotation.mT @ teeth.rotation
        vector = rotations.vector(relative)
        features = [
            teeth.points.flatten(2) / _POINT_MM,
            (teeth.points @ teeth.rotation.mT).flatten(2) / _POINT_MM,
            deviation / _DEVIATION_MM,
            relative.flatten(2),
            vector * _ROTATIONS,
            torch.stack([present, stays], -1).to(deviation),
        ]
        x = (self.embed(torch.cat(features, -1)) + self.slot_embedding) * present[..., None]
        padding_mask = torch.where(present, 0.0, _NOT_PRESENT)[:, None, None, :].to(x)
        for block in self.blocks:
            x = block(x, padding_mask)
        x = self.norm(x)
        motion = self.head(x)
        centroid = self.t2_centroid + self.deviation_kept[:, :1] * deviation + _MM * motion[..., :3]
        vector = self.deviation_kept[:, 1:] * vector + _RADIANS * motion[..., 3:]
        rotation = self.t2_rotation @ rotations.matrix(vector)
        return rotation, centroid, self.error_head(x.detach())[..., 0]
