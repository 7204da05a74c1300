"""Errors counted in the ways of published work, to be read beside its figures and nothing else.

Each entry of `AS_PUBLISHED` says where the way of counting was seen, and what it gets wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dentalign.teeth import SLOT_COUNT
from dentalign.validation.metrics import THRESHOLDS_MM, MeasuredCases, accuracy


@dataclass(frozen=True)
class AsPublished:
    """Error counted in the way of a publication.

    of     : function from the measured teeth to the figure
    ours   : name of our metric of the same thing
    source : who counts so, and where it was seen
    wrong  : what the figure gets wrong
    """

    of: Callable[[MeasuredCases], float]
    ours: str
    source: str
    wrong: str


_STTALIGN = "STTAlign, github.com/sgvdzfbxfb/STTAlign, test_rotate.py"

AS_PUBLISHED = {
    "translation_l1_third_mm": AsPublished(
        lambda teeth: float(np.abs((teeth.motion - teeth.planned)[:, :3]).mean()),
        "translation_error_mm",
        "CLIK-Diffusion, doi:10.1016/j.media.2025.103746; not checked in the paper or its code, which has no "
        "evaluation: seen in another group's evaluation of it, which says that it uses the paper's metrics",
        "(|dx| + |dy| + |dz|) / 3 is no distance: it is 0.33 to 0.58 of one, and changes with the axes",
    ),
    "angle_difference_deg": AsPublished(
        lambda teeth: float(np.degrees(np.abs(_angles(teeth.motion) - _angles(teeth.planned)).mean())),
        "rotation_error_deg",
        _STTALIGN,
        "| predicted angle - planned angle | is 0 for a rotation by the right angle about a wrong axis",
    ),
    "add_absent_as_0_mm": AsPublished(
        lambda teeth: float(teeth.add_mm.sum() / (len(np.unique(teeth.case)) * SLOT_COUNT)),
        "add_mm",
        "TADPM, arXiv:2312.15139, github.com/lcshhh/TADPM, runners/test_tadpm.py",
        "absent teeth count as errors of 0 mm in a mean over 32 slots: 28 teeth with 1.00 mm give 0.88 mm",
    ),
    "add_auc_summed": AsPublished(
        lambda teeth: float(0.05 * accuracy(teeth.add_mm).sum() / THRESHOLDS_MM[-1]),
        "add_auc_5mm",
        f"{_STTALIGN}, printed as percentage",
        "101 steps of 0.05 mm make 5.05 mm, divided by 5 mm: 1 % too big, 1.01 for a perfect result",
    ),
}


def _angles(motion: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(motion[:, 3:], axis=-1))
