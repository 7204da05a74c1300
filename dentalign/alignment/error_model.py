"""Expected errors of predicted teeth, and bounds that 90 of 100 teeth keep, learnt from calibration mouths.

Calibration mouths neither train a model nor choose its epoch. On them the log of the actual error of a tooth
is fitted, by least squares, to logs of what is known of it: the error that the network expects, how far the
tooth is moved, and how far it would stand elsewhere if others planned. The bound is split conformal
prediction: the 90 % quantile, for each kind of tooth, of actual error / expected error, times the expected
error of a tooth of a new mouth. 90 of 100 teeth keep it, if the mouths are of the kind of the calibration
mouths (Vovk et al. 2005, doi:10.1007/b106715; Lei et al. 2018, doi:10.1080/01621459.2017.1307116).
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dentalign.teeth import SLOTS

SHARE = 0.9  # of the teeth whose error is below the bound
FEWEST = 30  # teeth of a kind; with fewer, all kinds are taken together
KINDS = {
    "incisor": (1, 2),
    "canine": (3,),
    "premolar": (4, 5),
    "molar": (6, 7, 8),
}  # last digit of FDI numbers
KIND_OF_SLOT = np.array(
    [next(k for k, digits in enumerate(KINDS.values()) if fdi % 10 in digits) for fdi in SLOTS]
)
SMALL_MM = 0.02  # added before logs of lengths that may be 0
_FEATURES = 4

Array = NDArray[np.float64]


def features(network_mm: Array, moved_mm: Array, spread_mm: Array) -> Array:
    """Features (N, 32, 4) of teeth from three lengths (N, 32), mm.

    network_mm : error that the network expects; NaN where it expects none
    moved_mm   : mean distance of the tooth's points from T1
    spread_mm  : the same from the model's answers for other planners, mean over these; 0 if there are none
    """
    logs = [np.log(part + SMALL_MM) for part in (moved_mm, spread_mm)]
    return np.stack([np.log(network_mm), *logs, np.ones_like(network_mm)], -1)


class ErrorModel(nn.Module):
    """Expected errors and their bounds; in the weights file with the alignment model.

    weights : (2, 4) float64, of `features`, for mouths whose planner is unknown, and known
    ratio   : (2, 4) float64, bound / expected error by the kinds of `KINDS`; NaN as long as not calibrated
    """

    weights: torch.Tensor
    ratio: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        plain = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
        self.register_buffer("weights", plain.repeat(2, 1))
        self.register_buffer("ratio", torch.full((2, len(KINDS)), math.nan, dtype=torch.float64))

    def calibrate(self, known: int, given: Array, add_mm: Array) -> None:
        """Fit the expected errors of N calibration mouths, and their bounds; with too few teeth, do nothing.

        known  : 0 if the planner was unknown in the predictions, 1 if it was told
        given  : (N, 32, 4), see `features`
        add_mm : (N, 32), actual errors; NaN where there is none
        """
        there = np.isfinite(given).all(-1) & np.isfinite(add_mm)
        if there.sum() < FEWEST:
            return
        logs = np.log(add_mm[there] + SMALL_MM)
        # A constant feature, such as a spread of 0, has no weight: lstsq takes the shortest solution.
        weights = np.linalg.lstsq(given[there], logs, rcond=1e-6)[0]
        weights[-1] += np.log(add_mm[there].mean() / np.exp(given[there] @ weights).mean())
        self.weights[known] = torch.from_numpy(weights)
        ratio = np.where(there, add_mm / self.expected_mm(np.full(len(given), known), given), np.nan)
        kind = np.broadcast_to(KIND_OF_SLOT, ratio.shape)
        for k in range(len(KINDS)):
            own = there & (kind == k)
            self.ratio[known, k] = _quantile(ratio[own if own.sum() >= FEWEST else there])

    def expected_mm(self, known: NDArray[np.intp], given: Array) -> Array:
        """Expected errors (N, 32), mm; known (N,) and given (N, 32, 4) as for `calibrate`."""
        expected: Array = np.exp(np.einsum("nsf,nf->ns", given, self.weights.cpu().numpy()[known]))
        return expected

    def bound_mm(self, known: NDArray[np.intp], expected_mm: Array) -> Array:
        """Bounds (N, 32), mm, of teeth with these expected errors; NaN where they are unknown."""
        bound: Array = expected_mm * self.ratio.cpu().numpy()[known][:, KIND_OF_SLOT]
        return bound


def _quantile(ratio: Array) -> float:
    """The smallest bound that holds for SHARE of the teeth and of one more."""
    rank = min(len(ratio), math.ceil((len(ratio) + 1) * SHARE))
    return float(np.sort(ratio)[rank - 1])
