"""Training of an alignment model on the train split; the best epoch on the val split is kept."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from pydantic import create_model, field_validator

from dentalign.alignment import registry
from dentalign.alignment.base import ModelTraining, TrainingData, TrainSection
from dentalign.alignment.calibration import calibrate
from dentalign.alignment.familiarity import Teeth
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import DentalignError, NothingUsable, ParamError
from dentalign.files import weights
from dentalign.files.hashing import sha256_file
from dentalign.running.device import choose_device
from dentalign.running.locks import exclusive
from dentalign.starter.folder import STARTER
from dentalign.training import data_parallel
from dentalign.training.log import TrainingLog
from dentalign.training.loop import Outcome, checkpoint_key, train


class _Train(TrainSection):
    @field_validator("model")
    @classmethod
    def _is_known(cls, model: str) -> str:
        if model not in registry.MODELS:
            raise ValueError(f"must be one of {', '.join(registry.MODELS)}, got {model!r}")
        return model


_SECTIONS: dict[str, Any] = {
    name: (section, section.model_validate({})) for name, section in registry.MODELS.items()
}
# Section `train`: each model of the registry adds its own section, under its name.
Train = create_model("Train", __base__=_Train, **_SECTIONS)


def train_align(
    latents: str | Path,
    encoder_weights: str,
    decoder_weights: str,
    out: str | Path,
    log: str | Path,
    settings: TrainSection,
) -> Outcome:
    """Train an alignment model, or resume its training, and write the weights of the best epoch and the log.

    latents  : HDF5 file of all mouths with latents
    out, log : weights file and log folder to write
    raises   : NothingUsable where the train or the val split is empty; DentalignError where the latents were
               made by another encoder, or the weights to start from cannot be read; ParamError where they are
               missing, or those of another kind of network
    """
    torch.set_num_threads(data_parallel.share_of_threads(settings.threads))
    device = choose_device(settings.device)
    own: ModelTraining = getattr(settings, settings.model)
    values = (
        settings.model_dump(exclude={"epochs", "patience", "start_from", *registry.MODELS}) | own.model_dump()
    )
    values |= {"device": str(device), "world_size": data_parallel.world_size()}
    start = STARTER / "alignment.pt" if settings.start_from == "starter" else settings.start_from
    if start and not Path(start).is_file():
        raise ParamError(f"train.start_from: {start}: no such file; name an alignment.pt, starter, or null")
    inputs = [latents, encoder_weights, decoder_weights, *([start] if start else [])]
    key = checkpoint_key(inputs, values, __file__)
    writes = data_parallel.rank() == 0
    with (
        exclusive(out) if writes else nullcontext(),
        MouthStore(latents) as store,
        TrainingLog(log) if writes else nullcontext() as training_log,
    ):
        if store.attributes["encoder_sha256"] != sha256_file(encoder_weights):
            raise DentalignError(f"{latents} was not encoded by {encoder_weights}: run `dvc repro`")
        for split in ("train", "val"):
            if not len(store.rows_of(split)):
                raise NothingUsable(f"{latents}: no case in the {split} split; more cases are needed")
        data = TrainingData(store, encoder_weights, decoder_weights, device, settings)
        task = own.prepare(data)
        if start:
            task.start_from(registry.load(start))
        schedule = own.schedule(settings.epochs, settings.patience)
        on_epoch = training_log.epoch if training_log else None
        outcome = train(task, schedule, settings.seed, f"align/{key}", on_epoch)
        if training_log:
            task.network.load_state_dict(outcome.best_state)
            decoder = weights.load(decoder_weights, Decoder, DecoderConfig).to(device)
            model = task.model.with_decoder(decoder).eval()
            calibrate(model, data.calibration_mouths(task.model.uses_latents))
            mouths = (Teeth.read(store, store.rows_of(split)) for split in ("train", "val"))
            model.familiarity.fit(*mouths)
            weights.save(out, model)
            training_log.summary({"best_epoch": outcome.best_epoch, **outcome.best})
    return outcome
