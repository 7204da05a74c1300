"""Network of the alignment model `attention`: attention among the teeth of a mouth predicts their poses.

A tooth is one token: its points, its pose in the mouth, whether it is present and whether it stays. Mouths
come in a canonical frame, so a rigid motion of the whole mouth has no influence. The predicted pose is rigid
by construction. It is the mean pose of the slot at T2, changed by a motion that the network predicts and by a
learnt share of the tooth's deviation at T1 from the slot's mean pose there.

Attention: Vaswani et al. 2017, arXiv:1706.03762, with the norm before each layer.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import nn

from dentalign.alignment import conditions
from dentalign.alignment.attention.posed_teeth import PosedTeeth
from dentalign.alignment.conditions import Conditions
from dentalign.geometry import rotations
from dentalign.teeth import SLOT_COUNT

_MM, _RADIANS = 2.0, 0.25  # of an output of 1: about the movements in treatments
_POINT_MM, _DEVIATION_MM, _ROTATIONS = 4.0, 2.0, 4.0  # bring the inputs to order 1
_PLANNER = 16  # length of a planner's embedding
_NOT_PRESENT = -1e4  # added to the attention scores of empty slots


@dataclass(frozen=True)
class ToothAttentionConfig:
    """Shape of the network; stored in the weights file.

    points  : number of points per tooth
    width   : number of features of a token
    layers  : number of attention layers
    heads   : number of attention heads per layer
    dropout : share of hidden units set to 0 in training
    midway  : teeth are moved by this share of the way to a first prediction, then a second one is made;
              0: there is only one prediction
    planners : number of planners that the model knows
    """

    points: int
    width: int
    layers: int
    heads: int
    dropout: float
    midway: float = 0.0
    planners: int = 0


class Block(nn.Module):
    """Attention among the teeth of a mouth, then an MLP for each tooth; initialised as the identity."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.planner_scale_shift = nn.Linear(_PLANNER, 4 * width)
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 3 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(3 * width, width)
        )
        self.attention_bias = nn.Parameter(torch.zeros(heads, SLOT_COUNT, SLOT_COUNT))
        for last in (self.proj, self.mlp[-1], self.planner_scale_shift):
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
        nn.init.zeros_(self.planner_scale_shift.bias)

    def forward(self, x: torch.Tensor, padding_mask: torch.Tensor, planner: torch.Tensor) -> torch.Tensor:
        """Map x (N, 32, width) to (N, 32, width).

        padding_mask : (N, 1, 1, 32), added to the scores
        planner      : (N, 1, _PLANNER), embedding of the mouth's planner
        """
        n, slots, width = x.shape
        scale, shift, scale_mlp, shift_mlp = self.planner_scale_shift(planner).chunk(4, -1)
        qkv = self.qkv(self.norm_attention(x) * (1 + scale) + shift).view(
            n, slots, 3, self.heads, width // self.heads
        )
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        # As `scaled_dot_product_attention`, which takes a quarter longer where the mask has a gradient.
        scores = (query * (width // self.heads) ** -0.5) @ key.mT + self.attention_bias + padding_mask
        mixed = scores.softmax(-1) @ value
        x = x + self.proj(mixed.transpose(1, 2).reshape(n, slots, width))
        out: torch.Tensor = x + self.mlp(self.norm_mlp(x) * (1 + scale_mlp) + shift_mlp)
        return out


class PoseNetwork(nn.Module, ABC):
    """Base class of networks that predict poses; its buffers are statistics of the training mouths.

    reference : (32, 3) mm, centroids of the mean mouth at T1, which define the canonical frame
    t1_centroid, t2_centroid : (32, 3) mm, mean of each slot in the canonical frame
    t1_rotation, t2_rotation : (32, 3, 3), mean of each slot, tooth-local -> canonical frame
    known_at_t1 : (32,) bool, slots with enough training teeth at T1; the teeth of other slots are ignored
    known_at_t2 : (32,) bool, slots with enough training teeth that stay; the teeth of other slots keep their
                  poses of T1
    points      : number of points per tooth
    """

    reference: torch.Tensor
    t1_centroid: torch.Tensor
    t1_rotation: torch.Tensor
    t2_centroid: torch.Tensor
    t2_rotation: torch.Tensor
    known_at_t1: torch.Tensor
    known_at_t2: torch.Tensor

    def __init__(self, points: int):
        super().__init__()
        self.points = points
        self.register_buffer("reference", torch.zeros(SLOT_COUNT, 3))
        for stage in ("t1", "t2"):
            self.register_buffer(f"{stage}_centroid", torch.zeros(SLOT_COUNT, 3))
            self.register_buffer(f"{stage}_rotation", torch.eye(3).repeat(SLOT_COUNT, 1, 1))
            self.register_buffer(f"known_at_{stage}", torch.zeros(SLOT_COUNT, dtype=torch.bool))

    @abstractmethod
    def forward(
        self, teeth: PosedTeeth, present: torch.Tensor, stays: torch.Tensor, told: Conditions
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Predict the poses at T2, in the canonical frame.

        teeth   : teeth at T1, in the canonical frame
        present : (N, 32) bool, slots with a tooth at T1; must be False where `known_at_t1` is False. Teeth
                  in slots where it is False have no influence
        stays   : (N, 32) bool, slots whose tooth is there at T2, too
        told    : conditions, in the canonical frame; what they say of held teeth is left to the caller
        returns : rotation (N, 32, 3, 3); centroid (N, 32, 3), mm; log_expected_error (N, 32), log of mm
        """


class ToothAttention(PoseNetwork):
    """Transformer over the teeth of a mouth."""

    def __init__(self, config: ToothAttentionConfig):
        super().__init__(config.points)
        self.config = config
        width = config.width
        features = 2 * 3 * config.points + 3 + 9 + 3 + 2 + conditions.FIELD
        self.embed = nn.Sequential(nn.Linear(features, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.planner_embedding = nn.Embedding(1 + config.planners, _PLANNER)
        self.told = nn.Linear(conditions.OF_MOUTH, _PLANNER, bias=False)
        self.planner_token = nn.Linear(_PLANNER, width, bias=False)
        self.slot_embedding = nn.Parameter(0.02 * torch.randn(SLOT_COUNT, width))
        self.blocks = nn.ModuleList(Block(width, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 6)
        self.deviation_kept = nn.Parameter(torch.full((SLOT_COUNT, 2), 0.5))
        self.planner_kept = nn.Parameter(torch.zeros(1 + config.planners, SLOT_COUNT, 2))
        self.arch_kept = nn.Parameter(torch.full((SLOT_COUNT, 1), 0.5))
        self.error_head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        # Planners begin nearly alike, so that one with few cases stays close to the others.
        nn.init.normal_(self.planner_embedding.weight, std=0.3)
        for parameter in (
            *self.told.parameters(),
            *self.head.parameters(),
            *self.error_head[-1].parameters(),
        ):
            nn.init.zeros_(parameter)

    def forward(
        self, teeth: PosedTeeth, present: torch.Tensor, stays: torch.Tensor, told: Conditions
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
            field := conditions.field(told, teeth.centroid, stays),
        ]
        planner = (self.planner_embedding(told.planner) + self.told(conditions.of_mouth(told)))[:, None]
        x = self.embed(torch.cat(features, -1)) + self.slot_embedding
        x = (x + self.planner_token(planner)) * present[..., None]
        padding_mask = torch.where(present, 0.0, _NOT_PRESENT)[:, None, None, :].to(x)
        for block in self.blocks:
            x = block(x, padding_mask, planner)
        x = self.norm(x)
        motion = self.head(x)
        kept = self.deviation_kept + self.planner_kept[told.planner]
        centroid = self.t2_centroid + kept[..., :1] * deviation
        along = teeth.centroid + field[..., :3] - centroid  # to where the motion of the arch brings the tooth
        centroid = (
            centroid
            + self.arch_kept * field[..., 6:12].mean(-1, keepdim=True) * along
            + _MM * motion[..., :3]
        )
        vector = kept[..., 1:] * vector + _RADIANS * motion[..., 3:]
        rotation = self.t2_rotation @ rotations.matrix(vector)
        return rotation, centroid, self.error_head(x.detach())[..., 0]
