"""Tooth encoder: from points in head coordinates to a latent, one feature vector per point."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from dentalign.autoencoder.neighbours import nearest_neighbours


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of the network; stored in the weights file.

    points     : number of points per tooth
    neighbours : number of nearest neighbours of a point in the graph
    terms      : number of Chebyshev terms per layer (K)
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

    A averages over a point's neighbours, so -A is the Laplacian I - A shifted to eigenvalues within [-1, 1].
    Source: Defferrard et al. 2016, arXiv:1606.09375, eq. 4-5; the same filter as ChebConv of torch_geometric.
    """

    def __init__(self, inputs: int, outputs: int, terms: int):
        super().__init__()
        self.terms = terms
        self.linear = nn.Linear(inputs * terms, outputs)

    def forward(self, x: torch.Tensor, neighbours: torch.Tensor) -> torch.Tensor:
        """Filter N points in S states on one graph.

        x          : (N, S, inputs)
        neighbours : (N, k) int64, rows of x
        returns    : (N, S, outputs)
        """
        count, states, channels = x.shape
        once = x.new_full(neighbours.shape, -1 / neighbours.shape[1])
        twice = 2 * once
        weights = self.linear.weight.mT.split(channels)  # one (C, outputs) per term
        before, term = torch.empty(0), x.reshape(count, -1)
        # Term by term, as the terms side by side would be copied once more.
        out = torch.addmm(self.linear.bias, term.view(-1, channels), weights[0])
        for k in range(1, self.terms):
            factors = once if k == 1 else twice
            following = functional.embedding_bag(neighbours, term, mode="sum", per_sample_weights=factors)
            before, term = term, following if k == 1 else following.sub_(before)
            out.addmm_(term.view(-1, channels), weights[k])
        return out.view(count, states, -1)


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

    def forward(self, points: torch.Tensor, neighbours: torch.Tensor | None = None) -> torch.Tensor:
        """Encode a batch of teeth.

        points     : (B, P, 3) float, mm, head coordinates
        neighbours : (B, P, k) int64, see `nearest_neighbours`; default: computed from `points`
        returns    : (B, P, features)
        """
        if neighbours is None:  # about the centroid, where single precision is finest
            neighbours = nearest_neighbours(points - points.mean(1, keepdim=True), self.config.neighbours)
        return self.encode_states(points[None], neighbours)[0]

    def encode_states(self, points: torch.Tensor, neighbours: torch.Tensor) -> torch.Tensor:
        """Encode teeth in S states (T1, T2, moved copies) that share one graph.

        points     : (S, B, P, 3) float, mm, head coordinates
        neighbours : (B, P, k) int64, see `nearest_neighbours`
        returns    : (S, B, P, features)
        """
        states, teeth, count, _ = points.shape
        first_row = torch.arange(teeth, device=points.device)[:, None, None] * count
        rows = (neighbours + first_row).reshape(teeth * count, -1)  # (B P, k)
        x = ((points - self.centre) / self.scale).reshape(states, teeth * count, 3).transpose(0, 1)
        x = functional.silu(self.first(x, rows))
        x = functional.silu(self.second(x, rows))
        return self.third(x, rows).transpose(0, 1).reshape(states, teeth, count, -1)
