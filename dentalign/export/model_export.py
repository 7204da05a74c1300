"""`dentalign export`: encoder.pt, decoder.pt and alignment.pt as ONNX files."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.alignment.attention.model import AttentionModel
from dentalign.alignment.base import AlignmentModel
from dentalign.alignment.fc.model import FullyConnectedModel
from dentalign.autoencoder.decoder import Decoder
from dentalign.autoencoder.encoder import Encoder
from dentalign.autoencoder.interface import Interface, decoder_interface, encoder_interface
from dentalign.errors import DentalignError
from dentalign.export import onnx_file
from dentalign.export.exportable import (
    ExportableAttentionModel,
    ExportableEncoder,
    ExportableFullyConnectedModel,
)
from dentalign.export.neighbour_graph import neighbours
from dentalign.export.onnx_file import Arrays
from dentalign.files.hashing import sha256_file
from dentalign.geometry import rigid
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.sampling import directions
from dentalign.mouth import Mouths
from dentalign.prediction.model_files import load_alignment_model, load_decoder, load_encoder
from dentalign.teeth import SLOT_COUNT, SLOTS

INTENDED_USE = "planning support by a professional; not a medical device"
# A model, its form for the export, its interface, examples in batches of each length, the model's answers.
_Form = tuple[Any, torch.nn.Module, Interface, Sequence[Arrays], Callable[[Arrays], Arrays]]
_BATCHES = (2, 1, 5)  # the first is exported with; the others show that the batch may be of any length


@dataclass(frozen=True)
class Exported:
    """A file that was written; `difference` is None where onnxruntime is missing (see `onnx_file.write`)."""

    path: Path
    difference: float | None


def export_models(models: str | Path, out: str | Path) -> list[Exported]:
    """Export those of encoder.pt, decoder.pt and alignment.pt that a folder holds; returns what was written.

    raises: DentalignError where there is none of them, one is damaged, or an exported file does not answer
            as the model does
    """
    onnx_file.require_onnx()
    forms = {"encoder": _encoder, "decoder": _decoder, "alignment": _alignment_model}
    done = []
    for name, form in forms.items():
        source, target = Path(models) / f"{name}.pt", Path(out) / f"{name}.onnx"
        if source.is_file():
            model, network, interface, examples, wanted = form(source)
            difference = onnx_file.write(target, network, interface, _about(source, model), examples, wanted)
            done.append(Exported(target, difference))
    if not done:
        raise DentalignError(f"{models}: holds none of {', '.join(f'{name}.pt' for name in forms)}")
    return done


def _encoder(source: Path) -> _Form:
    encoder, rng = load_encoder(source), np.random.default_rng(0)
    examples = [_teeth(encoder, count, rng) for count in _BATCHES]
    interface = encoder_interface(encoder.config)
    return encoder, ExportableEncoder(encoder), interface, examples, partial(_ours, encoder)


def _decoder(source: Path) -> _Form:
    decoder, rng = load_decoder(source), np.random.default_rng(0)
    features = decoder.config.features
    examples = [[rng.normal(0, 3, (n, 10 * n, features)).astype(np.float32)] for n in _BATCHES]
    return decoder, decoder, decoder_interface(decoder.config), examples, partial(_ours, decoder)


def _alignment_model(source: Path) -> _Form:
    model, rng = load_alignment_model(source), np.random.default_rng(0)
    if isinstance(model, FullyConnectedModel):
        network: torch.nn.Module = ExportableFullyConnectedModel(model)
        examples = [_latents(model, count, rng) for count in _BATCHES]

        def wanted(given: Arrays) -> Arrays:
            return [model.predict_latents(*given).numpy()]

    elif isinstance(model, AttentionModel):
        network = ExportableAttentionModel(model)
        examples = [_mouths(model, count, rng) for count in _BATCHES]

        def wanted(given: Arrays) -> Arrays:
            points, pose, present, stays = given
            placed = model.predict(Mouths.at_t1(points, pose, present, stays))
            assert placed.expected_add_mm is not None
            return [placed.pose, placed.expected_add_mm]

    else:
        raise DentalignError(f"{source}: model {model.config.model!r} has no ONNX form yet")
    return model, network, model.interface(), examples, wanted


def _about(source: Path, model: Encoder | Decoder | AlignmentModel) -> dict[str, str]:
    return {
        "config": json.dumps(asdict(model.config), sort_keys=True),
        "intended_use": INTENDED_USE,
        "slots": json.dumps(SLOTS),
        "weights_sha256": sha256_file(source),
    }


@torch.inference_mode()
def _ours(network: torch.nn.Module, given: Arrays) -> Arrays:
    return [network(*(torch.from_numpy(array) for array in given)).numpy()]


def _teeth(encoder: Encoder, count: int, rng: np.random.Generator) -> list[NDArray[Any]]:
    """Teeth-sized bodies where teeth stand, and their graph."""
    config = encoder.config
    local = directions(config.points) * rng.uniform(3, 5, (count, 1, 3))
    points = (local + average_mouth().position[:count, None]).astype(np.float32)
    return [points, neighbours(local, config.neighbours)]


def _masks(count: int, rng: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    present = rng.random((count, SLOT_COUNT)) < 0.9
    return present, present & (rng.random((count, SLOT_COUNT)) < 0.9)


def _latents(model: FullyConnectedModel, count: int, rng: np.random.Generator) -> list[NDArray[Any]]:
    """Latents as the model's own code spreads them."""
    basis, config = model.basis, model.config
    z = torch.from_numpy(rng.normal(size=(count, *basis.spread.shape)).astype(np.float32)) * basis.spread
    middle = basis.mean.reshape(SLOT_COUNT, config.points, config.features)
    latents = basis.add(middle.expand(count, *middle.shape), z).numpy()
    return [latents, *_masks(count, rng)]


def _mouths(model: AttentionModel, count: int, rng: np.random.Generator) -> list[NDArray[Any]]:
    """Mouths like those it has learnt from: each tooth shaken about its mean, and the whole turned and moved.

    Others would tell nothing: of a tooth turned by nearly a half turn, single precision decides which way.
    """
    network = model.network
    local = directions(model.config.points) * rng.uniform(3, 5, (count, SLOT_COUNT, 1, 3))
    mean = network.t1_rotation.double().numpy()
    turned = mean @ rigid.rotation_matrix(rng.normal(0, 0.2, (count, SLOT_COUNT, 3)))
    place = network.t1_centroid.double().numpy() + rng.normal(0, 1, (count, SLOT_COUNT, 3))
    turn = rigid.rotation_matrix(rng.normal(0, 0.2, (count, 1, 3)))
    whole = rigid.from_rotation(turn, rng.normal(0, 10, (count, 1, 3)))
    pose = whole @ rigid.from_rotation(turned, place)
    present, stays = _masks(count, rng)
    pose[~present] = np.eye(4)
    return [local.astype(np.float32), pose, present, stays]
