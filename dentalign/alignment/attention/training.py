"""Training of the alignment model `attention` on poses and points."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn

from dentalign.alignment.attention import examples
from dentalign.alignment.attention.contact_loss import (
    Neighbours,
    contact_error_mm,
    neighbours,
    planned_depth_mm,
)
from dentalign.alignment.attention.examples import Examples
from dentalign.alignment.attention.model import AttentionModel
from dentalign.alignment.attention.network import PoseNetwork, ToothAttentionConfig
from dentalign.alignment.attention.posed_teeth import (
    PosedTeeth,
    mirrored_poses,
    thinned_count,
    to_canonical_frame,
)
from dentalign.alignment.base import AlignmentModel, AlignTask, ModelTraining, TrainingData
from dentalign.alignment.conditions import Conditions, arch_motion, revealed, width_change
from dentalign.errors import ParamError
from dentalign.geometry import rotations
from dentalign.params import Positive
from dentalign.teeth import MIRRORED_SLOT, SLOT_COUNT
from dentalign.training import data_parallel

FEWEST_POINTS = 8  # per tooth; fewer give no useful normals
ENOUGH = 8  # teeth of a slot and of its antimere together
ROUNDS = 5  # of fitting the training mouths to their mean
LOG_ERROR_SHARE = 0.1  # of the loss


class AttentionTraining(ModelTraining):
    """Section `train.attention` of params.yaml: shape and training of the model `attention`."""

    model: ClassVar = AttentionModel

    points: Positive = 64
    width: Positive = 128
    layers: Positive = 5
    heads: Positive = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    midway: Annotated[float, Field(ge=0, lt=1)] = 0.5
    jitter_mm: Annotated[float, Field(ge=0)] = 0.24
    jitter_deg: Annotated[float, Field(ge=0)] = 1.7
    resize: Annotated[float, Field(ge=0, le=0.1)] = 0.03
    tooth_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.03
    contact: Annotated[float, Field(ge=0)] = 0.5
    batch_cases: Positive = 16
    warm_up: Positive = 200
    decay_steps: Positive = 2000
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    weight_decay: Annotated[float, Field(ge=0)] = 0.05

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "AttentionTraining":
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got {self.width} and {self.heads}")
        return self

    def prepare(self, data: TrainingData) -> "AttentionTask":
        """See `ModelTraining.prepare`."""
        torch.manual_seed(data.settings.seed)
        network = network_config(self, data.store.layout.points, len(data.planners))
        model = AttentionModel(data.config(asdict(network)))
        return AttentionTask(data, model.to(data.device), self)


class MouthLoss(nn.Module):
    """Loss of a batch of mouths: a sum divided by the number of teeth that count.

    Each tooth adds the mean distance between its points at the predicted and at the planned pose, mm, and
    LOG_ERROR_SHARE of the absolute error of its log_expected_error. Each pair of neighbours adds `contact`
    times its `contact_error_mm`.
    """

    def __init__(self, network: PoseNetwork, contact: float):
        super().__init__()
        self.network, self.contact = network, contact

    def forward(
        self, batch: Examples, told: Conditions, counts: torch.Tensor, pairs: Neighbours
    ) -> torch.Tensor:
        """Return the loss () of mouths in the canonical frame.

        told   : conditions of the mouths, in the canonical frame
        counts : (N, 32) bool, slots whose tooth counts in the loss
        pairs  : pairs of neighbours, both of which count in the loss
        """
        rotation, centroid, log_error = self.network(batch.t1, batch.present, batch.stays, told)
        held = told.held[..., None]
        centroid = torch.where(held, batch.t1_centroid, centroid)
        rotation = torch.where(held[..., None], batch.t1_rotation, rotation)
        away = (centroid - batch.t2_centroid)[:, :, None]
        apart = batch.points @ (rotation - batch.t2_rotation).mT + away
        add = (apart.square().sum(-1) + 1e-6).sqrt().mean(-1)  # (N, 32) mm
        wrong = (log_error - add.detach().clamp(min=0.01).log()).abs()
        loss = ((add + LOG_ERROR_SHARE * wrong) * counts).sum()
        if self.contact:
            found = PosedTeeth(batch.points, rotation, centroid)
            loss = loss + self.contact * contact_error_mm(found, batch.normals, batch.planned_mm, pairs).sum()
        return loss / counts.sum().clamp(min=1)


class AttentionTask(AlignTask):
    """Task that trains `AttentionModel` on the planned poses at T2; the loss is `MouthLoss`."""

    model: AttentionModel

    def __init__(self, data: TrainingData, model: AttentionModel, settings: AttentionTraining):
        self.model, self.settings, self.device = model, settings, data.device
        self.loss = data_parallel.wrap(MouthLoss(model.network, settings.contact))
        numbers = data.planner_numbers(data.train_rows)
        self.examples = examples.read(data.store, data.train_rows, model.network.points, numbers)
        self._learn_means()
        self._measure_contacts()
        self.held_out = data.store.mouths(data.held_out_rows)

    @torch.no_grad()
    def start_from(self, model: AlignmentModel) -> None:
        """See `AlignTask.start_from`; every planner begins as the unknown one of the other model.

        Slots that the other model has not learnt keep the means of these training mouths.
        """
        network = self.model.network
        wanted, found = (dict(one.config.network) for one in (self.model, model))
        shape = ("points", "width", "layers", "heads")
        if not isinstance(model, AttentionModel) or any(wanted[key] != found[key] for key in shape):
            raise ParamError(
                f"train.start_from: its model is {model.config.model} with "
                f"{', '.join(f'{key} {found.get(key)}' for key in shape)}; this one is attention with "
                f"{', '.join(f'{key} {wanted[key]}' for key in shape)}. Change train.attention to match, or "
                "set train.start_from to null"
            )
        other, given = model.network, model.network.state_dict()
        # The means of these mouths, where the other model has none, in the canonical frame of the others.
        both = (network.known_at_t1 & other.known_at_t1)[None]
        turned, shift = to_canonical_frame(network.reference[None], both, other.reference)
        for stage in ("t1", "t2"):
            known = getattr(other, f"known_at_{stage}")
            rotation, centroid = (getattr(network, f"{stage}_{part}") for part in ("rotation", "centroid"))
            own = {
                f"{stage}_rotation": turned[0] @ rotation,
                f"{stage}_centroid": centroid @ turned[0].T + shift[0],
                f"known_at_{stage}": getattr(network, f"known_at_{stage}"),
            }
            for name, value in own.items():
                given[name] = torch.where(known.view(-1, *[1] * (value.dim() - 1)), given[name], value)
        reference = network.reference @ turned[0].T + shift[0]
        given["reference"] = torch.where(other.known_at_t1[:, None], given["reference"], reference)
        for name in ("planner_embedding.weight", "planner_kept"):
            given[name] = given[name][:1].expand_as(network.state_dict()[name])
        network.load_state_dict(given)

    @torch.no_grad()
    def _learn_means(self) -> None:
        """Set canonical frame and slot means by the mouths and their mirror images; move the examples."""
        network = self.model.network
        for stage, mask in (("t1", self.examples.present), ("t2", self.examples.stays)):
            count = mask.sum(0)
            getattr(network, f"known_at_{stage}").copy_(count + count[MIRRORED_SLOT] >= ENOUGH)
        present = self.examples.present & network.known_at_t1.cpu()
        given = self.examples._replace(present=present, stays=self.examples.stays & present)
        # Generalised Procrustes (Gower 1975, doi:10.1007/BF02291478): a rare slot must not depend on where
        # its few patients' heads lay.
        for _ in range(ROUNDS):
            reference, _ = _mean_pose(given.t1, given.present)
            given = given.in_canonical_frame(reference)
        network.reference.copy_(reference)
        for stage, teeth, mask in (("t1", given.t1, given.present), ("t2", given.t2, given.stays)):
            centroid, rotation = _mean_pose(teeth, mask)
            getattr(network, f"{stage}_centroid").copy_(centroid)
            getattr(network, f"{stage}_rotation").copy_(rotation)
        self.examples = given

    def _measure_contacts(self) -> None:
        """Set the penetration depth of neighbours at T2, which moving a mouth does not change."""
        counted = self.examples.stays & self.model.network.known_at_t2.cpu()
        for part in torch.arange(len(counted)).split(64):
            here = self.examples.at(part)
            self.examples.planned_mm[part] = planned_depth_mm(here.t2, here.normals, counted[part])

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Yield the loss of each batch; an epoch has each mouth once.

        Half of the mouths are mirrored, and all are changed at random, see `_changed`.
        """
        # Batches are made on the CPU, while a GPU is still at work on the one before.
        reference, known = self.model.network.reference.cpu(), self.model.network.known_at_t2.cpu()
        order = torch.randperm(len(self.examples.present), generator=generator)
        for chosen in order.split(self.settings.batch_cases):
            plain = self.examples.at(chosen)
            flip = torch.rand(len(chosen), generator=generator) < 0.5
            both = Examples(*map(torch.cat, zip(plain, plain.mirrored(), strict=True)))
            given = both.at(torch.arange(len(chosen)) + len(chosen) * flip)
            told = revealed(self._all_conditions(given), generator)
            changed, rows = self._changed(given, told.held, generator), data_parallel.rows(len(chosen))
            part = changed.at(rows).in_canonical_frame(reference)
            told = told.at(rows).of(*_moved(part))
            counted = changed.stays & known & ~told.held
            pairs = neighbours(given.stays[rows] & known, part.stays & known)
            loss = self.loss(*(x.to(self.device) for x in (part, told, counted[rows], pairs)))
            counts, whole = counted[rows], counted
            yield data_parallel.share(loss, counts.sum(), whole.sum())

    @staticmethod
    def _all_conditions(given: Examples) -> Conditions:
        """Conditions of mouths, all of them known; motions and widths are placeholders."""
        unknown = Conditions.unknown(len(given.present))
        none = [torch.zeros_like(part) for part in (unknown.motion, unknown.width)]
        return Conditions(given.planner, given.held, given.stays & ~given.held, *none)

    def _changed(self, given: Examples, held: torch.Tensor, generator: torch.Generator) -> Examples:
        """Other mouths that have the same T2, or the same T2 but for their size.

        held : (N, 32) bool, teeth that stay at T1

        Half of them stand part of the way from T1 to T2 already. Each tooth is shaken, by an amount drawn for
        the mouth; the mouth is made a little larger or smaller; and some teeth are taken out.
        """
        settings, count = self.settings, len(given.present)

        def uniform(*shape: int) -> torch.Tensor:
            return torch.rand(count, *shape, generator=generator)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(count, *shape, generator=generator)

        free = ~held
        share = settings.midway * uniform(1) * (uniform(1) < 0.5) * given.stays * free
        amount = 2 * uniform(1, 1)
        on_the_way = given.t1.towards(given.t2_rotation, given.t2_centroid, share)
        centroid = on_the_way.centroid + amount * settings.jitter_mm * normal(SLOT_COUNT, 3) * free[..., None]
        shaken = amount * np.radians(settings.jitter_deg) * normal(SLOT_COUNT, 3) * free[..., None]
        size = 1 + settings.resize * normal(1, 1)
        keep = uniform(SLOT_COUNT) >= 2 * settings.tooth_dropout * uniform(1)
        return given._replace(
            points=given.points * size[..., None],
            t1_rotation=on_the_way.rotation @ rotations.matrix(shaken),
            t1_centroid=centroid * size,
            t2_centroid=given.t2_centroid * size,
            planned_mm=given.planned_mm * size,
            present=given.present & keep,
            stays=given.stays & keep,
        )


