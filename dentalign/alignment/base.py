"""Base classes of alignment models, of their training and of their sections in params.yaml."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from dentalign.alignment.conditions import ARCH_COUNT, Conditions, carry_out
from dentalign.alignment.error_model import ErrorModel, features
from dentalign.alignment.familiarity import Familiarity
from dentalign.alignment.patterns import ToothPatterns
from dentalign.autoencoder.decoder import Decoder
from dentalign.autoencoder.interface import HEAD_FRAME, POINTS, SLOT_ORDER, TOOTH_FRAME, Interface, Port
from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import ParamError
from dentalign.files.hashing import sha256_file
from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2, Mouths
from dentalign.params import Device, NotNegative, Positive, PositiveFloat, Section
from dentalign.teeth import SLOT_COUNT
from dentalign.training.loop import Metrics, Schedule, Task

CALIBRATION_BATCH = 16  # mouths that are in memory at a time

MASKS = (
    Port("present", "bool", ("N", SLOT_COUNT), "true or false", "whether the slot has a tooth at T1"),
    Port("stays", "bool", ("N", SLOT_COUNT), "true or false", "whether that tooth is there at T2, too"),
)


@dataclass(frozen=True)
class PredictedT2:
    """Predicted T2 of N mouths; head coordinates, mm.

    pose            : (N, 32, 4, 4) float64, tooth-local -> head, exactly rigid; identity where no tooth stays
    points          : (N, 32, P, 3) predicted points, not quite rigid; `pose` is the best rigid fit to them.
                      None for a model that predicts poses directly
    expected_add_mm : (N, 32) float64, expected ADD of each tooth. NaN where no tooth stays, or where the
                      model has not learnt the slot and the tooth keeps its pose of T1. None for a model that
                      predicts no errors
    add_mm_90       : (N, 32) float64, upper bound of each tooth's ADD that holds for 90 of 100 teeth; NaN
                      where `expected_add_mm` is, and where too few teeth were there to calibrate it
    of_planners     : (K, N, 32, 4, 4) float64, poses if each of the model's K planners planned the mouths of
                      which it was not told who plans. None where it knows fewer than two, or was always told
    """

    pose: NDArray[np.float64]
    points: NDArray[Any] | None = None
    expected_add_mm: NDArray[np.float64] | None = None
    add_mm_90: NDArray[np.float64] | None = None
    of_planners: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class AlignmentConfig:
    """Content of `config` in the weights file of an alignment model.

    model            : name in `registry.MODELS`
    points, features : number of points per tooth, and of features per point in a latent
    network          : arguments of the model's network
    encoder_sha256   : SHA-256 of the weights file of the encoder that made the training latents
    decoder_sha256   : SHA-256 of the weights file of the decoder used in training
    patterns         : fields of the `ToothPatterns` of the training mouths; {} if unknown
    planners         : codes of the planners of the training mouths, sorted
    """

    model: str
    points: int
    features: int
    network: dict[str, Any]
    encoder_sha256: str
    decoder_sha256: str
    patterns: dict[str, Any] = field(default_factory=dict)
    planners: tuple[str, ...] = ()


class AlignmentModel(nn.Module, ABC):
    """Base class of alignment models, which predict poses at T2 from mouths at T1.

    uses_latents : True if `predict` needs `Mouths.latents`, and the decoder
    network      : the part that is trained
    error_model  : expected errors of the teeth, and their bounds
    motion_mode  : (2, 6), mm and radians, commonest error of the predicted motions of both arches, see
                   `conditions.arch_motion`; 0 as long as it is unknown
    familiarity  : what the training mouths were like, to name mouths that are unlike them
    """

    uses_latents: ClassVar[bool] = False
    network: nn.Module
    motion_mode: torch.Tensor

    def __init__(self, config: AlignmentConfig):
        super().__init__()
        self.config = config
        self.error_model = ErrorModel()
        self.register_buffer("motion_mode", torch.zeros(ARCH_COUNT, 6))
        self.familiarity = Familiarity(config.points)

    @property
    def patterns(self) -> ToothPatterns | None:
        """Missing and extracted teeth of the training mouths; None if the weights file does not have them."""
        return ToothPatterns(**self.config.patterns) if self.config.patterns else None

    def with_decoder(self, decoder: Decoder) -> Self:
        """Attach the decoder used in training, if the model needs it; returns the model, ready for use."""
        return self

    def predict(self, mouths: Mouths, told: Conditions | None = None) -> PredictedT2:
        """Predict the poses at T2 of the teeth that stay; of T2 it reads only `present`, never the poses.

        told   : conditions, axes of the head frame; None if nothing is known
        raises : DentalignError where a predicted number is NaN or infinite; ValueError where latents or the
                 decoder are needed and missing
        """
        told = told or Conditions.unknown(len(mouths))
        plan = self.answer(mouths, told)
        given = error_features(mouths, plan)
        if given is None:
            return plan
        known = (told.planner > 0).numpy().astype(np.intp)
        expected = self.error_model.expected_mm(known, given)
        return replace(plan, expected_add_mm=expected, add_mm_90=self.error_model.bound_mm(known, expected))

    def answer(self, mouths: Mouths, told: Conditions) -> PredictedT2:
        """Predict as `predict` does, with the errors that the network expects, not calibrated.

        Where it is not told who plans, `of_planners` has the answers for each planner.
        """
        plan = self.asked_once(mouths, told)
        unknown, count = told.planner == 0, len(self.config.planners)
        if count < 2 or not unknown.any():
            return plan
        hints = [torch.where(unknown, number, told.planner) for number in range(1, 1 + count)]
        found = [self.asked_once(mouths, told._replace(planner=hint)).pose for hint in hints]
        return replace(plan, of_planners=np.stack(found))

    def asked_once(self, mouths: Mouths, told: Conditions) -> PredictedT2:
        """Predict as `answer` does, without the answers for each planner: enough where only poses count."""
        plan = self.place(mouths, told)
        return replace(plan, pose=carry_out(told, mouths, plan.pose))

    @abstractmethod
    def place(self, mouths: Mouths, told: Conditions) -> PredictedT2:
        """Ask the network: poses, whose arches may move otherwise than told, and the errors it expects."""

    def interface(self) -> Interface:
        """Describe inputs and outputs of the exported model; the default is for models like `attention`."""
        pose = ("N", SLOT_COUNT, 4, 4)
        return Interface(
            title=f"Alignment model {self.config.model}",
            task="Poses and points of a mouth at T1 to poses at T2",
            inputs=(
                Port(
                    "points", "float32", ("N", SLOT_COUNT, self.config.points, 3), "mm",
                    f"{POINTS}, {TOOTH_FRAME}; slots in the order {SLOT_ORDER}; "
                    "without a tooth any finite number",
                ),
                Port(
                    "pose", "float64", pose, "mm",
                    f"at T1, tooth-local to {HEAD_FRAME}; without a tooth the identity",
                ),
                *MASKS,
            ),
            outputs=(
                Port(
                    "pose_t2", "float64", pose, "mm",
                    "at T2, tooth-local to head, exactly rigid; the pose at T1 where the model has not "
                    "learnt the slot; the identity where no tooth stays",
                ),
            ),
            outside="Nothing: poses go in and poses come out.",
        )  # fmt: skip


class TrainSection(Section):
    """Section `train` of params.yaml without the sections of the models (`train.fc`, ...).

    model            : name in `registry.MODELS` of the model to train
    start_from       : weights that the training begins with: "starter", or the path of an alignment.pt; None
                       for random ones
    validation_cases : largest number of cases of the val split on which epochs are compared
    """

    model: str = "fc"
    start_from: str | None = None
    epochs: Positive = 500
    patience: Positive = 100
    seed: NotNegative = 0
    threads: Positive = 2
    device: Device = "auto"
    validation_cases: Positive = 128


@dataclass(frozen=True)
class TrainingData:
    """Input of a training: training and validation mouths, and encoder and decoder of their latents.

    store           : the latents file, open; neither its train nor its val split is empty
    encoder_weights : weights file of the encoder that made the latents
    decoder_weights : weights file of the decoder trained with it
    device          : device in use; `settings.device` may be "auto"
    """

    store: MouthStore
    encoder_weights: str
    decoder_weights: str
    device: torch.device
    settings: TrainSection

    @property
    def train_rows(self) -> NDArray[np.intp]:
        """Row numbers of the training mouths in `store`."""
        return self.store.rows_of("train")

    @property
    def held_out_rows(self) -> NDArray[np.intp]:
        """Row numbers of the validation mouths in `store` on which epochs are compared: half, or fewer."""
        rows = self.store.rows_of("val")
        return rows[: min(self.settings.validation_cases, (len(rows) + 1) // 2)]

    @property
    def calibration_rows(self) -> NDArray[np.intp]:
        """Row numbers of the other validation mouths, which choose no epoch; if there are none, of all."""
        rows = self.store.rows_of("val")
        return rows[len(self.held_out_rows) :] if len(rows) > 1 else rows

    @property
    def planners(self) -> tuple[str, ...]:
        """Codes of the planners of the training mouths, sorted; the first has the number 1."""
        return tuple(sorted({self.store.planners[row] for row in self.train_rows} - {""}))

    def planner_numbers(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """Number of the planner of each mouth (N,); 0 where unknown, or not among `planners`."""
        number = {code: k for k, code in enumerate(self.planners, start=1)}
        return np.array([number.get(self.store.planners[row], 0) for row in rows], np.int64)

    def calibration_mouths(self, latents: bool) -> Iterator[tuple[Mouths, NDArray[np.int64]]]:
        """Read the calibration mouths in parts, and the numbers of their planners.

        latents : True to read their latents, too
        """
        rows = self.calibration_rows
        for start in range(0, len(rows), CALIBRATION_BATCH):
            part = rows[start : start + CALIBRATION_BATCH]
            yield self.store.mouths(part, latents=latents), self.planner_numbers(part)

    def config(self, network: dict[str, Any]) -> AlignmentConfig:
        """Make the config of a model trained on these mouths, from the arguments of its network."""
        patterns = ToothPatterns.of(*self.store.present(self.train_rows).swapaxes(0, 1))
        return AlignmentConfig(
            self.settings.model,
            self.store.layout.points,
            self.store.layout.features,
            network,
            sha256_file(self.encoder_weights),
            sha256_file(self.decoder_weights),
            asdict(patterns),
            self.planners,
        )


def error_features(mouths: Mouths, plan: PredictedT2) -> Array | None:
    """Features (N, 32, 4) of the teeth for `ErrorModel`; None for a model that expects no errors.

    plan : result of `AlignmentModel.answer`
    """
    if plan.expected_add_mm is None:
        return None
    here = rigid.apply(plan.pose, mouths.points)
    moved = _apart_mm(here, rigid.apply(mouths.pose[:, T1], mouths.points))
    spread = np.zeros_like(moved)
    if plan.of_planners is not None:
        apart = [_apart_mm(here, rigid.apply(pose, mouths.points)) for pose in plan.of_planners]
        spread = np.mean(apart, 0)
    return features(plan.expected_add_mm, moved, spread)


def _apart_mm(here: Array, there: Array) -> Array:
    """Mean distances (N, 32), mm, between points (N, 32, P, 3)."""
    apart: Array = np.linalg.norm(here - there, axis=-1).mean(-1)
    return apart


def add_mm(mouths: Mouths, pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """ADD (T,), mm, of predicted poses (N, 32, 4, 4) for the T teeth that stay."""
    stays = mouths.stays
    apart = rigid.apply(pose[stays] - mouths.pose[:, T2][stays], mouths.points[stays])
    add: NDArray[np.float64] = np.linalg.norm(apart, axis=-1).mean(-1)
    return add


class AlignTask(Task, ABC):
    """Base class of tasks for `training.loop.train` that train an alignment model.

    model    : the model whose network is trained
    held_out : validation mouths, with the planned T2 that predictions are compared with
    """

    model: AlignmentModel
    held_out: Mouths

    @property
    def network(self) -> nn.Module:
        """The network that is trained."""
        return self.model.network

    def start_from(self, model: AlignmentModel) -> None:
        """Take over the weights of another model; raises ParamError for a model that cannot do so."""
        raise ParamError(
            f"train.start_from: {self.model.config.model} cannot start from other weights; set train.model "
            "to attention, or train.start_from to null"
        )

    def validate(self) -> Metrics:
        """Measure `val_add_mm`, the mean ADD of the validation teeth, like the pipeline stage `validate`."""
        # `place` alone: `predict` would also ask for the answers of all planners.
        placed = self.model.place(self.held_out, Conditions.unknown(len(self.held_out)))
        return {"val_add_mm": float(self.held_out_add_mm(placed.pose).mean())}

    def held_out_add_mm(self, pose: NDArray[np.float64]) -> NDArray[np.float64]:
        """ADD (T,), mm, of predicted poses (N, 32, 4, 4) for the T validation teeth that stay."""
        return add_mm(self.held_out, pose)


class ModelTraining(Section):
    """Base class of a model's section in params.yaml, such as `train.fc`: keys that all models have.

    model : class of the model
    """

    model: ClassVar[type[AlignmentModel]]

    batch_cases: Positive
    learning_rate: PositiveFloat = 0.001
    warm_up: Positive
    decay_steps: Positive
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]

    def schedule(self, epochs: int, patience: int) -> Schedule:
        """Make the schedule of the training loop."""
        own = {"learning_rate", "warm_up", "decay_steps", "ema_decay", "weight_decay"}
        return Schedule(epochs, patience, **self.model_dump(include=own))

    @abstractmethod
    def prepare(self, data: TrainingData) -> AlignTask:
        """Make the task that trains a new model on `data.device`; `train.seed` sets its initial weights."""
