"""Alignment model `fc`: latents at T1 in, latents at T2 out, poses by a rigid fit to the decoded points."""

from typing import Any, Self

import numpy as np
import torch

from dentalign.alignment.base import MASKS, AlignmentConfig, AlignmentModel, PredictedT2
from dentalign.alignment.conditions import Conditions
from dentalign.alignment.fc.latent_basis import LatentBasis
from dentalign.alignment.fc.network import FullyConnected
from dentalign.autoencoder.decoder import Decoder
from dentalign.autoencoder.interface import LATENT_UNIT, SLOT_ORDER, Interface, Port
from dentalign.errors import DentalignError
from dentalign.geometry import rigid
from dentalign.mouth import T1, Mouths
from dentalign.teeth import SLOT_COUNT


class FullyConnectedModel(AlignmentModel):
    """Alignment model with the network `FullyConnected` on latent codes; needs latents and the decoder."""

    uses_latents = True
    network: FullyConnected
    code_mean: torch.Tensor
    code_basis: torch.Tensor
    code_spread: torch.Tensor
    decoder: Decoder | None

    def __init__(self, config: AlignmentConfig):
        super().__init__(config)
        self.network = FullyConnected(**config.network)
        width, components = config.points * config.features, config.network["components"]
        self.register_buffer("code_mean", torch.zeros(SLOT_COUNT, width, dtype=torch.float16))
        self.register_buffer("code_basis", torch.zeros(SLOT_COUNT, width, components, dtype=torch.float16))
        self.register_buffer("code_spread", torch.zeros(SLOT_COUNT, components))
        self.decoder = None

    def with_decoder(self, decoder: Decoder) -> Self:
        """See `AlignmentModel.with_decoder`."""
        self.decoder = decoder.to(self.code_mean.device)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the state without the decoder, which has a weights file of its own."""
        state = super().state_dict(*args, **kwargs)
        return {name: value for name, value in state.items() if not name.startswith("decoder.")}

    @property
    def basis(self) -> LatentBasis:
        """Basis of the latent codes."""
        return LatentBasis(self.code_mean.float(), self.code_basis.float(), self.code_spread)

    def set_basis(self, basis: LatentBasis) -> None:
        """Set the basis of the latent codes."""
        self.code_mean.copy_(basis.mean)
        self.code_basis.copy_(basis.basis)
        self.code_spread.copy_(basis.spread)

    def forward(self, latents: torch.Tensor, present: torch.Tensor, stays: torch.Tensor) -> torch.Tensor:
        """Predict the latents at T2, with no condition known.

        latents : (N, 32, P, F) at T1
        present : (N, 32) bool, slots with a tooth at T1
        stays   : (N, 32) bool, slots whose tooth is there at T2, too
        returns : (N, 32, P, F); undefined where stays is False
        """
        basis, told = self.basis, Conditions.unknown(latents.shape[0]).to(latents.device)
        change, _ = self.network(basis.encode(latents), present, stays, told)
        return basis.add(latents, change)

    @torch.inference_mode()
    def place(self, mouths: Mouths, told: Conditions) -> PredictedT2:
        """See `AlignmentModel.place`; the pose of a tooth is the best rigid fit to its decoded points.

        Held teeth, and teeth in slots that it has not learnt, keep their pose of T1.
        """
        if mouths.latents is None:
            raise ValueError("model 'fc' needs latents, and `mouths.latents` is None")
        if self.decoder is None:
            raise ValueError("model 'fc' needs the decoder of its training: call `with_decoder` first")
        stays, device = mouths.stays, self.code_mean.device
        given = (np.ascontiguousarray(mouths.latents[:, T1]), mouths.present[:, T1], stays)
        latents, *masks = (torch.from_numpy(part).to(device) for part in given)
        latents, basis = latents.float(), self.basis
        told = told.to(device)
        change, log_error = self.network(basis.encode(latents), *masks, told)
        change = change * ~told.held[..., None]
        decoded = self.decoder(basis.add(latents, change)).cpu().numpy()
        if not np.isfinite(decoded[stays]).all():
            raise DentalignError("the alignment model predicts numbers that are not finite; train it again")
        moves = stays & ~told.held.cpu().numpy() & self.network.from_movement.any((1, 2)).cpu().numpy()
        pose = np.where(stays[..., None, None], mouths.pose[:, T1], np.eye(4))
        pose[moves] = rigid.fit(mouths.points[moves].astype(np.float64), decoded[moves].astype(np.float64))
        expected = log_error.exp().cpu().numpy().astype(np.float64)
        expected[~moves] = np.nan
        return PredictedT2(pose, decoded, expected)

    def interface(self) -> Interface:
        """See `AlignmentModel.interface`; encoder and decoder are not part of the exported model."""
        shape = ("N", SLOT_COUNT, self.config.points, self.config.features)
        return Interface(
            title="Alignment model fc",
            task="Latents of a mouth at T1 to latents at T2; no condition of the plan is known",
            inputs=(
                Port(
                    "latents", "float32", shape, LATENT_UNIT,
                    f"output of the encoder at T1, slots in the order {SLOT_ORDER}; "
                    "without a tooth any finite number",
                ),
                *MASKS,
            ),
            outputs=(
                Port(
                    "latents_t2", "float32", shape, LATENT_UNIT,
                    "for the decoder, at T2; arbitrary where no tooth stays",
                ),
            ),
            outside="The encoder before it; the decoder after it, and then dentalign.geometry.rigid.fit.",
        )  # fmt: skip
