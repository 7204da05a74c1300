"""Alignment model `fc` around its network: latents at T1 in, latents at T2 out, poses by the rigid fit."""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.alignment.base import AlignmentConfig, AlignmentModel, PredictedT2
from dentalign.alignment.fc.latent_basis import LatentBasis
from dentalign.alignment.fc.network import FullyConnected, FullyConnectedConfig
from dentalign.autoencoder.decoder import Decoder
from dentalign.errors import DentalignError
from dentalign.geometry import rigid
from dentalign.mouth import T1, Mouths
from dentalign.teeth import SLOT_COUNT


class FullyConnectedModel(AlignmentModel):
    """A fully connected network with its latent code; predicts latents without any other file."""

    uses_latents = True
    code_mean: torch.Tensor
    code_basis: torch.Tensor

    def __init__(self, config: AlignmentConfig):
        super().__init__()
        self.config = config
        self.network = FullyConnected(FullyConnectedConfig(**config.network))
        width, components = config.points * config.features, config.network["components"]
        self.register_buffer("code_mean", torch.zeros(SLOT_COUNT, width, dtype=torch.float16))
        self.register_buffer("code_basis", torch.zeros(SLOT_COUNT, width, components, dtype=torch.float16))

    @property
    def basis(self) -> LatentBasis:
        """The linear code of the latents."""
        return LatentBasis(self.code_mean.float(), self.code_basis.float(), self.network.in_scale)

    @torch.inference_mode()
    def predict(
        self, latents: NDArray[Any], t1_mask: NDArray[np.bool_], t2_mask: NDArray[np.bool_]
    ) -> torch.Tensor:
        """Latents at T2.

        latents          : (N, 32, P, F) raw encoder output at T1
        t1_mask, t2_mask : (N, 32) bool, teeth present, teeth that stay
        returns          : (N, 32, P, F) float32; what stands in masked slots means nothing
        """
        basis, device = self.basis, self.code_mean.device
        t1 = torch.from_numpy(np.ascontiguousarray(latents)).to(device).float()
        present, stays = torch.from_numpy(t1_mask).to(device), torch.from_numpy(t2_mask).to(device)
        change = self.network(basis.encode(t1), present, stays)
        return basis.shift(t1, change)

    @torch.inference_mode()
    def place(self, mouths: Mouths, decoder: Decoder | None = None) -> PredictedT2:
        """Through the decoder, and for each tooth the best rigid fit to what it says."""
        if mouths.latents is None or decoder is None:
            raise ValueError("model 'fc' works on latents, and needs the decoder to give poses")
        decoded = (
            decoder(self.predict(mouths.latents[:, T1], mouths.present[:, T1], mouths.stays)).cpu().numpy()
        )
        stays = mouths.stays
        if not np.isfinite(decoded[stays]).all():
            raise DentalignError("the alignment model predicts numbers that are not finite; train it again")
        pose = np.broadcast_to(np.eye(4), (*stays.shape, 4, 4)).copy()
        pose[stays] = rigid.fit(mouths.points[stays].astype(np.float64), decoded[stays].astype(np.float64))
        return PredictedT2(pose, decoded)


def build(
    basis: LatentBasis,
    settings: dict[str, Any],
    latent_shape: tuple[int, int],
    encoder_sha256: str,
    decoder_sha256: str,
) -> FullyConnectedModel:
    """An untrained aligner on a given code; `settings` are the network's own, without `components`."""
    network = FullyConnectedConfig(components=basis.components, **settings)
    config = AlignmentConfig("fc", *latent_shape, asdict(network), encoder_sha256, decoder_sha256)
    alignment_model = FullyConnectedModel(config)
    alignment_model.code_mean.copy_(basis.mean)
    alignment_model.code_basis.copy_(basis.basis)
    return alignment_model
