"""Stages between T1 and T2: within the limits, and no more of them than needed."""

import numpy as np
import pytest

from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.prediction.staging import Predict, stages
from dentalign.teeth import SLOT_COUNT

SLOTS = [0, 3, 20]


def mouth(seed: int = 0) -> tuple[Array, Array, np.ndarray, np.ndarray]:
    """Poses before and after, mask and points of three teeth that move by some mm and degrees."""
    rng = np.random.default_rng(seed)
    before, after = np.tile(np.eye(4), (2, SLOT_COUNT, 1, 1))
    mask = np.zeros(SLOT_COUNT, bool)
    points = rng.normal(0, 3, (SLOT_COUNT, 30, 3)).astype(np.float32) + np.float32(2)
    for slot in SLOTS:
        mask[slot] = True
        turns, places = rng.normal(0, 0.2, (2, 3)), rng.normal(0, 2, (2, 3))
        before[slot], after[slot] = rigid.from_rotation(rigid.rotation_matrix(turns), places)
    return before, after, mask, points


def steps(before: Array, found: Array, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K, T) mm of the centroids and degrees from each stage to the next."""
    poses = np.concatenate([before[None], found])[:, SLOTS]
    centres = rigid.apply(poses, points[SLOTS].mean(1, keepdims=True, dtype=float))[:, :, 0]
    turns = np.swapaxes(poses[:-1, :, :3, :3], -1, -2) @ poses[1:, :, :3, :3]
    return np.linalg.norm(np.diff(centres, axis=0), axis=-1), rigid.angle_deg(turns)


@pytest.mark.parametrize("limits", [Predict(), Predict(max_step_mm=100.0), Predict(max_step_deg=180.0)])
def test_no_tooth_goes_further_than_the_limits_and_one_stage_fewer_would(limits: Predict) -> None:
    before, after, mask, points = mouth()
    found = stages(before, after, mask, points, limits)
    millimetres, degrees = steps(before, found, points)
    assert millimetres.max() <= limits.max_step_mm + 1e-9
    assert degrees.max() <= limits.max_step_deg + 1e-9
    fewer = len(found) / (len(found) - 1)
    assert millimetres.max() * fewer > limits.max_step_mm or degrees.max() * fewer > limits.max_step_deg


def test_every_tooth_moves_evenly_and_ends_exactly_at_t2() -> None:
    before, after, mask, points = mouth(1)
    found = stages(before, after, mask, points, Predict())
    for parts in steps(before, found, points):
        assert np.allclose(parts, parts[0])
    assert np.array_equal(found[-1][mask], after[mask])
    assert np.array_equal(found[:, ~mask], np.tile(np.eye(4), (len(found), (~mask).sum(), 1, 1)))


def test_a_movement_that_needs_no_stage_in_between_has_none() -> None:
    before, after, mask, points = mouth()
    assert len(stages(before, before, mask, points, Predict())) == 1
    assert len(stages(before, after, mask, points, Predict(max_step_mm=99.0, max_step_deg=180.0))) == 1


def test_a_movement_of_exactly_four_steps_takes_four() -> None:
    before, _, mask, points = mouth()
    after = before.copy()
    after[SLOTS[0], 0, 3] += 1.0
    assert len(stages(before, after, mask, points, Predict(max_step_mm=0.25))) == 4
