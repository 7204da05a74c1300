"""Tooth encoder: points of a tooth in head coordinates -> a latent of one feature vector per point."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of the network; stored in the weights file.

    points     : points per tooth
    neighbours : nearest neighbours that a point listens to
    terms      : Chebyshev terms per layer (K)
    hidden     : channels between the layers
    features   : channels of the latent
    """

    points: int = 256
    neighbours: int = 6
    terms: int = 6
    hidden: int = 32
    features: int = 32


class ChebyshevLayer(nn.Module):
    """Polynomial filter on the neighbour graph: sum over k of T_k(-A) x W_k, plus a bias.

    A averages over a point's neighbours, so -A is the Laplacian I - A shifted to eigenvalues within
    [-1, 1]. Source: Defferrard et al. 2016, arXiv:1606.09375, eq. 4-5. The same function as
    torch_geometric's ChebConv with that graph's edges.
    """

    def __init__(self, inputs: int, outputs: int, terms: int):
        super().__init__()
        self.terms = terms
        self.linear = nn.Linear(inputs * terms, outputs)

    def forward(self, x: torch.Tensor, neighbours: torch.Tensor) -> torch.Tensor:
        """x (N, C) and neighbours (N, k), rows of x -> (N, outputs)."""

        def average(y: torch.Tensor) -> torch.Tensor:
            return functional.embedding_bag(neighbours, y, mode="mean")

        basis = [x]
        if self.terms > 1:
            basis.append(-average(x))
        while len(basis) < self.terms:
            basis.append(-2 * average(basis[-1]) - basis[-2])
        return self.linear(torch.cat(basis, dim=1))


class Encoder(nn.Module):
    """Graph network of three Chebyshev layers; `centre` and `scale` (mm) bring its input to order 1."""

    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.register_buffer("centre", torch.zeros(3))
        self.register_buffer("scale", torch.ones(()))
        self.first = ChebyshevLayer(3, config.hidden, config.terms)
        self.second = ChebyshevLayer(config.hidden, config.hidden, config.terms)
        self.third = ChebyshevLayer(config.hidden, config.features, config.terms)

    def forward(self, points: torch.Tensor, neighbours: torch.Tensor) -> torch.Tensor:
        """Encode a batch of teeth.

        points     : (B, P, 3) float, mm, head coordinates
        neighbours : (B, P, k) int64, see `nearest_neighbours`
        returns    : (B, P, features)
        """
        teeth, count, _ = points.shape
        first_row = torch.arange(teeth, device=points.device)[:, None, None] * count
        rows = (neighbours + first_row).reshape(teeth * count, -1)  # (B P, k)
        x = ((points - self.centre) / self.scale).reshape(teeth * count, 3)
        x = functional.silu(self.first(x, rows))
        x = functional.silu(self.second(x, rows))
        return self.third(x, rows).reshape(teeth, count, -1)
