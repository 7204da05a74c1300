"""The dense autoencoder of the first attempt: all latents of the mouth at T1 in, all latents at T2 out.

At 256 points x 32 features its layers fit in no memory, so its author fell back to 128 points x 2 features a
tooth: 8,192 numbers a mouth. Added here, as it did not learn without: every number brought to mean 0 and
spread 1 over the training mouths, the change from T1 predicted instead of T2, dropout, empty slots masked.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dentalign.geometry import rigid
from dentalign.mouth import T1, T2, Mouths
from dentalign.training.loop import Metrics

_SMALLEST_SPREAD = 1e-3


class DenseAutoencoder(nn.Module):
    """Fully connected: numbers -> wide -> narrow -> wide -> numbers, added to the input."""

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, numbers: int, wide: int, narrow: int, dropout: float):
        super().__init__()
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("spread", torch.ones(numbers))
        self.layers = nn.Sequential(
            nn.Linear(numbers, wide),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(wide, narrow),
            nn.ReLU(),
            nn.Linear(narrow, wide),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(wide, numbers),
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, normal: torch.Tensor) -> torch.Tensor:
        """Normalised latents (N, numbers) at T1 -> the same at T2."""
        out: torch.Tensor = normal + self.layers(normal)
        return out


Decode = Callable[[torch.Tensor], torch.Tensor]  # latents (N, 32, P, F) -> points (N, 32, P, 3), head, mm


class WholeToothDecoder:
    """All points of a tooth from all of its numbers, by ridge regression for each slot.

    The usual decoder makes a point from that point's own numbers, and two of them cannot hold three
    coordinates. This one has 256 numbers for a tooth, and they can.
    """

    def __init__(self, train: Mouths, ridge: float = 1e-3):
        """Learn from the training teeth at T1 and at T2; `ridge` is a share of the numbers' variance."""
        assert train.latents is not None
        slots, points, features = train.latents.shape[2:]
        self.points = points
        self.middle = torch.zeros(slots, points * features)
        self.place = torch.zeros(slots, points * 3)
        self.weight = torch.zeros(slots, points * features, points * 3)
        for slot in range(slots):
            if not train.present[:, T1, slot].any():
                continue
            given, wanted = [], []
            for stage, present in ((T1, train.present[:, T1]), (T2, train.stays)):
                here = present[:, slot]
                given.append(
                    train.latents[here, stage, slot].reshape(here.sum(), points * features).astype(np.float64)
                )
                local = train.points[here, slot].astype(np.float64)
                posed = rigid.apply(train.pose[here, stage, slot], local)
                wanted.append(posed.reshape(here.sum(), points * 3))
            x, y = (torch.from_numpy(np.concatenate(parts)) for parts in (given, wanted))
            self.middle[slot], self.place[slot] = x.mean(0), y.mean(0)
            x, y = x - x.mean(0), y - y.mean(0)
            square = x.T @ x
            square += ridge * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
            self.weight[slot] = torch.linalg.solve(square, x.T @ y)

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """Points (N, 32, P, 3), head, mm."""
        change = torch.einsum("nsk,skd->nsd", latents.flatten(2) - self.middle, self.weight)
        return (self.place + change).view(*latents.shape[:2], self.points, 3)


class DenseTask:
    """Mean squared error of the normalised latents of the teeth that stay."""

    def __init__(
        self, network: DenseAutoencoder, train: Mouths, held_out: Mouths, decoder: Decode, batch: int
    ):
        self.network, self.train, self.held_out, self.decoder = network, train, held_out, decoder
        self.batch = batch
        assert train.latents is not None
        there = np.stack([train.present[:, T1], train.stays], 1)[..., None, None]  # (N, 2, 32, 1, 1)
        count = np.maximum(there.sum((0, 1)), 1)
        mean = (train.latents * there).sum((0, 1), dtype=np.float64) / count
        square = (np.square(train.latents, dtype=np.float32) * there).sum((0, 1), dtype=np.float64) / count
        spread = np.sqrt(np.maximum(square - mean**2, _SMALLEST_SPREAD**2))
        network.mean.copy_(torch.from_numpy(mean.ravel()))
        network.spread.copy_(torch.from_numpy(spread.ravel()))

    def _normal(self, latents: NDArray[np.float16], there: NDArray[np.bool_]) -> torch.Tensor:
        flat = torch.from_numpy(latents.astype(np.float32)).flatten(1)
        return (flat - self.network.mean) / self.network.spread * _numbers(there, latents)

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Each case once."""
        assert self.train.latents is not None
        at_t1, stays = self.train.present[:, T1], self.train.stays
        for chosen in torch.randperm(len(stays), generator=generator).split(self.batch):
            rows = chosen.numpy()
            latents = self.train.latents[rows]
            start = self._normal(latents[:, T1], at_t1[rows])
            wanted = self._normal(latents[:, T2], stays[rows])
            weight = _numbers(stays[rows], latents[:, T1])
            yield ((self.network(start) - wanted).square() * weight).sum() / weight.sum()

    def validate(self) -> Metrics:
        """`add_mm` after the rigid fit to the decoded teeth."""
        return {"val_add_mm": float(self.errors(self.held_out).mean())}

    @torch.no_grad()
    def errors(self, mouths: Mouths) -> NDArray[np.float64]:
        """ADD of each tooth that stays, mm."""
        self.network.eval()
        assert mouths.latents is not None
        found = self.network(self._normal(mouths.latents[:, T1], mouths.present[:, T1]))
        latents = (found * self.network.spread + self.network.mean).view(mouths.latents[:, T1].shape)
        decoded = self.decoder(latents).numpy().astype(np.float64)[mouths.stays]
        local = mouths.points[mouths.stays].astype(np.float64)
        true = rigid.apply(mouths.pose[:, T2][mouths.stays], local)
        return np.linalg.norm(rigid.apply(rigid.fit(local, decoded), local) - true, axis=-1).mean(-1)


def _numbers(there: NDArray[np.bool_], latents: NDArray[np.float16]) -> torch.Tensor:
    """1.0 for each number of a present tooth: (N, 32 P F)."""
    return torch.from_numpy(there).float().repeat_interleave(latents.shape[-1] * latents.shape[-2], 1)