def _moved(given: Examples) -> tuple[torch.Tensor, torch.Tensor]:
    """Motions and changes of width of the arches of mouths, see `Conditions`."""
    teeth = given.t1_centroid, given.t2_centroid, given.stays
    return arch_motion(*teeth), width_change(*teeth)


def _mean_pose(teeth: PosedTeeth, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean centroid (32, 3) and rotation (32, 3, 3) of each slot over N mouths and their mirror images.

    mask : (N, 32) bool, teeth that count
    """
    both = (teeth.rotation, teeth.centroid), mirrored_poses(teeth.rotation, teeth.centroid)
    values = torch.cat([torch.cat([rotation.flatten(2), centroid], 2) for rotation, centroid in both])
    here = torch.cat([mask, mask[:, MIRRORED_SLOT]])
    mean = (values.double() * here[..., None]).sum(0) / here.sum(0)[:, None].clamp(min=1)  # (32, 12)
    matrix = mean[:, :9].unflatten(1, (3, 3)).float()
    return mean[:, 9:].float(), rotations.nearest(matrix + 1e-6 * torch.eye(3))


def network_config(settings: AttentionTraining, points: int, planners: int = 0) -> ToothAttentionConfig:
    """Make the network's config for clouds of `points` points per tooth.

    raises: ParamError where thinning them evenly to `settings.points` or fewer leaves less than FEWEST_POINTS
    """
    seen = thinned_count(points, settings.points)
    if seen < FEWEST_POINTS:
        raise ParamError(
            f"train.attention.points: {points} points per tooth (sample.points), thinned evenly to "
            f"{settings.points} or fewer, leave {seen}; at least {FEWEST_POINTS} are needed. Change one of "
            "the two, such as 64 of 256"
        )
    # The middle of what training has seen; at its far end predictions are 1 to 2 % worse.
    share = settings.midway / 2
    return ToothAttentionConfig(
        seen, settings.width, settings.layers, settings.heads, settings.dropout, share, planners
    )
