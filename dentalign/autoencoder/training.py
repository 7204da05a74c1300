"""Training of the tooth autoencoder: encoder and decoder are trained together, then written to two files."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.autoencoder.encoder import ChebyshevLayer, Encoder, EncoderConfig
from dentalign.autoencoder.neighbours import nearest_neighbours
from dentalign.autoencoder.settings import Autoencoder
from dentalign.dataset.mouth_store import MouthStore
from dentalign.files import weights
from dentalign.geometry import rigid
from dentalign.running.device import choose_device
from dentalign.running.locks import exclusive
from dentalign.training.log import TrainingLog
from dentalign.training.loop import Metrics, Outcome, Schedule, checkpoint_key, train

HELD_OUT = 8  # every eighth case of the list is a validation case
LATENT_PENALTY = 1e-4  # keeps latents of order 1, which float16 holds well


class Teeth(NamedTuple):
    """N teeth in head coordinates.

    points     : (N, P, 3) float32, mm
    neighbours : (N, P, k) int64, see `nearest_neighbours`
    """

    points: torch.Tensor
    neighbours: torch.Tensor


class AutoencoderTask:
    """Task that trains encoder and decoder to reconstruct teeth at T1 and T2, moved at random."""

    def __init__(self, clouds: str | Path, settings: Autoencoder, device: torch.device):
        self.settings, self.device = settings, device
        self.train_teeth, self.held_out = _read_teeth(clouds, settings.neighbours, device)
        points = self.train_teeth.points
        torch.manual_seed(settings.seed)  # the layers that _initialise leaves as torch makes them
        config = EncoderConfig(points.shape[1], settings.neighbours, features=settings.features)
        self.encoder, self.decoder = Encoder(config), Decoder(DecoderConfig(settings.features))
        self.network = nn.ModuleDict({"encoder": self.encoder, "decoder": self.decoder}).to(device)
        for part in (self.encoder, self.decoder):
            part.centre.copy_(points.mean((0, 1)))
            part.scale.copy_(points.std())
        self._initialise(torch.Generator().manual_seed(settings.seed))

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator) -> None:
        """Start near a solution: points pass through the encoder, the decoder reads them by least squares."""
        encoder, decoder = self.encoder, self.decoder
        for layer in (encoder.first, encoder.second, encoder.third):
            _let_points_through(layer, generator)
        chosen = torch.randperm(len(self.train_teeth.points), generator=generator)[:256].to(self.device)
        points = self.train_teeth.points[chosen]
        latents = encoder(points, self.train_teeth.neighbours[chosen]).flatten(0, 1).double()
        wanted = ((points - encoder.centre) / encoder.scale).flatten(0, 1).double()
        given = torch.cat([latents, torch.ones_like(latents[:, :1])], dim=1)
        ridge = 1e-6 * len(given) * torch.eye(given.shape[1], dtype=given.dtype, device=given.device)
        solution = torch.linalg.solve(given.T @ given + ridge, given.T @ wanted)
        last = decoder.layers[-1]
        assert isinstance(last, nn.Linear)
        decoder.straight.weight.copy_(solution[:-1].T)
        nn.init.zeros_(last.weight)
        last.bias.copy_(solution[-1])

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Yield the loss of each batch.

        It is the mean squared distance between points and decoded points, in units of `encoder.scale`, plus
        LATENT_PENALTY times the mean squared latent.
        """
        settings, teeth = self.settings, self.train_teeth
        for chosen in torch.randperm(len(teeth.points), generator=generator).split(settings.batch_teeth):
            vector = torch.randn(len(chosen), 3, generator=generator)
            vector = vector * np.radians(settings.motion_deg) / 3**0.5
            translation = torch.randn(len(chosen), 1, 3, generator=generator) * settings.motion_mm / 3**0.5
            rotation = torch.from_numpy(rigid.rotation_matrix(vector.numpy())).float().to(self.device)
            index = chosen.to(self.device)
            points = teeth.points[index] @ rotation.mT + translation.to(self.device)  # (B, P, 3)
            latents = self.encoder(points, teeth.neighbours[index])
            error = (self.decoder(latents) - points) / self.encoder.scale
            yield error.square().sum(-1).mean() + LATENT_PENALTY * latents.square().mean()

    @torch.no_grad()
    def validate(self) -> Metrics:
        """Measure `val_reconstruction_mm`: mean distance of decoded points from points, held-out cases."""
        total = 0.0
        for points, neighbours in zip(*(part.split(64) for part in self.held_out), strict=True):
            distance = (self.decoder(self.encoder(points, neighbours)) - points).norm(dim=-1)
            total += float(distance.mean(1).sum())
        return {"val_reconstruction_mm": total / len(self.held_out.points)}


