"""A network of the PSTN and TANet kind: PointNet for each tooth, features passed on a graph, six numbers out.

Sources: Li et al. 2020 (PSTN), doi:10.1007/978-3-030-59719-1_11; Wei et al. 2020 (TANet),
doi:10.1007/978-3-030-58555-6_29. A tooth's feature is the maximum over its points, a mouth's the maximum
over all teeth. Features go round the graph of neighbours and opponents, updated by a gated unit. Each tooth's
motion away from T1 is regressed from its own feature, the passed-on one and the mouth's. Added: the tooth's
axes, which `attention` is given too.
"""

import torch
from torch import nn

from dentalign.alignment.attention.network import PoseNetwork
from dentalign.alignment.attention.posed_teeth import PosedTeeth
from dentalign.alignment.conditions import Conditions
from dentalign.geometry import rotations
from dentalign.teeth import ARCHES, SLOT_COUNT
from peers.tooth_pointnet import ToothPointNet


def _mouth_graph() -> torch.Tensor:
    """Neighbours in the arch, and the tooth that stands opposite: (32, 32), 1 where there is an edge."""
    edges = torch.zeros(SLOT_COUNT, SLOT_COUNT)
    for slots in ARCHES.values():
        edges[slots[:-1], slots[1:]] = edges[slots[1:], slots[:-1]] = 1
    lower, upper = torch.as_tensor(ARCHES["lower"]), torch.as_tensor(ARCHES["upper"]).flip(0)
    edges[lower, upper] = edges[upper, lower] = 1
    return edges


class PointNetGraph(PoseNetwork):
    """PointNet features, passed on for some rounds."""

    edges: torch.Tensor

    def __init__(self, points: int, planners: int = 0, width: int = 256, rounds: int = 3):
        super().__init__(points)
        self.rounds = rounds
        self.register_buffer("edges", _mouth_graph())
        self.shape = ToothPointNet(width)
        self.place = nn.Linear(3 + 9 + SLOT_COUNT + 2, width)
        self.planner = nn.Embedding(1 + planners, width)
        self.message, self.update = nn.Linear(width, width), nn.GRUCell(width, width)
        self.head = nn.Sequential(
            nn.Linear(3 * width, 2 * width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(2 * width, 6)
        )
        self.error_head = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, 1))
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(
        self, teeth: PosedTeeth, present: torch.Tensor, stays: torch.Tensor, told: Conditions
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `PoseNetwork.forward`; the motion is away from T1."""
        n = len(present)
        posed = teeth.points @ teeth.rotation.mT / 4.0
        which = torch.eye(SLOT_COUNT).to(posed).expand(n, -1, -1)
        there = torch.stack([present, stays], -1).to(posed)
        place = [teeth.centroid / 20.0, teeth.rotation.flatten(2), which, there]
        own = self.shape(posed, present) + self.place(torch.cat(place, -1))
        own = own + self.planner(told.planner)[:, None]
        own = torch.relu(own) * present[..., None]
        edges = self.edges * present[:, None, :]
        edges = edges / edges.sum(2, keepdim=True).clamp(min=1)
        passed = own
        for _ in range(self.rounds):
            heard = edges @ torch.relu(self.message(passed))
            passed = self.update(heard.flatten(0, 1), passed.flatten(0, 1)).view_as(passed)
            passed = passed * present[..., None]
        mouth = passed.amax(1, keepdim=True).expand_as(passed)
        known = torch.cat([own, passed, mouth], -1)
        out, log_error = self.head(known), self.error_head(known.detach())[..., 0]
        rotation = rotations.matrix(0.25 * out[..., 3:6])
        return rotation @ teeth.rotation, teeth.centroid + 2.0 * out[..., :3], log_error
