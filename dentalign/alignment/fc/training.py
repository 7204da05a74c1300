"""Training of the alignment model `fc` on latents."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from dentalign.alignment.fc import latent_codes
from dentalign.alignment.fc import model as fc_model
from dentalign.alignment.fc.latent_basis import LatentBasis
from dentalign.alignment.fc.latent_codes import Augmentation, LatentCodes
from dentalign.alignment.fc.model import FullyConnectedModel
from dentalign.alignment.task import ModelTraining, TrainingData
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.autoencoder.encoding import ToothEncoder
from dentalign.dataset.mouth_store import MouthStore
from dentalign.files import weights
from dentalign.geometry import rigid
from dentalign.params import NotNegative, Positive
from dentalign.running.locks import exclusive
from dentalign.running.state_dir import state_dir
from dentalign.teeth import SLOT_COUNT
from dentalign.training import data_parallel
from dentalign.training.loop import Metrics, checkpoint_key

VALIDATION_POINTS = 64  # of each tooth, per epoch; `validate` measures on all of them

# Raw latent units; what varies less than this is not blown up to unit size on the way in or out.
SMALLEST_SPREAD_IN, SMALLEST_SPREAD_OUT = 0.05, 0.02


class FullyConnectedTraining(ModelTraining):
    """Shape and training of the model `fc`."""

    components: Positive = 32
    hidden: Positive = 512
    blocks: NotNegative = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    jitter: Annotated[float, Field(ge=0)] = 0.7
    tooth_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    batch_cases: Positive = 16
    warm_up: Positive = 50
    decay_steps: Positive = 5000
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.995
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    augmentation: Augmentation = Augmentation()

    def prepare(self, data: TrainingData) -> tuple[FullyConnectedModel, "FullyConnectedTask"]:
        """See `ModelTraining.prepare`."""
        encoder = ToothEncoder(data.encoder_weights, str(data.device))
        decoder = weights.load(data.decoder_weights, Decoder, DecoderConfig).to(data.device)
        how = self.model_dump(include={"components", "augmentation"})
        how |= {"threads": data.threads, "device": str(data.device)}
        key = checkpoint_key([data.latents, data.encoder_weights], how, latent_codes.__file__)
        with exclusive(state_dir() / "latent_codes" / key):  # queued experiments share them
            codes = latent_codes.prepare(data.store, encoder, self.components, self.augmentation, key)
        torch.manual_seed(data.seed)
        network = {"hidden": self.hidden, "blocks": self.blocks, "dropout": self.dropout}
        model = fc_model.build(
            codes.basis, network, data.latent_shape, data.encoder_sha256, data.decoder_sha256
        )
        model.to(data.device)
        held_out = _held_out(data.store, codes.basis, data.validation_cases)
        return model, FullyConnectedTask(codes, held_out, model, decoder, self)


@dataclass(frozen=True)
class HeldOut:
    """Validation cases: code and latents at T1, and what the prediction is measured with."""

    z: torch.Tensor  # (N, 32, d)
    latents: torch.Tensor  # (N, 32, p, F), p of the points
    basis: LatentBasis  # for these points
    masks: torch.Tensor  # (N, 2, 32)
    points: NDArray[np.float32]  # (N, 32, p, 3) tooth-local mm
    poses: NDArray[np.float64]  # (N, 32, 4, 4) true T2


class LatentLoss(nn.Module):
    """How far the code of the teeth is from that at T2, by the network: mean squared point distance, mm^2.

    movement : (32, d), what the code changes by in treatments, standard deviation
    metric   : (32, d, d), see `_millimetres`
    """

    def __init__(self, network: nn.Module, movement: torch.Tensor, metric: torch.Tensor):
        super().__init__()
        self.network, self.movement, self.metric = network, movement, metric

    def forward(self, z: torch.Tensor, masks: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Of codes (N, 2, 32, d) of teeth (N, 2, 32), T1 shaken by noise (N, 32, d) x movement: ()."""
        start = z[:, 0] + noise * self.movement
        error = self.network(start, masks[:, 0], masks[:, 1]) - (z[:, 1] - start)
        pairs = masks.all(1)  # (N, 32)
        square = torch.einsum("bsd,sde,bse->bs", error, self.metric, error)
        return (square * pairs).sum() / pairs.sum().clamp(min=1)


