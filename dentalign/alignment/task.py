"""What the training of an alignment model is given, and what it offers: the one interface of all of them."""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

import torch
from pydantic import Field

from dentalign.alignment.base import AlignmentModel
from dentalign.dataset.mouth_store import MouthStore
from dentalign.params import Positive, PositiveFloat, Section
from dentalign.training.loop import Task


@dataclass(frozen=True)
class TrainingData:
    """What there is to learn from, and how.

    store            : the latents file, open; `rows_of("train")` and `rows_of("val")` are not empty
    latents          : its path
    encoder_weights  : of the encoder that made it
    decoder_weights  : of the decoder that goes with it
    encoder_sha256, decoder_sha256 : of these two files, for `AlignmentConfig`
    validation_cases : at most so many of the validation split decide which epoch is best
    """

    store: MouthStore
    latents: str | Path
    encoder_weights: str
    decoder_weights: str
    encoder_sha256: str
    decoder_sha256: str
    seed: int
    threads: int
    device: torch.device
    validation_cases: int

    @property
    def latent_shape(self) -> tuple[int, int]:
        """Points of a tooth, and features of a point."""
        return self.store.layout.points, self.store.layout.features


class AlignTask(Task, Protocol):
    """How an alignment model is trained; its first figure of `validate` is `val_add_mm`."""

    def finish(self) -> None:
        """What is left to do once the network has its best weights."""


class ModelTraining(Section):
    """A model's section in `train` of params.yaml: what every model's training has."""

    batch_cases: Positive
    learning_rate: PositiveFloat = 0.001
    warm_up: Positive
    decay_steps: Positive
    averaging: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]

    @abstractmethod
    def prepare(self, data: TrainingData) -> tuple[AlignmentModel, AlignTask]:
        """An untrained model on `data.device`, seeded, and how it is trained."""
