"""Alignment models: the interface of each model and of its training."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from dentalign.alignment.patterns import ToothPatterns
from dentalign.autoencoder.decoder import Decoder
from dentalign.autoencoder.interface import HEAD_FRAME, POINTS, SLOT_ORDER, TOOTH_FRAME, Interface, Port
from dentalign.dataset.mouth_store import MouthStore
from dentalign.files.hashing import sha256_file
from dentalign.geometry import rigid
from dentalign.mouth import T2, Mouths
from dentalign.params import Device, NotNegative, Positive, PositiveFloat, Section
from dentalign.teeth import SLOT_COUNT
from dentalign.training.loop import Metrics, Schedule, Task

MASKS = (
    Port("present", "bool", ("N", SLOT_COUNT), "true or false", "whether the slot has a tooth at T1"),
    Port("stays", "bool", ("N", SLOT_COUNT), "true or false", "whether that tooth is there at T2, too"),
)


@dataclass(frozen=True)
class PredictedT2:
    """Predicted T2 of N mouths; head coordinates, mm.

    pose            : (N, 32, 4, 4) float64, tooth-local -> head, exactly rigid; identity where no tooth stays
    points          : (N, 32, P, 3), points that the model predicts, not quite rigid: `pose` is the best
                      rigid fit to them; None where it predicts poses
    expected_add_mm : (N, 32) float64, expected error of each tooth; NaN where no tooth stays, or where the
                      model has not learnt the slot and leaves the tooth in place; None for a model without
    """

    pose: NDArray[np.float64]
    points: NDArray[Any] | None = None
    expected_add_mm: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class AlignmentConfig:
    """Content of `config` in the weights file of an alignment model.

    model            : name in `registry.MODELS`
    points, features : shape of a tooth's latent
    network          : config of that model's network
    encoder_sha256   : encoder whose latents the model was trained on
    decoder_sha256   : decoder of that training
    patterns         : `ToothPatterns` of the training mouths as plain values; {} where unknown
    """

    model: str
    points: int
    features: int
    network: dict[str, Any]
    encoder_sha256: str
    decoder_sha256: str
    patterns: dict[str, Any] = field(default_factory=dict)


class AlignmentModel(nn.Module, ABC):
    """Alignment model: mouths at T1 in, poses of the teeth that stay out.

    uses_latents : True if `predict` reads `Mouths.latents`; such a model needs the decoder, too
    network      : the part that is trained
    """

    uses_latents: ClassVar[bool] = False
    network: nn.Module

    def __init__(self, config: AlignmentConfig):
        super().__init__()
        self.config = config

    @property
    def patterns(self) -> ToothPatterns | None:
        """Missing and extracted teeth of the training mouths; None where the weights file does not say."""
        return ToothPatterns(**self.config.patterns) if self.config.patterns else None

    def with_decoder(self, decoder: Decoder) -> Self:
        """Return the model ready to predict, with the decoder of its training if it needs one."""
        return self

    @abstractmethod
    def predict(self, mouths: Mouths) -> PredictedT2:
        """Predict where the teeth that stay should stand; at T2 only `present` is read, never the poses.

        raises : DentalignError where a predicted number is not finite; ValueError where the model needs
                 latents or its decoder and has none
        """

    def interface(self) -> Interface:
        """Inputs and outputs of the exported model; here those of a model that works on poses."""
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
    """Section `train` without the sections of the models.

    model            : name in `registry.MODELS` of the model that is trained
    validation_cases : number of cases of the val split, at most, that decide which epoch is best
    """

    model: str = "fc"
    epochs: Positive = 500
    patience: Positive = 100
    seed: NotNegative = 0
    threads: Positive = 2
    device: Device = "auto"
    validation_cases: Positive = 128


@dataclass(frozen=True)
class TrainingData:
    """Training and validation mouths, and the models that their latents belong to.

    store           : the latents file, open; neither its train nor its val split is empty
    encoder_weights : encoder that made the latents
    decoder_weights : decoder that goes with it
    device          : the one in use, whatever `settings` leave open
    """

    store: MouthStore
    encoder_weights: str
    decoder_weights: str
    device: torch.device
    settings: TrainSection

    @property
    def train_rows(self) -> NDArray[np.intp]:
        """Row numbers of the training mouths."""
        return self.store.rows_of("train")

    @property
    def held_out_rows(self) -> NDArray[np.intp]:
        """Row numbers of the validation mouths."""
        return self.store.rows_of("val")[: self.settings.validation_cases]

    def config(self, network: dict[str, Any]) -> AlignmentConfig:
        """Config of a model that learns from these mouths."""
        patterns = ToothPatterns.of(*self.store.present(self.train_rows).swapaxes(0, 1))
        return AlignmentConfig(
            self.settings.model,
            self.store.layout.points,
            self.store.layout.features,
            network,
            sha256_file(self.encoder_weights),
            sha256_file(self.decoder_weights),
            asdict(patterns),
        )


class AlignTask(Task, ABC):
    """Training of one alignment model, as `training.loop.train` wants it.

    model    : the model whose network is trained
    held_out : validation mouths with their plan
    """

    model: AlignmentModel
    held_out: Mouths

    @property
    def network(self) -> nn.Module:
        """The network that is trained."""
        return self.model.network

    def validate(self) -> Metrics:
        """Return `val_add_mm`, measured as in the stage validate."""
        return {"val_add_mm": float(self.held_out_add_mm(self.model.predict(self.held_out).pose).mean())}

    def held_out_add_mm(self, pose: NDArray[np.float64]) -> NDArray[np.float64]:
        """ADD (T,), mm, of the validation teeth that stay under poses (N, 32, 4, 4): mean point distance."""
        held, stays = self.held_out, self.held_out.stays
        apart = rigid.apply(pose[stays] - held.pose[:, T2][stays], held.points[stays])
        add: NDArray[np.float64] = np.linalg.norm(apart, axis=-1).mean(-1)
        return add

    def finish(self) -> None:
        """Finish the model once its network has the best weights; nothing by default."""


class ModelTraining(Section):
    """Section of a model in `train` of params.yaml, with what the training of every model has.

    model : class of the model, whose weights file `registry.load` reads
    """

    model: ClassVar[type[AlignmentModel]]

    batch_cases: Positive
    learning_rate: PositiveFloat = 0.001
    warm_up: Positive
    decay_steps: Positive
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]

    def schedule(self, epochs: int, patience: int) -> Schedule:
        """Schedule of the training loop."""
        own = {"learning_rate", "warm_up", "decay_steps", "ema_decay", "weight_decay"}
        return Schedule(epochs, patience, **self.model_dump(include=own))

    @abstractmethod
    def prepare(self, data: TrainingData) -> AlignTask:
        """Make an untrained model on `data.device`, its weights drawn from the seed, and its task."""
