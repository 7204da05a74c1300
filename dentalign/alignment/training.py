"""Training an alignment model on the train split, best by validation."""

from dataclasses import asdict, replace
from pathlib import Path

import torch
from pydantic import field_validator

from dentalign.alignment import registry
from dentalign.alignment.attention.training import AttentionTraining
from dentalign.alignment.fc.training import FullyConnectedTraining
from dentalign.alignment.patterns import ToothPatterns
from dentalign.alignment.task import ModelTraining, TrainingData
from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import DentalignError, NothingUsable
from dentalign.files import weights
from dentalign.params import Device, NotNegative, Positive, Section
from dentalign.running.device import choose_device
from dentalign.running.locks import exclusive
from dentalign.training import data_parallel
from dentalign.training.log import TrainingLog
from dentalign.training.loop import Outcome, Schedule, checkpoint_key, train


class Train(Section):
    """The alignment model and its training; each model has a section of its own, which bears its name."""

    model: str = "fc"
    epochs: Positive = 500
    patience: Positive = 60
    seed: NotNegative = 0
    threads: Positive = 2
    processes: Positive = 1
    device: Device = "auto"
    validation_cases: Positive = 128
    fc: FullyConnectedTraining = FullyConnectedTraining()
    attention: AttentionTraining = AttentionTraining()

    @classmethod
    def models(cls) -> list[str]:
        """Names of the models that can be trained."""
        fields = cls.model_fields.items()
        return [name for name, field in fields if isinstance(field.default, ModelTraining)]

    @field_validator("model")
    @classmethod
    def _is_known(cls, model: str) -> str:
        if model not in cls.models():
            raise ValueError(f"must be one of {', '.join(cls.models())}")
        return model

    @property
    def of_the_model(self) -> ModelTraining:
        """The section of the model that is trained."""
        section: ModelTraining = getattr(self, self.model)
        return section


def train_align(
    latents: str | Path,
    encoder_weights: str,
    decoder_weights: str,
    out: str | Path,
    log: str | Path,
    settings: Train,
) -> Outcome:
    """Train, or go on training, and write the alignment_model (best by validation) and the log.

    raises: NothingUsable where the train or the validation split is empty; DentalignError where the
            latents come from another encoder
    """
    with data_parallel.together(settings.device):
        return _train_align(latents, encoder_weights, decoder_weights, out, log, settings)


def _train_align(
    latents: str | Path,
    encoder_weights: str,
    decoder_weights: str,
    out: str | Path,
    log: str | Path,
    settings: Train,
) -> Outcome:
    processes = data_parallel.processes()
    torch.set_num_threads(data_parallel.share_of_threads(settings.threads))
    own = settings.of_the_model
    values = settings.model_dump(exclude={"epochs", "patience", *Train.models()}) | own.model_dump()
    device = choose_device(settings.device)
    values |= {"device": str(device), "processes": processes}
    key = checkpoint_key([latents, encoder_weights, decoder_weights], values, __file__)
    with (
        data_parallel.first_only(lambda: exclusive(out)),
        MouthStore(latents) as store,
        data_parallel.first_only(lambda: TrainingLog(log)) as training_log,
    ):
        encoder_sha256, decoder_sha256 = map(weights.file_sha256, (encoder_weights, decoder_weights))
        if store.attributes["encoder_sha256"] != encoder_sha256:
            raise DentalignError(f"{latents} was not encoded by {encoder_weights}: run `dvc repro`")
        for split in ("train", "val"):
            if not len(store.rows_of(split)):
                raise NothingUsable(f"{latents}: no case in the {split} split; more cases are needed")
        data = TrainingData(
            store,
            latents,
            encoder_weights,
            decoder_weights,
            encoder_sha256,
            decoder_sha256,
            settings.seed,
            settings.threads,
            device,
            settings.validation_cases,
        )
        model, task = own.prepare(data)
        train_rows = store.rows_of("train")
        seen = ToothPatterns.of(*store.present(train_rows).swapaxes(0, 1))
        model.config = replace(model.config, patterns=asdict(seen))
        schedule = Schedule(
            settings.epochs,
            settings.patience,
            own.learning_rate,
            warm_up=own.warm_up,
            decay_steps=own.decay_steps,
            averaging=own.averaging,
            weight_decay=own.weight_decay,
        )
        on_epoch = training_log.epoch if training_log else lambda number, metrics: None
        outcome = train(task, schedule, settings.seed, f"align/{key}", on_epoch)
        if training_log:
            task.network.load_state_dict(outcome.best_state)
            task.finish()
            registry.save(out, model)
            best = outcome.history[outcome.best_epoch - 1]
            training_log.summary({"best_epoch": outcome.best_epoch, **best})
    return outcome
