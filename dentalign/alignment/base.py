"""What an alignment model is given, and what it answers: the one interface of all of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dentalign.alignment.patterns import ToothPatterns
from dentalign.autoencoder.decoder import Decoder
from dentalign.mouth import Mouths


@dataclass(frozen=True)
class PredictedT2:
    """What a model says of N mouths; head coordinates, mm.

    pose            : (N, 32, 4, 4) float64, tooth-local -> head, exactly rigid; identity where no tooth stays
    points          : (N, 32, P, 3), what the model says of each point; where it predicts points these are
                      not quite rigid, and the pose is the best rigid fit to them
    expected_add_mm : (N, 32) float64, how far off the model expects each tooth to be, not a number where no
                      tooth stays or it knows nothing of the slot and leaves the tooth where it is; None
                      where it never says
    """

    pose: NDArray[np.float64]
    points: NDArray[Any]
    expected_add_mm: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class AlignmentConfig:
    """What the weights file of an alignment model says about it.

    model            : name, see `alignment_model.MODELS`
    points, features : shape of a tooth's latent
    network          : config of that model's network
    encoder_sha256   : of the encoder whose latents it was trained on
    decoder_sha256   : of the decoder of that training; `fc` learns through it, and needs it to give poses
    patterns         : `ToothPatterns` of the training mouths as plain values; {} where nobody noted them
    """

    model: str
    points: int
    features: int
    network: dict[str, Any]
    encoder_sha256: str
    decoder_sha256: str
    patterns: dict[str, Any] = field(default_factory=dict)


class AlignmentModel(nn.Module, ABC):
    """An alignment model. `uses_latents` says whether it wants `Mouths.latents`."""

    uses_latents: bool
    config: AlignmentConfig

    @property
    def patterns(self) -> ToothPatterns | None:
        """What the mouths that it learnt from lacked and lost; None where the weights file does not say."""
        return ToothPatterns(**self.config.patterns) if self.config.patterns else None

    @abstractmethod
    def place(self, mouths: Mouths, decoder: Decoder | None = None) -> PredictedT2:
        """Where the teeth that stay should stand; of T2 only its presence is looked at, never its poses.

        decoder : needed where the model `uses_latents`
        raises  : DentalignError where a number is not finite; ValueError where latents or decoder are wanting
        """
