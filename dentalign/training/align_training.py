"""Training an alignment model on the train split, best by validation."""

from pathlib import Path
from typing import Literal, Protocol

import torch

from dentalign.dataset.case_store import CaseStore
from dentalign.dataset.latents import ToothEncoder, choose_device
from dentalign.errors import DentalignError, NothingUsable
from dentalign.locks import exclusive
from dentalign.networks import aligner, weights
from dentalign.networks.alignment import Aligner
from dentalign.networks.decoder import Decoder, DecoderConfig
from dentalign.params import Device, NotNegative, Positive, Section
from dentalign.training import attention_training, data_parallel, fc_training
from dentalign.training.attention_training import AttentionTraining
from dentalign.training.fc_training import FullyConnectedTraining
from dentalign.training.loop import Outcome, Schedule, Task, checkpoint_key, train
from dentalign.training.training_log import TrainingLog


class Train(Section):
    """The alignment model and its training; each model has a section of its own."""

    model: Literal["fc", "attention"] = "fc"
    epochs: Positive = 500
    patience: Positive = 60
    seed: NotNegative = 0
    threads: Positive = 2
    processes: Positive = 1
    device: Device = "auto"
    validation_cases: Positive = 128
    fc: FullyConnectedTraining = FullyConnectedTraining()
    attention: AttentionTraining = AttentionTraining()

    @property
    def of_the_model(self) -> FullyConnectedTraining | AttentionTraining:
        """The section of the model that is trained."""
        return self.fc if self.model == "fc" else self.attention


class AlignTask(Task, Protocol):
    """How an alignment model is trained."""

    def finish(self) -> None:
        """What is left to do once the network has its best weights."""


def train_align(
    latents: str | Path,
    encoder_weights: str,
    decoder_weights: str,
    out: str | Path,
    log: str | Path,
    settings: Train,
) -> Outcome:
    """Train, or go on training, and write the aligner (best by validation) and the log.

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
    values = settings.model_dump(exclude={"epochs", "patience", "fc", "attention"}) | own.model_dump()
    values |= {"device": str(choose_device(settings.device)), "processes": processes}
    key = checkpoint_key([latents, encoder_weights, decoder_weights], values)
    with (
        data_parallel.first_only(lambda: exclusive(out)),
        CaseStore(latents) as store,
        data_parallel.first_only(lambda: TrainingLog(log)) as training_log,
    ):
        encoder_sha256, decoder_sha256 = map(weights.file_sha256, (encoder_weights, decoder_weights))
        if store.attributes["encoder_sha256"] != encoder_sha256:
            raise DentalignError(f"{latents} was not encoded by {encoder_weights}: run `dvc repro`")
        for split in ("train", "val"):
            if not len(store.rows_of(split)):
                raise NothingUsable(f"{latents}: no case in the {split} split; more cases are needed")
        model, task = _prepared(
            store, latents, encoder_weights, decoder_weights, settings, (encoder_sha256, decoder_sha256)
        )
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
            aligner.save(out, model)
            best = outcome.history[outcome.best_epoch - 1]
            training_log.summary({"best_epoch": outcome.best_epoch, **best})
    return outcome


def _prepared(
    store: CaseStore,
    latents: str | Path,
    encoder_weights: str,
    decoder_weights: str,
    settings: Train,
    trained_with: tuple[str, str],
) -> tuple[Aligner, AlignTask]:
    """An untrained model of the kind wanted, and how it is trained."""
    device, held_out = choose_device(settings.device), settings.validation_cases
    if settings.model == "attention":
        return attention_training.prepare(
            store, settings.attention, settings.seed, held_out, device, trained_with
        )
    encoder = ToothEncoder(encoder_weights, settings.device)
    decoder = weights.load(decoder_weights, Decoder, DecoderConfig).to(device)
    how = settings.fc.model_dump(include={"components", "augmentation"})
    how |= {"threads": settings.threads, "device": str(device)}
    codes_key = checkpoint_key([latents, encoder_weights], how)
    return fc_training.prepare(
        store, encoder, decoder, settings.fc, settings.seed, held_out, codes_key, trained_with
    )
