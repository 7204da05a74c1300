"""The models, of the same weights, written with operators that ONNX has; `onnx_file` compares the two.

Two things are written anew. The encoder's neighbour sums are gathered, as ONNX has no embedding bag. And the
nearest rotation is found by matrix products instead of a singular value decomposition.
"""

import torch
from torch import nn
from torch.nn import functional

from dentalign.alignment.attention.model import AttentionModel
from dentalign.alignment.attention.posed_teeth import PosedTeeth, cross_covariance
from dentalign.alignment.fc.model import FullyConnectedModel
from dentalign.autoencoder.encoder import ChebyshevLayer, Encoder

_SQUARINGS = 32


class ExportableEncoder(nn.Module):
    """`Encoder.forward` with the graph given."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, points: torch.Tensor, neighbours: torch.Tensor) -> torch.Tensor:
        """points (B, P, 3), neighbours (B, P, k) -> (B, P, F)."""
        teeth, count, _ = points.shape
        rows = (neighbours + torch.arange(teeth)[:, None, None] * count).flatten()  # (B P k,)
        x = ((points - self.encoder.centre) / self.encoder.scale).flatten(0, 1)  # (B P, 3)
        x = functional.silu(self._layer(self.encoder.first, x, rows))
        x = functional.silu(self._layer(self.encoder.second, x, rows))
        return self._layer(self.encoder.third, x, rows).unflatten(0, (teeth, count))

    def _layer(self, layer: ChebyshevLayer, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """See `ChebyshevLayer`; x (B P, C), its terms T_k(-A) x side by side."""
        k = self.encoder.config.neighbours
        terms = [x]
        for number in range(1, layer.terms):
            average = -terms[-1].index_select(0, rows).unflatten(0, (-1, k)).mean(1)
            terms.append(average if number == 1 else 2 * average - terms[-2])
        out: torch.Tensor = layer.linear(torch.cat(terms, -1))
        return out


class ExportableFullyConnectedModel(nn.Module):
    """`FullyConnectedModel.predict_latents`."""

    def __init__(self, alignment_model: FullyConnectedModel):
        super().__init__()
        self.alignment_model = alignment_model

    def forward(self, latents: torch.Tensor, present: torch.Tensor, stays: torch.Tensor) -> torch.Tensor:
        """latents (N, 32, P, F), present and stays (N, 32) bool -> (N, 32, P, F)."""
        basis = self.alignment_model.basis
        return basis.add(latents, self.alignment_model.network(basis.encode(latents), present, stays))


class ExportableAttentionModel(nn.Module):
    """`AttentionModel.predict`, whole."""

    def __init__(self, alignment_model: AttentionModel):
        super().__init__()
        self.alignment_model = alignment_model

    def forward(
        self, points: torch.Tensor, pose: torch.Tensor, present: torch.Tensor, stays: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """points (N, 32, P, 3), pose (N, 32, 4, 4) float64 -> pose (N, 32, 4, 4), expected_add_mm (N, 32)."""
        network = self.alignment_model.network
        local = points[:, :, :: points.shape[2] // network.points].double()
        centre = local.mean(2)  # (N, 32, 3)
        centroid = _apply(pose[..., :3, :3], centre) + pose[..., :3, 3]
        teeth = PosedTeeth((local - centre[:, :, None]).float(), pose[..., :3, :3].float(), centroid.float())
        wanted = stays & present
        present = present & network.known_at_t1
        stays = stays & present
        rotation, there, log_error = self.alignment_model.forward(teeth, present, stays, _to_canonical_frame)
        exact = nearest_rotation(rotation.double())
        found = _pose(exact, there.double() - _apply(exact, centre))
        here = stays & network.known_at_t2
        answer = torch.where(here[..., None, None], found, pose)
        answer = torch.where(wanted[..., None, None], answer, torch.eye(4, dtype=pose.dtype))
        expected = torch.where(here, log_error.exp() * network.expected_error_scale, torch.nan)
        return answer, expected


def _to_canonical_frame(
    centroid: torch.Tensor, present: torch.Tensor, reference: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `posed_teeth.to_canonical_frame`."""
    covariance, here, there = cross_covariance(centroid, present, reference)
    rotation = nearest_rotation(covariance.double()).float()
    return rotation, (there - here @ rotation.mT)[:, 0]


def nearest_rotation(matrix: torch.Tensor) -> torch.Tensor:
    """The rotation R nearest to each matrix M (..., 3, 3) float64, as `rotations.nearest`, by products alone.

    trace(R^T M) is a quadratic form of R's unit quaternion (Horn 1987, doi:10.1364/JOSAA.4.000629), so the
    answer is the eigenvector to the largest eigenvalue. Shifted until none is negative, the form squared
    over and over is that eigenvector's projector: 32 squarings part eigenvalues that differ by 1e-8 of
    themselves. Where the two largest are equal, there is no one nearest rotation.
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrix.unbind(-2))
    entries = [
        a + e + i, h - f, c - g, d - b,
        h - f, a - e - i, b + d, c + g,
        c - g, b + d, e - a - i, f + h,
        d - b, c + g, f + h, i - a - e,
    ]  # fmt: skip
    form = torch.stack(entries, -1).unflatten(-1, (4, 4))
    power = _normed(form) + torch.eye(4, dtype=matrix.dtype)
    for number in range(_SQUARINGS):
        if number % 4 == 0:  # in between the numbers cannot fall below 2^-16 of themselves
            power = _normed(power)
        power = power @ power
    largest = power.diagonal(dim1=-2, dim2=-1).argmax(-1)  # the column with most digits
    column = power.gather(-1, largest[..., None, None].expand(*power.shape[:-1], 1))[..., 0]
    w, x, y, z = (column / column.square().sum(-1, keepdim=True).sqrt()).unbind(-1)
    rotation = [
        w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z,
    ]  # fmt: skip
    return torch.stack(rotation, -1).unflatten(-1, (3, 3))


def _normed(matrix: torch.Tensor) -> torch.Tensor:
    return matrix / matrix.square().sum((-2, -1), keepdim=True).sqrt()


def _apply(rotation: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    return (rotation @ vector[..., None])[..., 0]


def _pose(rotation: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    """(..., 4, 4) of (..., 3, 3) and (..., 3)."""
    upper = torch.cat([rotation, translation[..., None]], -1)  # (..., 3, 4)
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=rotation.dtype).expand(*upper.shape[:-2], 1, 4)
    return torch.cat([upper, last], -2)
