"""Training of the alignment model `attention` on poses and points."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import nn

from dentalign.alignment.attention import model as attention_model
from dentalign.alignment.attention.contact_loss import (
    Neighbours,
    contact_error_mm,
    neighbours,
    planned_depth_mm,
)
from dentalign.alignment.attention.examples import Examples, ExamplesOnDisk
from dentalign.alignment.attention.model import AttentionModel, part_of_the_way, thinned, thinned_count
from dentalign.alignment.attention.network import PosedTeeth, PoseNetwork, ToothAttentionConfig
from dentalign.alignment.attention.recorded_loss import RecordedLoss
from dentalign.alignment.task import ModelTraining, TrainingData
from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import ParamError
from dentalign.geometry import rotations
from dentalign.mouth import T2
from dentalign.params import Positive
from dentalign.running.state_dir import state_dir
from dentalign.teeth import MIRRORED_SLOT
from dentalign.training import data_parallel
from dentalign.training.loop import Metrics

FEWEST_POINTS = 8  # of a tooth; fewer have no surface to speak of
ENOUGH = 8  # teeth of a slot and of its antimere together
ROUNDS = 5  # of bringing the training mouths to the mean of themselves
DOUBT_SHARE = 0.1  # of the loss


class AttentionTraining(ModelTraining):
    """Shape and training of the model `attention`."""

    points: Positive = 64
    width: Positive = 128
    layers: Positive = 5
    heads: Positive = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    midway: Annotated[float, Field(ge=0, lt=1)] = 0.5
    jitter_mm: Annotated[float, Field(ge=0)] = 0.24
    jitter_deg: Annotated[float, Field(ge=0)] = 1.7
    resize: Annotated[float, Field(ge=0, le=0.1)] = 0.03
    tooth_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.03
    contact: Annotated[float, Field(ge=0)] = 0.5
    batch_cases: Positive = 32
    warm_up: Positive = 200
    decay_steps: Positive = 2000
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.998
    weight_decay: Annotated[float, Field(ge=0)] = 0.05

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "AttentionTraining":
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got {self.width} and {self.heads}")
        return self

    def prepare(self, data: TrainingData) -> tuple[AttentionModel, "AttentionTask"]:
        """See `ModelTraining.prepare`."""
        torch.manual_seed(data.seed)
        network = network_config(self, data.store.layout.points)
        model = attention_model.build(network, data.latent_shape, data.encoder_sha256, data.decoder_sha256)
        model.to(data.device)
        return model, AttentionTask(data.store, model, self, data.validation_cases)


class MouthLoss(nn.Module):
    """How far the teeth of a batch are from the plan, by the network.

    The mean distance of their points, mm, a tenth of how far the logarithm of the expected error is from that
    of the error, and a share (`contact`) of the errors of the contacts, mm, summed over the pairs of
    neighbours; all divided by the number of teeth.
    """

    def __init__(self, network: PoseNetwork, contact: float):
        super().__init__()
        self.network, self.contact = network, contact

    def forward(self, batch: Examples, counts: torch.Tensor, pairs: Neighbours) -> torch.Tensor:
        """Of mouths in the standard place, teeth that count (N, 32), and neighbours both of which do: ()."""
        rotation, middle, doubt = self.network(batch.t1, batch.present, batch.stays)
        apart = batch.t1.points @ (rotation - batch.t2.rotation).mT + (middle - batch.t2.middle)[:, :, None]
        add = (apart.square().sum(-1) + 1e-6).sqrt().mean(-1)  # (N, 32) mm
        wrong = (doubt - add.detach().clamp(min=0.01).log()).abs()
        loss = ((add + DOUBT_SHARE * wrong) * counts).sum()
        if self.contact:
            found = PosedTeeth(batch.t2.points, rotation, middle)
            loss = loss + self.contact * contact_error_mm(found, batch.normals, batch.planned_mm, pairs).sum()
        return loss / counts.sum().clamp(min=1)


class AttentionTask:
    """Predict where the teeth stand at T2; the loss is `MouthLoss`."""

    def __init__(
        self, store: MouthStore, model: AttentionModel, settings: AttentionTraining, most_held_out: int
    ):
        self.model, self.network, self.settings = model, model.network, settings
        self.device = self.network.reference.device
        self.loss = RecordedLoss(MouthLoss(self.network, settings.contact))
        rows = store.rows_of("train")
        self.examples = ExamplesOnDisk.read(store, rows, self.network.points, state_dir() / "temporary")
        self._learn_means(self.examples)
        self._measure_contacts()
        rows = store.rows_of("val")[:most_held_out]
        mouths = store.mouths(rows)
        self.held_out = replace(mouths, points=thinned(mouths.points, self.network.points))
        self.planned = mouths.pose[:, T2][mouths.stays]  # (T, 4, 4)
        self.points = torch.from_numpy(mouths.points[mouths.stays]).to(self.device)  # (T, P, 3) local mm

    @torch.no_grad()
    def _learn_means(self, examples: ExamplesOnDisk) -> None:
        """Set the standard place and the means of the slots from the cases and their mirror images.

        The examples are moved to the standard place.
        """
        network, device = self.network, self.device
        counts = {"t1": torch.zeros(len(MIRRORED_SLOT)), "t2": torch.zeros(len(MIRRORED_SLOT))}
        for _, part in examples.parts(torch.device("cpu")):
            counts["t1"] += part.present.sum(0)
            counts["t2"] += part.stays.sum(0)
        for stage, count in counts.items():
            getattr(network, f"known_at_{stage}").copy_(count + count[MIRRORED_SLOT] >= ENOUGH)
        for start, part in examples.parts(device):
            present = part.present & network.known_at_t1
            examples.put(start, part._replace(present=present, stays=part.stays & present))
        # The mean mouth is that of the mouths as they stand when each is brought to it (generalised
        # Procrustes, Gower 1975, doi:10.1007/BF02291478): a rare slot must not depend on where its few
        # patients' heads lay.
        for _ in range(ROUNDS):
            network.reference.copy_(_mean((part.t1.middle, part.present) for part in _both(examples, device)))
            for start, part in examples.parts(device):
                examples.put(start, part.in_standard_place(network.reference))
        for stage, mask in (("t1", "present"), ("t2", "stays")):
            both = ((getattr(part, stage), getattr(part, mask)) for part in _both(examples, device))
            middle, rotation = (getattr(network, f"{stage}_{name}") for name in ("middle", "rotation"))
            means = _mean((torch.cat([t.middle, t.rotation.flatten(2)], 2), there) for t, there in both)
            middle.copy_(means[:, :3])
            turned = means[:, 3:].unflatten(1, (3, 3)).to(rotation)
            rotation.copy_(rotations.nearest(turned + 1e-6 * torch.eye(3).to(turned)))

    def _measure_contacts(self) -> None:
        """Set how deep neighbours are to stand in each other at T2; moving a mouth does not change it."""
        for start, part in self.examples.parts(self.device):
            depth = planned_depth_mm(part.t2, part.normals, part.stays & self.network.known_at_t2)
            self.examples.put(start, part._replace(planned_mm=depth))

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Each case once, itself or its mirror image, changed at random (`_changed`)."""
        # Batches are made on the CPU, while a GPU is still at work on the one before.
        reference, learnt = self.network.reference.cpu(), self.network.known_at_t2.cpu()
        order = torch.randperm(len(self.examples), generator=generator)
        for rows in order.split(self.settings.batch_cases):
            chosen = self.examples.at(rows)
            flip = torch.rand(len(rows), generator=generator) < 0.5
            turned = _where(flip, chosen.mirrored(), chosen)
            changed, own = self._changed(turned, generator), data_parallel.own(len(rows))
            part = changed.at(own).in_standard_place(reference)
            counts, whole = part.stays & learnt, changed.stays & learnt
            pairs = neighbours(turned.stays[own] & learnt, counts, as_many=self.device.type == "cuda")
            given = (part.to(self.device), counts.to(self.device), pairs.to(self.device))
            yield data_parallel.weighed(self.loss(*given), counts.sum(), whole.sum())

    def _changed(self, given: Examples, generator: torch.Generator) -> Examples:
        """Other mouths that have the same T2, or the same T2 but for their size.

        Half of them stand part of the way from T1 to T2 already: a plan that is halfway done has the same
        end. Each tooth is shaken, by an amount drawn for the mouth; the mouth is made a little larger or
        smaller, the teeth and the depths of their contacts with it; and some teeth are taken out.
        """
        settings, count = self.settings, len(given.present)

        def uniform(*shape: int) -> torch.Tensor:
            return torch.rand(count, *shape, generator=generator)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(count, *shape, generator=generator)

        t1, t2 = given.t1, given.t2
        share = settings.midway * uniform(1) * (uniform(1) < 0.5) * given.stays
        amount = 2 * uniform(1, 1)
        on_the_way = part_of_the_way(t1, t2.rotation, t2.middle, share)
        middle = on_the_way.middle + amount * settings.jitter_mm * normal(32, 3)
        shaken = amount * np.radians(settings.jitter_deg) * normal(32, 3)
        rotation = on_the_way.rotation @ rotations.matrix(shaken)
        size = 1 + settings.resize * normal(1, 1)
        points = t1.points * size[..., None]
        keep = uniform(32) >= 2 * settings.tooth_dropout * uniform(1)
        return Examples(
            PosedTeeth(points, rotation, middle * size),
            PosedTeeth(points, t2.rotation, t2.middle * size),
            given.normals,
            given.planned_mm * size,
            given.present & keep,
            given.stays & keep,
        )

    @torch.no_grad()
    def validate(self) -> Metrics:
        """`add_mm` on the validation cases, as the stage validate has it."""
        return {"val_add_mm": float(self._held_out_errors()[0].mean())}

    def _held_out_errors(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """ADD of each held-out tooth, and what the model expected it to be; mm."""
        held, poses, doubts = self.held_out, [], []
        at_once = 32 if self.device.type == "cpu" else len(held.present)
        for start in range(0, len(held.present), at_once):
            part = slice(start, start + at_once)
            pose, expected = self.model.poses(held.subset(part))
            poses.append(pose[held.stays[part]])
            doubts.append(expected[held.stays[part]])
        off = torch.from_numpy(np.concatenate(poses) - self.planned).to(self.device)
        errors = []
        for points, motion in zip(self.points.split(1024), off.split(1024), strict=True):
            apart = torch.baddbmm(motion[:, None, :3, 3], points.double(), motion[:, :3, :3].mT)
            errors.append(apart.norm(dim=-1).mean(-1))
        return torch.cat(errors).cpu().numpy(), np.concatenate(doubts)

    def finish(self) -> None:
        """Scale the expected errors so that they are right on average over the validation cases.

        The same cases chose the best epoch, so the errors expected of new ones are a little too small.
        """
        self.network.eval()
        error, expected = self._held_out_errors()
        known = np.isfinite(expected)
        if known.any():
            self.network.doubt_scale *= float(error[known].mean() / expected[known].mean())


def _mean(parts: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Mean (32, C) of what is there, in float64; values (N, 32, C), masks (N, 32) of each part."""
    total, count = torch.zeros(()), torch.zeros(())
    for value, mask in parts:
        weight = mask[..., None]
        total, count = total + (value.double() * weight).sum(0).cpu(), count + weight.sum(0).cpu()
    return total / count.clamp(min=1)


def _both(examples: ExamplesOnDisk, device: torch.device) -> Iterator[Examples]:
    """All mouths and their mirror images, part by part."""
    for _, part in examples.parts(device):
        yield from (part, part.mirrored())


def _where(flip: torch.Tensor, a: Examples, b: Examples) -> Examples:
    """`a` where `flip` (N,), else `b`."""

    def choose(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.where(flip.view(-1, *[1] * (x.ndim - 1)), x, y)

    t1, t2 = (PosedTeeth(*map(choose, getattr(a, s), getattr(b, s))) for s in ("t1", "t2"))
    return Examples(t1, t2, *map(choose, a[2:], b[2:]))


def network_config(settings: AttentionTraining, points: int) -> ToothAttentionConfig:
    """The shape of the network for clouds of so many points.

    raises: ParamError where so many cannot be thinned evenly to `settings.points` or a few less
    """
    seen = thinned_count(points, settings.points)
    if seen < FEWEST_POINTS:
        raise ParamError(
            f"train.attention.points: every so many of {points} points (sample.points), {settings.points} at "
            f"most, are {seen}, too few; take another number for one of them, such as 64 of 256"
        )
    return ToothAttentionConfig(
        seen, settings.width, settings.layers, settings.heads, settings.dropout, settings.midway
    )
