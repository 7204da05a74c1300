"""Training of the alignment model `fc` on latents."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from dentalign.alignment.base import AlignTask, ModelTraining, TrainingData
from dentalign.alignment.fc import latent_codes
from dentalign.alignment.fc.latent_basis import LatentBasis
from dentalign.alignment.fc.latent_codes import Augmentation, LatentCodes
from dentalign.alignment.fc.model import FullyConnectedModel
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.autoencoder.encoding import ToothEncoder
from dentalign.files import weights
from dentalign.geometry import rigid
from dentalign.mouth import T1, T2
from dentalign.params import NotNegative, Positive
from dentalign.teeth import SLOT_COUNT
from dentalign.training import data_parallel
from dentalign.training.loop import Metrics, checkpoint_key

VALIDATION_POINTS = 64  # of each tooth, per epoch; `validate` measures on all of them

# Raw latent units; what varies less is not blown up to unit size on the way in or out.
SMALLEST_SPREAD_IN, SMALLEST_SPREAD_OUT = 0.05, 0.02


class FullyConnectedTraining(ModelTraining):
    """Section `train.fc` of params.yaml: shape and training of the model `fc`."""

    model: ClassVar = FullyConnectedModel

    components: Positive = 32
    hidden: Positive = 512
    blocks: NotNegative = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    jitter: Annotated[float, Field(ge=0)] = 0.7
    tooth_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    batch_cases: Positive = 16
    warm_up: Positive = 50
    decay_steps: Positive = 5000
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    augmentation: Augmentation = Augmentation()

    def prepare(self, data: TrainingData) -> "FullyConnectedTask":
        """See `ModelTraining.prepare`."""
        encoder = ToothEncoder(data.encoder_weights, str(data.device))
        decoder = weights.load(data.decoder_weights, Decoder, DecoderConfig).to(data.device)
        how = self.model_dump(include={"components", "augmentation"})
        how |= {"threads": data.settings.threads, "device": str(data.device)}
        key = checkpoint_key([data.store.path, data.encoder_weights], how, latent_codes.__file__)
        codes = latent_codes.prepare(data.store, encoder, self.components, self.augmentation, key)
        torch.manual_seed(data.settings.seed)
        network = self.model_dump(include={"components", "hidden", "blocks", "dropout"})
        model = FullyConnectedModel(data.config(network))
        model.set_basis(codes.basis)
        return FullyConnectedTask(codes, data, model.to(data.device), decoder, self)


class LatentLoss(nn.Module):
    """Loss: mean squared distance, mm^2, between predicted and planned points, estimated from latent codes.

    movement : (32, d), standard deviation of the change of the codes from T1 to T2
    metric   : (32, d, d), see `_metric_mm2`
    """

    def __init__(self, network: nn.Module, movement: torch.Tensor, metric: torch.Tensor):
        super().__init__()
        self.network, self.movement, self.metric = network, movement, metric

    def forward(self, z: torch.Tensor, present: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return the loss () of a batch.

        z       : (B, 2, 32, d) latent codes at T1 and T2, see `LatentCodes`
        present : (B, 2, 32) bool, slots with a tooth; a tooth counts if it is there at T1 and at T2
        noise   : (B, 32, d), added to z at T1, in units of `movement`
        """
        start = z[:, T1] + noise * self.movement
        error = self.network(start, present[:, T1], present[:, T2]) - (z[:, T2] - start)
        pairs = present.all(1)  # (B, 32)
        square = torch.einsum("bsd,sde,bse->bs", error, self.metric, error)
        return (square * pairs).sum() / pairs.sum().clamp(min=1)


