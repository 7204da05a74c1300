"""Occlusion of two arches of spheres."""

import numpy as np
import pytest

from dentalign.geometry import occlusion
from dentalign.geometry.sampling import directions
from dentalign.teeth import SLOT_COUNT, SLOT_INDEX


def mouth(apart_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """A lower 36 and 31 of radius 4 mm, an upper 26 over the 36, an upper 21 far in front."""
    points = np.zeros((SLOT_COUNT, 256, 3))
    for fdi, centre in ((36, (0, 0, 0)), (31, (0, -30, 0)), (26, (0, 0, 8 + apart_mm)), (21, (0, -40, 8))):
        points[SLOT_INDEX[fdi]] = 4 * directions(256) + centre
    return points, np.isin(np.arange(SLOT_COUNT), [SLOT_INDEX[fdi] for fdi in (36, 31, 26, 21)])


@pytest.mark.parametrize(("apart_mm", "depth_mm", "touches"), [(-0.5, 0.5, 1), (0.2, 0, 1), (0.6, 0, 0)])
def test_depth_and_contacts_of_posterior_teeth(apart_mm: float, depth_mm: float, touches: int) -> None:
    points, stays = mouth(apart_mm)
    found = occlusion.figures(points[None], stays[None])
    assert found["occlusal_overlap_mm"] == pytest.approx([depth_mm], abs=0.1)
    assert found["occlusal_contacts"].tolist() == [touches, touches]  # of 36 and 26


def test_a_mouth_of_one_arch_has_no_occlusion() -> None:
    points, stays = mouth(0.0)
    stays[16:] = False
    assert [len(values) for values in occlusion.figures(points[None], stays[None]).values()] == [0, 0]
    assert np.isnan(occlusion.antagonist_mm(points, stays)).all()
