"""Few numbers per tooth that say where it stands and how large it is: directions within the latent codes.

All are linear, computed from the training copies and the decoder, and become buffers of the network.
"""

import numpy as np
import torch

from dentalign.alignment.fc.latent_basis import LatentBasis
from dentalign.alignment.fc.latent_codes import LatentCodes
from dentalign.alignment.fc.network import FullyConnected
from dentalign.autoencoder.decoder import Decoder
from dentalign.geometry import rigid
from dentalign.mouth import T1
from dentalign.teeth import SLOT_COUNT

SMALLEST_VARIANCE = 1e-6  # mm^2, of a direction of movement
EXTENT_PENALTY = 1e-3  # of squared weights, times the mean variance of the codes


class Moments:
    """Sums of vectors (C, 32, d) of teeth, for their mean (32, d) and covariance (32, d, d), float64."""

    def __init__(self, components: int):
        self.count = torch.zeros(SLOT_COUNT, 1)
        self.total = torch.zeros(SLOT_COUNT, components, dtype=torch.float64)
        self.square = torch.zeros(SLOT_COUNT, components, components, dtype=torch.float64)

    def add(self, values: torch.Tensor, mask: torch.Tensor) -> None:
        """Add the vectors where mask (C, 32) is True."""
        values = values * mask[..., None]
        self.count += mask.sum(0)[:, None]
        self.total += values.sum(0)
        self.square += torch.einsum("csd,cse->sde", values, values)

    @property
    def mean(self) -> torch.Tensor:
        """Mean (32, d), 0 without a tooth."""
        return self.total / self.count.clamp(min=1)

    @property
    def covariance(self) -> torch.Tensor:
        """Covariance (32, d, d), 0 without a tooth."""
        mean = self.mean
        return self.square / self.count.clamp(min=1)[..., None] - mean[:, :, None] * mean[:, None]


def movements(
    covariance: torch.Tensor, metric: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Directions in which teeth move most, in mm: principal components of the change of the codes.

    covariance : (32, d, d), of the changes of the codes
    metric     : (32, d, d), see `decoder_slopes`
    count      : m, number of directions; 7 make up rigid motions and what the linearised decoder adds
    returns    : `FullyConnected.to_movement` and `from_movement`, (32, d, m); 0 for a slot that never moves.
                 `from_movement` is the regression of the change on the movement
    """
    values, vectors = torch.linalg.eigh(metric)
    root = vectors * values.clamp(min=0).sqrt()[:, None]  # |root' dz|^2 = dz' metric dz
    variance, directions = torch.linalg.eigh(root.mT @ covariance @ root)
    variance, directions = variance.flip(1)[:, None, :count], directions.flip(2)[..., :count]
    there = (root @ directions) * (variance > SMALLEST_VARIANCE)
    return there, covariance @ there / variance.clamp(min=SMALLEST_VARIANCE)


def extents(codes: LatentCodes) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Extents of the crowns, mm, as a linear function of the codes: regression on all training copies.

    returns : `FullyConnected.to_extent` (32, d, 3), `extent_mean` and `extent_scale` (32, 3); 0, 0 and 1
              for a slot without a tooth
    """
    size = codes.z.shape[-1]
    both = Moments(size + 3)
    for z, extent, present in zip(codes.z, codes.extent, codes.present, strict=True):
        of_stages = np.broadcast_to(extent[:, None], (*z.shape[:-1], 3))
        values = torch.from_numpy(np.concatenate([z, of_stages], axis=-1)).flatten(0, 1)
        both.add(values, torch.from_numpy(present).flatten(0, 1))
    square, product = both.covariance[:, :size].split([size, 3], dim=-1)
    variance = square.diagonal(dim1=1, dim2=2).mean(-1).clamp(min=SMALLEST_VARIANCE)
    penalty = EXTENT_PENALTY * variance[:, None, None] * torch.eye(size, dtype=square.dtype)
    there = torch.linalg.solve(square + penalty, product)
    spread = torch.einsum("sdk,sde,sek->sk", there, square, there).clamp(min=0).sqrt()
    mean = torch.einsum("sd,sdk->sk", both.mean[:, :size], there)
    return there, mean, torch.where(spread > 0, spread, 1.0)


def decoder_slopes(basis: LatentBasis, decoder: Decoder) -> tuple[torch.Tensor, torch.Tensor]:
    """Movement of a tooth's decoded points with its code; the decoder is linearised at each mean latent.

    returns : matrices M (32, d, d): dz' M dz is the mean squared movement of the points, mm^2; and
              (32, 3, d): slope @ dz is the movement of their centroid, mm
    """
    slots, width, components = basis.basis.shape
    features = decoder.config.features
    device = next(decoder.parameters()).device
    metric, slope_of_centroid = torch.zeros(slots, components, components), torch.zeros(slots, 3, components)
    jacobian = torch.func.vmap(torch.func.jacrev(decoder))
    for slot in range(slots):
        slope = jacobian(basis.mean[slot].reshape(-1, features).to(device)).detach()  # (P, 3, F)
        directions = basis.basis[slot].reshape(-1, features, components).to(device)  # (P, F, d)
        moved = slope @ directions  # (P, 3, d)
        slope_of_centroid[slot] = moved.mean(0).cpu()
        flat = moved.reshape(-1, components)
        metric[slot] = (flat.T @ flat / (width // features)).cpu()
    return metric.to(device), slope_of_centroid.to(device)


def frames(codes: LatentCodes, network: FullyConnected) -> tuple[torch.Tensor, torch.Tensor]:
    """Effect of a rigid motion of a whole mouth on the places of its teeth, and the motion from the places.

    It is a regression on the copies that have been moved; without any the result is 0.

    returns : `FullyConnected.to_frame` and `from_frame`, (32, m, 6): translation, mm, and rotation vector,
              radians, about the origin of the head frame
    """
    present = torch.from_numpy(codes.present[:, :, T1])
    gram = torch.zeros(SLOT_COUNT, 6, 6, dtype=torch.float64)
    product = torch.zeros(SLOT_COUNT, 6, network.places, dtype=torch.float64)
    for case, place, here in zip(codes.z, codes.centroid, present, strict=True):
        z = torch.from_numpy(case[:, T1])
        for copy in range(2, len(z)):  # the first two are the mouth and its mirror image, the others moved
            original, teeth = copy % 2, here[copy].numpy()
            if teeth.sum() < 3:  # their centroids have no one motion
                continue
            motion = rigid.fit(place[original, T1, teeth], place[copy, T1, teeth])
            vector = np.concatenate([motion[:3, 3], rigid.rotation_vector(motion[:3, :3])])
            moved = torch.einsum("sd,sdm->sm", z[copy] - z[original], network.to_movement).double()
            x = torch.from_numpy(vector) * here[copy][:, None]  # (32, 6)
            gram += x[:, :, None] * x[:, None]
            product += x[:, :, None] * moved[:, None]
    effect = (torch.linalg.pinv(gram, hermitian=True) @ product).mT  # (32, m, 6)
    share = present.double().mean((0, 1))
    whole = torch.einsum("s,smk,sml->kl", share, effect, effect)
    return effect @ torch.linalg.pinv(whole, hermitian=True), effect