class FullyConnectedTask(AlignTask):
    """Task that trains `FullyConnectedModel` on latent codes; the loss is `LatentLoss`.

    held_out : validation mouths, with about `VALIDATION_POINTS` points per tooth
    latents  : (N, 32, p, F), latents of these points at T1
    z        : (N, 32, d), latent codes of the validation mouths at T1
    """

    def __init__(
        self,
        codes: LatentCodes,
        data: TrainingData,
        model: FullyConnectedModel,
        decoder: Decoder,
        settings: FullyConnectedTraining,
    ):
        self.codes, self.settings, self.model, self.decoder = codes, settings, model, decoder
        self.device = data.device
        self.present = torch.from_numpy(codes.present)
        movement = self._set_scales(model)
        self.loss = data_parallel.wrap(LatentLoss(model.network, movement, _metric_mm2(codes.basis, decoder)))
        every = max(1, data.store.layout.points // VALIDATION_POINTS)
        mouths, latents, z = data.store.mouths(data.held_out_rows), [], []
        for start in range(0, len(mouths), 4):  # a mouth takes some megabytes for a moment
            rows = data.held_out_rows[start : start + 4]
            whole = torch.from_numpy(data.store.column("t1/latents", rows))  # (4, 32, P, F)
            z.append(codes.basis.encode(whole.float()))
            latents.append(whole[:, :, ::every].clone())
        self.held_out = replace(mouths, points=mouths.points[:, :, ::every].copy())
        self.latents, self.z = torch.cat(latents), torch.cat(z)
        self.basis = codes.basis.at_points(slice(None, None, every), data.store.layout.features)

    def _set_scales(self, model: FullyConnectedModel) -> torch.Tensor:
        """Set mean and spread of the change, and spread of the code, from the training copies.

        returns : (32, d), standard deviation of the change
        """
        z, basis, network = self.codes.z, self.codes.basis, model.network
        pairs = np.all(self.codes.present, axis=2)[..., None]  # (N, C, 32, 1)
        count = np.maximum(pairs.sum((0, 1)), 1)
        total = np.zeros((2, SLOT_COUNT, basis.components))
        for case in range(len(pairs)):  # one at a time: as many numbers again may not fit in memory
            change = (z[case, :, T2] - z[case, :, T1]) * pairs[case]
            total += [change.sum(0), np.square(change).sum(0)]
        mean = total[0] / count
        variance = np.maximum(total[1] / count - mean**2, 0)
        network.output_mean.copy_(torch.from_numpy(mean))
        network.output_scale.copy_(torch.from_numpy(np.sqrt(variance + SMALLEST_SPREAD_OUT**2)))
        network.input_scale.copy_((basis.spread**2 + SMALLEST_SPREAD_IN**2).sqrt())
        return torch.from_numpy(np.sqrt(variance)).to(network.output_scale)

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Yield the loss of each batch; an epoch has each case once, as a random one of its augmented copies.

        Noise in proportion to the movements of the training cases is added at T1, not at T2 (a denoising
        autoencoder, Vincent et al. 2008, doi:10.1145/1390156.1390294), and some teeth are left out.
        """
        settings, (cases, copies) = self.settings, self.present.shape[:2]
        for chosen in torch.randperm(cases, generator=generator).split(settings.batch_cases):
            copy = torch.randint(copies, (len(chosen),), generator=generator)
            rows = data_parallel.rows(len(chosen))
            z = torch.from_numpy(self.codes.z[chosen[rows].numpy(), copy[rows].numpy()])  # (B, 2, 32, d)
            keep = torch.rand(len(chosen), 1, SLOT_COUNT, generator=generator) >= settings.tooth_dropout
            noise = settings.jitter * torch.randn(len(chosen), *z.shape[2:], generator=generator)
            present = self.present[chosen, copy] & keep  # (B, 2, 32)
            loss = self.loss(*(part.to(self.device) for part in (z, present[rows], noise[rows])))
            yield data_parallel.share(loss, present[rows].all(1).sum(), present.all(1).sum())

    @torch.no_grad()
    def validate(self) -> Metrics:
        """Measure `val_add_mm` like the pipeline stage `validate` (decoder, rigid fit), on fewer points."""
        held, basis = self.held_out, self.basis.to(self.device)
        pose = held.pose[:, T2].copy()
        for start in range(0, len(held), 32):
            part = slice(start, start + 32)
            present = torch.from_numpy(held.present[part]).to(self.device)
            change = self.network(self.z[part].to(self.device), present[:, T1], present[:, T2])
            latents = self.latents[part].float().to(self.device)
            decoded = self.decoder(basis.add(latents, change)).cpu().numpy()
            stays = held.stays[part]
            pose[part][stays] = rigid.fit(held.points[part][stays], decoded[stays])
        return {"val_add_mm": float(self.held_out_add_mm(pose).mean())}


def _metric_mm2(basis: LatentBasis, decoder: Decoder) -> torch.Tensor:
    """Matrices M (32, d, d): dz' M dz is the mean squared movement of a tooth's decoded points, mm^2.

    The loss through the frozen decoder, linearised at each slot's mean latent.
    """
    slots, width, components = basis.basis.shape
    features = decoder.config.features
    device = next(decoder.parameters()).device
    metric = torch.zeros(slots, components, components)
    jacobian = torch.func.vmap(torch.func.jacrev(decoder))
    for slot in range(slots):
        slope = jacobian(basis.mean[slot].reshape(-1, features).to(device)).detach()  # (P, 3, F)
        directions = basis.basis[slot].reshape(-1, features, components).to(device)  # (P, F, d)
        moved = (slope @ directions).reshape(-1, components)  # (3 P, d)
        metric[slot] = (moved.T @ moved / (width // features)).cpu()
    return metric.to(device)
