"""Training of the alignment model `fc` on latents."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from dentalign.alignment.base import AlignTask, ModelTraining, PredictedT2, TrainingData
from dentalign.alignment.conditions import Conditions, arch_motion, revealed, width_change
from dentalign.alignment.fc import latent_codes
from dentalign.alignment.fc.latent_codes import Augmentation, LatentCodes
from dentalign.alignment.fc.model import FullyConnectedModel
from dentalign.alignment.fc.movement_code import Moments, decoder_slopes, extents, frames, movements
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

# mm; what varies less is not blown up to unit size on the way in or out.
SMALLEST_SPREAD_IN, SMALLEST_SPREAD_OUT = 0.05, 0.02
SMALLEST_MM2 = 1e-4  # added to a squared distance, whose root has no slope at 0
LOG_ERROR_SHARE = 0.1  # of the loss


class FullyConnectedTraining(ModelTraining):
    """Section `train.fc` of params.yaml: shape and training of the model `fc`."""

    model: ClassVar = FullyConnectedModel

    components: Positive = 32
    movements: Positive = 8
    midway: Annotated[float, Field(ge=0, lt=1)] = 0.5
    hidden: Positive = 512
    blocks: NotNegative = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
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
        network = self.model_dump(include={"components", "movements", "hidden", "blocks", "dropout"})
        network["planners"] = len(data.planners)
        model = FullyConnectedModel(data.config(network))
        model.set_basis(codes.basis)
        return FullyConnectedTask(codes, data, model.to(data.device), decoder, self)


class LatentLoss(nn.Module):
    """Loss: mean over the teeth of the distance, mm, between predicted and planned points.

    The distance is the root mean square over the points of a tooth, estimated from its latent code. The
    absolute error of log_expected_error is added, times LOG_ERROR_SHARE.

    metric : (32, d, d), see `decoder_slopes`
    """

    def __init__(self, network: nn.Module, metric: torch.Tensor):
        super().__init__()
        self.network, self.metric = network, metric

    def forward(
        self, start: torch.Tensor, change: torch.Tensor, present: torch.Tensor, told: Conditions
    ) -> torch.Tensor:
        """Return the loss () of a batch.

        start   : (B, 32, d), latent codes at T1
        change  : (B, 32, d), planned change of the codes up to T2
        present : (B, 2, 32) bool, slots with a tooth; a tooth counts if it is there at T1 and at T2, and is
                  not held
        """
        predicted, log_error = self.network(start, present[:, T1], present.all(1), told)
        error = predicted - change
        square = torch.einsum("bsd,sde,bse->bs", error, self.metric, error)
        distance = (square.clamp(min=0) + SMALLEST_MM2).sqrt()
        wrong = (log_error - distance.detach().log()).abs()
        counts = counted(present, told)
        return ((distance + LOG_ERROR_SHARE * wrong) * counts).sum() / counts.sum().clamp(min=1)


def counted(present: torch.Tensor, told: Conditions) -> torch.Tensor:
    """Teeth (B, 32) that count in the loss, bool, from present (B, 2, 32) and the conditions."""
    return present.all(1) & ~told.held


class FullyConnectedTask(AlignTask):
    """Task that trains `FullyConnectedModel` on latent codes; the loss is `LatentLoss`.

    held_out : validation mouths, with about `VALIDATION_POINTS` points per tooth
    latents  : (N, 32, p, F), latents of these points at T1
    z        : (N, 32, d), latent codes of the validation mouths at T1
    """

    model: FullyConnectedModel

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
        self.planner = torch.from_numpy(data.planner_numbers(data.train_rows))
        metric, slope = decoder_slopes(codes.basis, decoder)
        self.slope, self.spread = slope.cpu(), self._set_scales(model, metric.cpu())
        self.loss = data_parallel.wrap(LatentLoss(model.network, metric))
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

    def _set_scales(self, model: FullyConnectedModel, metric: torch.Tensor) -> torch.Tensor:
        """Set the buffers of the network from the training copies, on the CPU.

        metric  : (32, d, d), see `decoder_slopes`
        returns : (32, d, d), a square root of the covariance of the change: times a normal random vector it
                  is like a movement of the training cases
        """
        network, at_t1 = model.network.cpu(), self.present[:, :, T1]
        z = torch.from_numpy(self.codes.z)
        change, start, place = (Moments(size) for size in (*z.shape[-1:], *z.shape[-1:], network.places))
        for case, present in zip(z, self.present, strict=True):  # one at a time: all may not fit in memory
            change.add(case[:, T2] - case[:, T1], present.all(1))
            start.add(case[:, T1], present[:, T1])
        there, back = movements(change.covariance, metric.double(), network.places)
        network.to_movement.copy_(there)
        network.from_movement.copy_(back)
        network.input_mean.copy_(torch.einsum("sd,sdm->sm", start.mean, there))
        network.output_mean.copy_(torch.einsum("sd,sdm->sm", change.mean, there))
        variance = torch.einsum("sdm,sde,sem->sm", there, change.covariance, there).clamp(min=0)
        network.output_scale.copy_((variance + SMALLEST_SPREAD_OUT**2).sqrt())
        of_crowns = zip(("to_extent", "extent_mean", "extent_scale"), extents(self.codes), strict=True)
        of_mouths = zip(("to_frame", "from_frame"), frames(self.codes, network), strict=True)
        for name, part in (*of_crowns, *of_mouths):
            getattr(network, name).copy_(part)
        for case, present in zip(z, at_t1, strict=True):
            place.add(network.relative_place(case[:, T1], present), present)
        spread = place.covariance.diagonal(dim1=1, dim2=2).clamp(min=0)
        network.input_scale.copy_((spread + SMALLEST_SPREAD_IN**2).sqrt())
        network.to(self.device)
        values, vectors = torch.linalg.eigh(change.covariance)
        return (vectors * values.clamp(min=0).sqrt()[:, None]).float()

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Yield the loss of each batch; an epoch has each case once, as a random one of its augmented copies.

        A random part of the conditions is known. The codes at T1 are changed at random, see `_changed`, and
        some teeth are left out.
        """
        settings, (cases, copies) = self.settings, self.present.shape[:2]
        for chosen in torch.randperm(cases, generator=generator).split(settings.batch_cases):
            copy = torch.randint(copies, (len(chosen),), generator=generator)
            z, centroid, held = (
                torch.from_numpy(part[chosen.numpy(), copy.numpy()])
                for part in (self.codes.z, self.codes.centroid, self.codes.held)
            )
            keep = torch.rand(len(chosen), 1, SLOT_COUNT, generator=generator) >= settings.tooth_dropout
            present = self.present[chosen, copy] & keep  # (B, 2, 32)
            told = Conditions.unknown(len(chosen))
            known = (torch.zeros_like(part) for part in (told.motion, told.width))  # filled in below
            told = revealed(Conditions(self.planner[chosen], held, torch.zeros_like(held), *known), generator)
            start = z[:, T1] + self._changed(z, present.all(1), told.held, generator)
            rows = data_parallel.rows(len(chosen))
            place = centroid[:, T1] + torch.einsum("nsd,sxd->nsx", start - z[:, T1], self.slope)
            teeth = place[rows], centroid[rows, T2], present[rows].all(1)
            part = told.at(rows).of(arch_motion(*teeth), width_change(*teeth))
            change = z[rows, T2] - start[rows]
            given = (x.to(self.device) for x in (start[rows], change, present[rows], part))
            loss = self.loss(*given)
            yield data_parallel.share(loss, counted(present[rows], part).sum(), counted(present, told).sum())

    def _changed(
        self, z: torch.Tensor, stays: torch.Tensor, held: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Random change (B, 32, d) of the codes at T1; the codes at T2 remain.

        z           : (B, 2, 32, d)
        stays, held : (B, 32) bool; held teeth are not changed

        Half of the mouths begin on the way to T2. Each tooth is moved at random, by an amount drawn for the
        mouth, as teeth of the training cases move (a denoising autoencoder, Vincent et al. 2008,
        doi:10.1145/1390156.1390294).
        """
        count, settings = len(z), self.settings
        uniform = torch.rand(3, count, 1, 1, generator=generator)
        share = settings.midway * uniform[0] * (uniform[1] < 0.5) * stays[..., None]
        noise = torch.randn(count, *z.shape[2:], generator=generator)
        amount = 2 * settings.jitter * uniform[2]
        moved = torch.einsum("nsd,sed->nse", noise, self.spread)
        return (share * (z[:, T2] - z[:, T1]) + amount * moved) * ~held[..., None]

    @torch.no_grad()
    def predict_held_out(self) -> PredictedT2:
        """Predict T2 of the validation mouths like `FullyConnectedModel.predict`, by fewer points."""
        held, basis = self.held_out, self.basis.to(self.device)
        pose, expected = held.pose[:, T2].copy(), np.full(held.stays.shape, np.nan)
        for start in range(0, len(held), 32):
            part = slice(start, start + 32)
            present = torch.from_numpy(held.present[part]).to(self.device)
            told = Conditions.unknown(len(present)).to(self.device)
            z = self.z[part].to(self.device)
            change, log_error = self.model.network(z, present[:, T1], present.all(1), told)
            latents = self.latents[part].float().to(self.device)
            decoded = self.decoder(basis.add(latents, change)).cpu().numpy()
            stays = held.stays[part]
            pose[part][stays] = rigid.fit(held.points[part][stays], decoded[stays])
            expected[part][stays] = log_error.exp().cpu().numpy()[stays]
        return PredictedT2(pose, expected_add_mm=expected)

    def validate(self) -> Metrics:
        """Measure `val_add_mm` like the pipeline stage `validate` (decoder, rigid fit), on fewer points."""
        return {"val_add_mm": float(self.held_out_add_mm(self.predict_held_out().pose).mean())}