class FullyConnectedTask:
    """Predict the change of the code from T1 to T2; the loss is `LatentLoss`."""

    def __init__(
        self,
        codes: LatentCodes,
        held_out: HeldOut,
        model: FullyConnectedModel,
        decoder: Decoder,
        settings: FullyConnectedTraining,
    ):
        self.codes, self.held_out, self.settings = codes, held_out, settings
        self.network = model.network
        self.basis, self.decoder = codes.basis, decoder
        self.device = next(model.network.parameters()).device
        self.masks = torch.from_numpy(codes.masks)
        self.loss = LatentLoss(self.network, self._set_scales(), _millimetres(codes.basis, decoder))

    def _set_scales(self) -> torch.Tensor:
        """Mean and spread of the change, and the spread of the code, from the training copies.

        returns : (32, d), standard deviation of the change
        """
        pairs = np.all(self.codes.masks, axis=2)[..., None]  # (N, C, 32, 1)
        count = np.maximum(pairs.sum((0, 1)), 1)
        total = np.zeros((2, *count.shape[:1], self.basis.components))
        for case in range(len(pairs)):  # one at a time: the codes may not fit in memory
            z = self.codes.of_case(case)  # (C, 2, 32, d)
            change = (z[:, 1] - z[:, 0]) * pairs[case]
            total += [change.sum(0), np.square(change).sum(0)]
        mean = total[0] / count
        variance = np.maximum(total[1] / count - mean**2, 0)
        network = self.network
        network.mean.copy_(torch.from_numpy(mean))
        network.scale.copy_(torch.from_numpy(np.sqrt(variance + SMALLEST_SPREAD_OUT**2)))
        network.in_scale.copy_((self.basis.spread**2 + SMALLEST_SPREAD_IN**2).sqrt())
        return torch.from_numpy(np.sqrt(variance)).to(network.scale)

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Each case once, as one of its copies; mean squared point distance per tooth, mm^2.

        T1 is shaken by a share of the movement seen in training while T2 stays (a denoising
        autoencoder, Vincent et al. 2008, doi:10.1145/1390156.1390294): where a tooth belongs depends
        on the mouth, not on where that tooth happens to stand. Some teeth are left out.
        """
        settings, codes, (cases, copies) = self.settings, self.codes, self.masks.shape[:2]
        order = torch.randperm(cases, generator=generator)
        for chosen in order.split(settings.batch_cases):
            copy = torch.randint(copies, (len(chosen),), generator=generator)
            own = data_parallel.own(len(chosen))
            z = torch.from_numpy(codes.of_copies(chosen[own].numpy(), copy[own].numpy()))  # (B, 2, 32, d)
            masks = self.masks[chosen, copy]  # (B, 2, 32)
            keep = torch.rand(len(chosen), 1, masks.shape[-1], generator=generator) >= settings.tooth_dropout
            noise = settings.jitter * torch.randn(len(chosen), *z.shape[2:], generator=generator)
            masks = masks & keep
            loss = self.loss(*(part.to(self.device) for part in (z, masks[own], noise[own])))
            yield data_parallel.weighed(loss, masks[own].all(1).sum(), masks.all(1).sum())

    def finish(self) -> None:
        """Nothing is left to do."""

    @torch.no_grad()
    def validate(self) -> Metrics:
        """`add_mm` on the validation cases, through decoder and rigid fit as in the stage validate."""
        held, errors = self.held_out, []
        basis = held.basis.to(self.device)
        for part in torch.arange(len(held.z)).split(32):
            masks = held.masks[part].to(self.device)
            change = self.network(held.z[part].to(self.device), masks[:, 0], masks[:, 1])
            latents = basis.shift(held.latents[part].float().to(self.device), change)
            pairs = masks.all(1).cpu().numpy()
            decoded = self.decoder(latents).cpu().numpy()[pairs]
            local = held.points[part.numpy()][pairs]
            true = rigid.apply(held.poses[part.numpy()][pairs], local)
            found = rigid.apply(rigid.fit(local, decoded), local)
            errors.append(np.linalg.norm(found - true, axis=-1).mean(-1))
        return {"val_add_mm": float(np.concatenate(errors).mean())}


def _held_out(store: MouthStore, basis: LatentBasis, most: int) -> HeldOut:
    rows = store.rows_of("val")[:most]
    masks = store.present(rows)
    layout, every = store.layout, max(1, store.layout.points // VALIDATION_POINTS)
    some = basis.at_points(slice(None, None, every), layout.features)
    few = -(-layout.points // every)
    # All at once and first: grown part by part between what each part needs for a moment, they would leave
    # the memory in pieces that fit nothing.
    z = torch.empty(len(rows), SLOT_COUNT, basis.components)
    latents = torch.empty(len(rows), SLOT_COUNT, few, layout.features, dtype=torch.float16)
    points = np.empty((len(rows), SLOT_COUNT, few, 3), np.float32)
    for start in range(0, len(rows), 4):  # a case needs some megabytes for a moment
        part = slice(start, start + 4)
        whole = torch.from_numpy(store.column("t1/latents", rows[part]))  # (4, 32, P, F)
        z[part] = basis.encode(whole.float())
        latents[part] = whole[:, :, ::every]
        points[part] = store.column("points", rows[part])[:, :, ::every]
    return HeldOut(z, latents, some, torch.from_numpy(masks), points, store.column("t2/pose", rows))


def _millimetres(basis: LatentBasis, decoder: Decoder) -> torch.Tensor:
    """Matrices (32, d, d) with dz' M dz = mean squared movement of a tooth's decoded points, mm^2.

    The loss through the frozen decoder, linearised at each slot's mean latent: the decoder is
    smooth there, and its work is paid once instead of at every step.
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