def _let_points_through(layer: ChebyshevLayer, generator: torch.Generator) -> None:
    """Make the term of a point itself an orthonormal matrix, and those of its neighbours small."""
    inputs = layer.linear.in_features // layer.terms
    weight = layer.linear.weight
    first = torch.randn(weight.shape[0], inputs, generator=generator)
    narrowing = len(first) < inputs  # then some of the input is lost
    orthonormal = torch.linalg.qr(first.mT if narrowing else first)[0]
    weight[:, :inputs] = (orthonormal.mT if narrowing else orthonormal).to(weight)
    rest = torch.randn(weight.shape[0], weight.shape[1] - inputs, generator=generator)
    weight[:, inputs:] = (0.2 / (weight.shape[1] - inputs) ** 0.5 * rest).to(weight)
    layer.linear.bias.copy_(0.3 * torch.randn(weight.shape[0], generator=generator))


def _read_teeth(clouds: str | Path, neighbours: int, device: torch.device) -> tuple[Teeth, Teeth]:
    """Read all teeth of the list at T1 and T2: training teeth, held-out teeth."""
    parts: tuple[list[Teeth], list[Teeth]] = ([], [])
    with MouthStore(clouds) as store:
        for index in range(len(store)):
            mouth = store.mouth(index)
            held_out = index % HELD_OUT == HELD_OUT - 1 or len(store) == 1
            for present, pose in zip(mouth.present, mouth.pose, strict=True):
                local = mouth.points[present]
                head = torch.from_numpy(rigid.apply(pose[present], local)).float()
                graph = nearest_neighbours(torch.from_numpy(local), neighbours)
                parts[held_out].append(Teeth(head, graph))
                if len(store) < HELD_OUT:  # too few to hold any out
                    parts[not held_out].append(Teeth(head, graph))

    def joined(teeth: list[Teeth]) -> Teeth:
        return Teeth(*(torch.cat(tensors).to(device) for tensors in zip(*teeth, strict=True)))

    return joined(parts[0]), joined(parts[1])


def train_autoencoder(
    clouds: str | Path,
    encoder_out: str | Path,
    decoder_out: str | Path,
    log: str | Path,
    settings: Autoencoder,
) -> Outcome:
    """Train the tooth autoencoder, or resume its training; write weights of the best epoch, and the log."""
    torch.set_num_threads(settings.threads)
    device = choose_device(settings.device)
    values = settings.model_dump(exclude={"epochs", "patience", "cases"})
    key = checkpoint_key([clouds], {**values, "device": str(device)}, __file__)
    with exclusive(encoder_out), TrainingLog(log) as training_log:
        task = AutoencoderTask(clouds, settings, device)
        schedule = Schedule(settings.epochs, settings.patience, settings.learning_rate, decay_steps=100)
        outcome = train(task, schedule, settings.seed, f"autoencoder/{key}", training_log.epoch)
        task.network.load_state_dict(outcome.best_state)
        weights.save(encoder_out, task.encoder)
        weights.save(decoder_out, task.decoder)
        training_log.summary({"best_epoch": outcome.best_epoch, **outcome.best})
    return outcome
