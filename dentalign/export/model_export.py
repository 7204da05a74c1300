"""Export of encoder.pt, decoder.pt and alignment.pt as ONNX files (`dentalign export`)."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.alignment.attention.model import AttentionModel
from dentalign.alignment.fc.model import FullyConnectedModel
from dentalign.autoencoder.interface import decoder_interface, encoder_interface
from dentalign.errors import DentalignError
from dentalign.export import onnx_file
from dentalign.export.exportable import ExportableAttentionModel
from dentalign.export.neighbour_graph import neighbours
from dentalign.export.onnx_file import Arrays, Exportable
from dentalign.files import hashing
from dentalign.geometry import rigid
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.sampling import directions
from dentalign.mouth import Mouths
from dentalign.prediction.model_files import load_alignment_model, load_decoder, load_encoder
from dentalign.teeth import SLOT_COUNT, SLOTS

INTENDED_USE = "planning support by a professional; not a medical device"


@dataclass(frozen=True)
class ExportedFile:
    """ONNX file that was written.

    difference : largest relative difference from the model's results, see `onnx_file.write`; None if
                 onnxruntime is not installed
    """

    path: Path
    difference: float | None


def export_models(models: str | Path, out: str | Path) -> list[ExportedFile]:
    """Export encoder.pt, decoder.pt and alignment.pt, as far as they are in the folder `models`.

    raises: DentalignError if none of them is there, one is damaged, or an exported file does not give the
            results of its model
    """
    onnx_file.require_onnx()
    loaders: dict[str, Callable[[Path], Exportable]] = {
        "encoder": _encoder,
        "decoder": _decoder,
        "alignment": _alignment_model,
    }
    sources = {name: Path(models) / f"{name}.pt" for name in loaders}
    sources = {name: source for name, source in sources.items() if source.is_file()}
    if not sources:
        raise DentalignError(f"{models}: holds none of {', '.join(f'{name}.pt' for name in loaders)}")
    written = []
    for name, source in sources.items():
        exportable = loaders[name](source)
        about = {
            "config": json.dumps(exportable.config, sort_keys=True),
            "intended_use": INTENDED_USE,
            "slots": json.dumps(SLOTS),
            "weights_sha256": hashing.sha256_file(source),
        }
        target = Path(out) / f"{name}.onnx"
        written.append(ExportedFile(target, onnx_file.write(target, exportable, about)))
    return written


def _encoder(source: Path) -> Exportable:
    encoder = load_encoder(source)
    config = encoder.config

    def examples(count: int, rng: np.random.Generator) -> Arrays:
        """Make bodies with the size and position of teeth, and their neighbour graphs."""
        local = directions(config.points) * rng.uniform(3, 5, (count, 1, 3))
        points = (local + average_mouth().position[:count, None]).astype(np.float32)
        return [points, neighbours(local, config.neighbours)]

    return Exportable(encoder, encoder_interface(config), asdict(config), examples)


def _decoder(source: Path) -> Exportable:
    decoder = load_decoder(source)
    config = decoder.config

    def examples(count: int, rng: np.random.Generator) -> Arrays:
        """Make random latents; the number of points varies, too."""
        return [rng.normal(0, 3, (count, 10 * count, config.features)).astype(np.float32)]

    return Exportable(decoder, decoder_interface(config), asdict(config), examples)


def _alignment_model(source: Path) -> Exportable:
    model = load_alignment_model(source)
    if isinstance(model, FullyConnectedModel):
        return _fully_connected(model)
    if isinstance(model, AttentionModel):
        return _attention(model)
    raise DentalignError(f"{source}: model {model.config.model!r} has no ONNX form yet")


def _fully_connected(model: FullyConnectedModel) -> Exportable:
    def examples(count: int, rng: np.random.Generator) -> Arrays:
        """Random latents with the mean and the spread of the model's `LatentBasis`."""
        basis, config = model.basis, model.config
        code = torch.from_numpy(rng.normal(size=(count, *basis.spread.shape)).astype(np.float32))
        mean = basis.mean.reshape(1, SLOT_COUNT, config.points, config.features)
        latents = basis.add(mean.expand(count, -1, -1, -1), code * basis.spread)
        return [latents.numpy(), *_masks(count, rng)]

    return Exportable(model, model.interface(), asdict(model.config), examples)


def _attention(model: AttentionModel) -> Exportable:
    def examples(count: int, rng: np.random.Generator) -> Arrays:
        """Make mouths like those of the training: move each tooth a little from its mean, then the mouth.

        Others would be no test: if a tooth rotates by nearly 180 degrees, rounding changes the direction.
        """
        local = directions(model.config.points) * rng.uniform(3, 5, (count, SLOT_COUNT, 1, 3))
        network = model.network
        mean = rigid.from_rotation(network.t1_rotation.double(), network.t1_centroid.double())
        pose = _motions(rng, (count, 1), 10.0) @ mean @ _motions(rng, (count, SLOT_COUNT), 1.0)
        present, stays = _masks(count, rng)
        pose[~present] = np.eye(4)
        return [local.astype(np.float32), pose, present, stays]

    def expected(given: Arrays) -> Arrays:
        points, pose, present, stays = given
        predicted = model.predict(Mouths.at_t1(points, pose, present, stays))
        assert predicted.expected_add_mm is not None and predicted.add_mm_90 is not None
        return [predicted.pose, predicted.expected_add_mm, predicted.add_mm_90]

    network = ExportableAttentionModel(model)
    return Exportable(network, model.interface(), asdict(model.config), examples, expected)


def _motions(rng: np.random.Generator, shape: tuple[int, ...], mm: float) -> NDArray[np.float64]:
    """Motions (*shape, 4, 4): rotations by some 0.35 radians, translations of `mm` along each axis."""
    rotation = rigid.rotation_matrix(rng.normal(0, 0.2, (*shape, 3)))
    return rigid.from_rotation(rotation, rng.normal(0, mm, (*shape, 3)))


def _masks(count: int, rng: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    present = rng.random((count, SLOT_COUNT)) < 0.9
    return present, present & (rng.random((count, SLOT_COUNT)) < 0.9)
