"""A transformer of the 2023 to 2025 kind: a token per tooth, separate heads for translation and rotation.

The form that He et al. 2024 (DTAN, arXiv:2409.11937) and Dong et al. 2025 (arXiv:2410.20806) have in
common: PointNet features and the tooth's place make a token, a transformer encoder mixes the tokens, and
regression heads give the motion away from T1, the rotation in six numbers (Zhou et al. 2019,
arXiv:1812.07035). Left away: DTAN's supervision of features of the target and its collision loss; Dong's
windows along the arch and occlusal losses. Added: the tooth's axes, which `attention` is given too.
"""

import torch
from torch import nn
from torch.nn import functional

from dentalign.alignment.attention.network import PoseNetwork
from dentalign.alignment.attention.posed_teeth import PosedTeeth
from dentalign.alignment.conditions import Conditions
from dentalign.teeth import SLOT_COUNT
from peers.tooth_pointnet import ToothPointNet


class TokenTransformer(PoseNetwork):
    """PyTorch's own encoder layers on tooth tokens."""

    def __init__(self, points: int, planners: int = 0, width: int = 192, layers: int = 6, heads: int = 6):
        super().__init__(points)
        self.shape = ToothPointNet(width)
        self.place = nn.Linear(3 + 9 + 2, width)
        self.planner = nn.Embedding(1 + planners, width)
        self.slot = nn.Parameter(0.02 * torch.randn(SLOT_COUNT, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.mix = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.translation, self.rotation, self.error_head = (
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, out))
            for out in (3, 6, 1)
        )
        for head in (self.translation, self.rotation):
            last = head[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(
        self, teeth: PosedTeeth, present: torch.Tensor, stays: torch.Tensor, told: Conditions
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `PoseNetwork.forward`; the motion is away from T1."""
        shape = self.shape(teeth.points @ teeth.rotation.mT / 4.0, present)
        there = torch.stack([present, stays], -1).to(shape)
        place = [teeth.centroid / 20.0, teeth.rotation.flatten(2), there]
        x = shape + self.place(torch.cat(place, -1)) + self.slot
        x = x + self.planner(told.planner)[:, None]
        x = self.mix(x, src_key_padding_mask=~present)
        six = 0.25 * self.rotation(x) + torch.tensor([1.0, 0, 0, 0, 1, 0]).to(x)
        first = functional.normalize(six[..., :3], dim=-1)
        second = six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdim=True) * first
        second = functional.normalize(second, dim=-1)
        rotation = torch.stack([first, second, torch.linalg.cross(first, second)], -1)
        centroid, log_error = teeth.centroid + 2.0 * self.translation(x), self.error_head(x.detach())
        return rotation @ teeth.rotation, centroid, log_error[..., 0]
