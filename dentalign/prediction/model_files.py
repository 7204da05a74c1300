"""Load trained models from their files, for programs of one's own: no repository, no params.yaml.

Each is an `nn.Module` in eval mode without gradients; its file is all that it needs.
"""

from pathlib import Path

from dentalign.alignment import registry
from dentalign.alignment.base import AlignmentModel
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.autoencoder.encoder import Encoder, EncoderConfig
from dentalign.files import weights
from dentalign.running.device import choose_device


def load_encoder(path: str | Path, device: str = "cpu") -> Encoder:
    """Load the tooth encoder: `encoder(points)` gives latents, see `Encoder.forward`.

    points  : (B, P, 3) float32 tensor, ordered points of B teeth (P is `encoder.config.points`), mm, head
              coordinates (x to the patient's left, y to posterior, z up)
    answers : (B, P, F) float32, F features for each point, without a unit

    path    : such as `models/encoder.pt`
    device  : cpu, cuda or auto
    raises  : DentalignError where the file is missing, damaged or no encoder, or the device is not there
    """
    return weights.load(path, Encoder, EncoderConfig).to(choose_device(device))


def load_decoder(path: str | Path, device: str = "cpu") -> Decoder:
    """Load the tooth decoder: `decoder(latents)` gives points.

    latents : (..., P, F) float32 tensor, as the encoder of the same training gives them
    answers : (..., P, 3) float32, mm, head coordinates; not quite rigid, `geometry.rigid.fit` says how the
              tooth stands

    path, device, raises : as for `load_encoder`
    """
    return weights.load(path, Decoder, DecoderConfig).to(choose_device(device))


def load_alignment_model(path: str | Path, device: str = "cpu") -> AlignmentModel:
    """Load the alignment model, `fc` or `attention` (`model.config.model`): `model.predict(mouths)` gives T2.

    `fc` needs the decoder of its training: `model.with_decoder(decoder)` first.

    mouths  : `dentalign.Mouths`, N mouths before treatment: points of each tooth in its own frame, poses
              tooth-local -> head in mm, which teeth are there and which stay, and for `fc`
              (`model.uses_latents`) the latents of the teeth, in the 32 slots of `dentalign.teeth.SLOTS`
    answers : `dentalign.PredictedT2`, a pose for each tooth that stays, tooth-local -> head in mm

    path, device, raises : as for `load_encoder`
    """
    return registry.load(path).to(choose_device(device))
