"""The alignment model as it is stored and used: latents at T1 and masks in, latents at T2 out."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dentalign.errors import DentalignError
from dentalign.networks import weights
from dentalign.networks.fully_connected import FullyConnected, FullyConnectedConfig
from dentalign.networks.latent_basis import LatentBasis
from dentalign.teeth import SLOT_COUNT

# Each model is a network from the code at T1 and the masks to the change of the code, and its config.
MODELS: dict[str, tuple[type[FullyConnected], type[FullyConnectedConfig]]] = {
    "fc": (FullyConnected, FullyConnectedConfig)
}


@dataclass(frozen=True)
class AlignerConfig:
    """What the weights file says about its network.

    model            : name in `MODELS`
    points, features : shape of a tooth's latent
    network          : config of that model
    encoder_sha256   : of the encoder whose latents it was trained on
    decoder_sha256   : of the decoder that its loss went through
    """

    model: str
    points: int
    features: int
    network: dict[str, Any]
    encoder_sha256: str
    decoder_sha256: str


class Aligner(nn.Module):
    """A trained model with its latent code; usable without any other file."""

    code_mean: torch.Tensor
    code_basis: torch.Tensor

    def __init__(self, config: AlignerConfig):
        super().__init__()
        self.config = config
        if config.model not in MODELS:
            raise DentalignError(f"model '{config.model}' is unknown, there are: {', '.join(sorted(MODELS))}")
        network, network_config = MODELS[config.model]
        self.network = network(network_config(**config.network))
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
    ) -> NDArray[np.float32]:
        """Latents at T2.

        latents          : (N, 32, P, F) raw encoder output at T1
        t1_mask, t2_mask : (N, 32) bool, teeth present, teeth that stay
        returns          : (N, 32, P, F) float32; what stands in masked slots means nothing
        """
        basis, device = self.basis, self.code_mean.device
        t1 = torch.from_numpy(np.asarray(latents, dtype=np.float32)).to(device)
        present, stays = torch.from_numpy(t1_mask).to(device), torch.from_numpy(t2_mask).to(device)
        change = self.network(basis.encode(t1), present, stays)
        return basis.shift(t1, change).cpu().numpy()


def save(path: str | Path, aligner: Aligner) -> None:
    """Write an aligner's weights file, all or nothing."""
    weights.save(path, aligner)


def load(path: str | Path) -> Aligner:
    """An aligner in eval mode; raises DentalignError where the file is none."""
    return weights.load(path, Aligner, AlignerConfig)


def build(
    model: str,
    basis: LatentBasis,
    settings: dict[str, Any],
    latent_shape: tuple[int, int],
    encoder_sha256: str,
    decoder_sha256: str,
) -> Aligner:
    """An untrained aligner on a given code; `settings` are the model's own, without `components`."""
    if model not in MODELS:
        raise DentalignError(f"train.model: '{model}' is unknown, there are: {', '.join(sorted(MODELS))}")
    network = MODELS[model][1](components=basis.components, **settings)
    aligner = Aligner(AlignerConfig(model, *latent_shape, asdict(network), encoder_sha256, decoder_sha256))
    aligner.code_mean.copy_(basis.mean)
    aligner.code_basis.copy_(basis.basis)
    return aligner
