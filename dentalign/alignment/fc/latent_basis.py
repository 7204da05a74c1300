"""Linear latent code of each slot: mean and principal components of its latents.

Principal components are the best linear autoencoder there is (Baldi & Hornik 1989,
doi:10.1016/0893-6080(89)90014-2), so they are computed, not trained.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.teeth import SLOT_COUNT


@dataclass(frozen=True)
class LatentBasis:
    """Basis of the latent code of each slot: z = (latent - mean) @ basis, for latents flattened to (P F,).

    mean   : (32, P F) float32, units of the encoder's raw output
    basis  : (32, P F, d) float32, orthonormal columns; zero columns where a slot had fewer teeth than d
    spread : (32, d) float32, standard deviation of z over the teeth that the basis was fitted to
    """

    mean: torch.Tensor
    basis: torch.Tensor
    spread: torch.Tensor

    @classmethod
    def fit(
        cls, latents: Iterable[tuple[NDArray[np.float32], NDArray[np.bool_]]], components: int
    ) -> "LatentBasis":
        """Fit the basis to states of mouths; all latents are held in memory as float16.

        latents    : for each state, latents (32, P, F) and present (32,) bool
        components : d, length of the latent code of a tooth
        """
        kept: list[list[NDArray[np.float16]]] = [[] for _ in range(SLOT_COUNT)]
        width = 0
        for state, present in latents:
            width = state[0].size
            for slot in np.flatnonzero(present).tolist():
                kept[slot].append(state[slot].reshape(-1).astype(np.float16))
        mean = torch.zeros(SLOT_COUNT, width)
        basis = torch.zeros(SLOT_COUNT, width, components)
        spread = torch.zeros(SLOT_COUNT, components)
        for slot, rows in enumerate(kept):
            if rows:
                x = torch.from_numpy(np.stack(rows)).float()  # (n, K)
                mean[slot] = x.mean(0)
                directions, deviations = _principal(x - mean[slot], components)
                basis[slot, :, : directions.shape[1]] = directions
                spread[slot, : len(deviations)] = deviations
        # Half precision halves the weights file; the latent code is defined by the stored numbers.
        return cls(mean.half().float(), basis.half().float(), spread)

    @property
    def components(self) -> int:
        """Length d of the latent code of a tooth."""
        return self.basis.shape[2]

    def to(self, device: torch.device) -> "LatentBasis":
        """Return the basis on another device."""
        return LatentBasis(self.mean.to(device), self.basis.to(device), self.spread.to(device))

    def at_points(self, points: slice, features: int) -> "LatentBasis":
        """Restrict the basis to some of a tooth's points: `add` works on their latents, `encode` does not.

        features : F, number of features per point
        """
        slots, width, components = self.basis.shape
        mean = self.mean.reshape(slots, width // features, features)[:, points].flatten(1)
        basis = self.basis.reshape(slots, -1, features, components)[:, points].flatten(1, 2)
        return LatentBasis(mean, basis, self.spread)

    def encode(self, latents: torch.Tensor) -> torch.Tensor:
        """Compute the latent codes z (N, 32, d) of latents (N, 32, P, F)."""
        return torch.einsum("nsk,skd->nsd", latents.flatten(2) - self.mean, self.basis)

    def add(self, latents: torch.Tensor, dz: torch.Tensor) -> torch.Tensor:
        """Change the latent codes of latents (N, 32, P, F) by dz (N, 32, d); what the codes omit is kept."""
        return latents + torch.einsum("nsd,skd->nsk", dz, self.basis).reshape(latents.shape)


def _principal(x: torch.Tensor, components: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Leading principal directions (K, d) and standard deviations (d,) of centred rows x (n, K), n << K.

    By torch and not numpy: the last digits depend on the number of threads, which for torch is a parameter.
    """
    wide = x.double()
    values, vectors = torch.linalg.eigh(wide @ wide.T)  # ascending
    values, vectors = values.flip(0)[:components], vectors.flip(1)[:, :components]
    real = values > 1e-6 * values.max().clamp(min=1e-12)
    values, vectors = values[real], vectors[:, real]
    directions = wide.T @ (vectors / values.sqrt())
    largest = directions.abs().argmax(0, keepdim=True)
    directions = directions * directions.gather(0, largest).sign()
    return directions.float(), (values / len(x)).sqrt().float()
