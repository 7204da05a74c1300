"""Load trained models from their files, for your own programs; no repository or params.yaml is needed.

Each model is an `nn.Module` in eval mode, without gradients.
"""

from pathlib import Path

from dentalign.alignment import registry
from dentalign.alignment.base import AlignmentModel
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.autoencoder.encoder import Encoder, EncoderConfig
from dentalign.files import weights
from dentalign.running.device import choose_device


def load_encoder(path: str | Path, device: str = "cpu") -> Encoder:
    """Load the tooth encoder; `latents = encoder(points)`, see `Encoder.forward`.

    points  : (B, P, 3) float32 tensor, ordered points of B teeth (P is `encoder.config.points`), mm, head
              frame (x to the patient's left, y to posterior, z up)
    latents : (B, P, F) float32, F features for each point, without a unit

    path    : such as `models/encoder.pt`
    device  : cpu, cuda or auto
    raises  : DentalignError if the file is missing, damaged or no encoder, or there is no such device
    """
    return weights.load(path, Encoder, EncoderConfig).to(choose_device(device))


def load_decoder(path: str | Path, device: str = "cpu") -> Decoder:
    """Load the tooth decoder; `points = decoder(latents)`.

    latents : (..., P, F) float32 tensor, from the encoder of the same training
    points  : (..., P, 3) float32, mm, head frame; not exactly a rigid tooth, fit one with
              `geometry.rigid.fit`

    path, device, raises : as for `load_encoder`
    """
    return weights.load(path, Decoder, DecoderConfig).to(choose_device(device))


def load_alignment_model(path: str | Path, device: str = "cpu") -> AlignmentModel:
    """Load the alignment model, `fc` or `attention` (`model.config.model`); `found = model.predict(mouths)`.

    `fc` needs the decoder of its training: call `model = model.with_decoder(decoder)` before.

    mouths  : `dentalign.Mouths`, N mouths at T1 in the 32 slots of `dentalign.teeth.SLOTS`: tooth-local
              points and poses tooth-local -> head, mm, the teeth that are present and that stay, and for `fc`
              (`model.uses_latents`) the latents
    found   : `dentalign.PredictedT2`, a pose for each tooth that stays, tooth-local -> head, mm

    path, device, raises : as for `load_encoder`
    """
    return registry.load(path).to(choose_device(device))
