"""Upper bounds of the errors of predicted teeth, by split conformal prediction.

On calibration mouths, which neither train nor choose an epoch, the actual error of each tooth is divided by
the error that the model expects. The 90 % quantile of these ratios, for each kind of tooth, times the
expected error of a tooth of a new mouth is a bound that 90 of 100 teeth keep, if the mouths are alike
(Vovk et al. 2005, doi:10.1007/b106715; Lei et al. 2018, doi:10.1080/01621459.2017.1307116).
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dentalign.teeth import SLOT_COUNT, SLOTS

SHARE = 0.9  # of the teeth whose error is below the bound
FEWEST = 30  # teeth of a kind; with fewer, all kinds are taken together
KINDS = {
    "incisor": (1, 2),
    "canine": (3,),
    "premolar": (4, 5),
    "molar": (6, 7, 8),
}  # last digit of FDI numbers
_KIND_OF_SLOT = np.array(
    [next(k for k, digits in enumerate(KINDS.values()) if fdi % 10 in digits) for fdi in SLOTS]
)


class ErrorBound(nn.Module):
    """Ratio of bound and expected error, by kind of tooth; in the weights file with the model.

    ratio : (4,) float64, for the kinds of `KINDS`; NaN as long as it is not calibrated
    """

    ratio: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ratio", torch.full((len(KINDS),), math.nan, dtype=torch.float64))

    def calibrate(self, ratio: NDArray[np.float64]) -> None:
        """Set the ratios from N calibration mouths.

        ratio : (N, 32), actual error / expected error of each tooth; NaN where there is none
        """
        kind = np.broadcast_to(_KIND_OF_SLOT, ratio.shape)
        known = np.isfinite(ratio)
        for k in range(len(KINDS)):
            own = known & (kind == k)
            self.ratio[k] = _quantile(ratio[own if own.sum() >= FEWEST else known])

    def forward(self, expected_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bound (N, 32), mm, from expected errors (N, 32), mm; NaN where it is unknown."""
        assert expected_mm.shape[-1] == SLOT_COUNT
        bound: NDArray[np.float64] = expected_mm * self.ratio.cpu().numpy()[_KIND_OF_SLOT]
        return bound


def _quantile(ratio: NDArray[np.float64]) -> float:
    """The smallest bound that holds for SHARE of one more tooth, too; NaN below FEWEST teeth."""
    if len(ratio) < FEWEST:
        return math.nan
    rank = min(len(ratio), math.ceil((len(ratio) + 1) * SHARE))
    return float(np.sort(ratio)[rank - 1])
