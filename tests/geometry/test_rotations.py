"""Rotations in torch against scipy's."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dentalign.geometry import rotations


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-4, 0.3, 2.0, 3.1])
def test_matrices_and_vectors_are_scipy_s(size: float) -> None:
    axis = np.random.default_rng(0).normal(size=(50, 3))
    vector = size * axis / np.linalg.norm(axis, axis=1, keepdims=True)
    wanted = Rotation.from_rotvec(vector)
    made = rotations.matrix(torch.from_numpy(vector))
    np.testing.assert_allclose(made.numpy(), wanted.as_matrix(), atol=1e-6)
    back = rotations.vector(torch.from_numpy(wanted.as_matrix()))
    np.testing.assert_allclose(back.numpy(), vector, atol=1e-6)


def test_the_gradient_is_finite_at_no_turn() -> None:
    vector = torch.zeros(4, 3, requires_grad=True)
    rotations.matrix(vector)[:, 0, 1].sum().backward()
    assert vector.grad is not None
    np.testing.assert_allclose(vector.grad.numpy(), np.tile([0, 0, -1], (4, 1)), atol=1e-5)


def test_the_nearest_rotation_is_proper_and_leaves_rotations_alone() -> None:
    turns = torch.from_numpy(Rotation.random(20, random_state=1).as_matrix())
    torch.testing.assert_close(rotations.nearest(3 * turns), turns)
    mirrored = rotations.nearest(turns * torch.tensor([-1.0, 1, 1], dtype=torch.float64))
    torch.testing.assert_close(torch.det(mirrored), torch.ones(20, dtype=torch.float64))
