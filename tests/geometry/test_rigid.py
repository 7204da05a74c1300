"""Rigid motions against scipy's Rotation, closed forms and round trips."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dentalign.geometry import rigid


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(0)


def random_poses(draw: np.random.Generator, *shape: int) -> rigid.Array:
    count = int(np.prod(shape))
    rotations = Rotation.random(count, random_state=1).as_matrix().reshape(*shape, 3, 3)
    return rigid.from_rotation(rotations, draw.normal(size=(*shape, 3)) * 30)


def test_a_quaternion_is_read_scalar_last_and_of_any_norm(draw: np.random.Generator) -> None:
    q = draw.normal(size=(4, 5, 4)) * 10 ** draw.uniform(-200, 200, size=(4, 5, 1))
    t = draw.normal(size=(4, 5, 3))
    pose = rigid.from_quaternion(q, t)
    scaled = q / np.abs(q).max(-1, keepdims=True)
    expected = Rotation.from_quat(scaled.reshape(-1, 4)).as_matrix().reshape(4, 5, 3, 3)
    np.testing.assert_allclose(pose[..., :3, :3], expected, atol=1e-14)
    np.testing.assert_array_equal(pose[..., :3, 3], t)
    np.testing.assert_array_equal(pose[..., 3, :], np.broadcast_to([0, 0, 0, 1], (4, 5, 4)))


@pytest.mark.parametrize("q", [[0, 0, 0, 0], [np.nan, 0, 0, 1], [np.inf, 0, 0, 1]])
def test_a_quaternion_that_is_no_rotation_is_refused(q: list[float]) -> None:
    with pytest.raises(ValueError, match=r"norm 0|finite"):
        rigid.from_quaternion(q, [0, 0, 0])


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-6, 0.3, 2.0, np.pi - 1e-7, np.pi])
def test_rotation_vectors_agree_with_scipy_and_come_back(angle: float) -> None:
    vector = angle * np.array([2.0, -1.0, 2.0]) / 3
    matrix = rigid.rotation_matrix(vector)
    np.testing.assert_allclose(matrix, Rotation.from_rotvec(vector).as_matrix(), atol=1e-15)
    back = rigid.rotation_vector(matrix)
    np.testing.assert_allclose(rigid.rotation_matrix(back), matrix, atol=1e-14)
    assert np.linalg.norm(back) == pytest.approx(angle, abs=1e-7)
    assert rigid.rotation_vector(np.tile(np.eye(3), (2, 4, 1, 1))).shape == (2, 4, 3)


def test_the_inverse_undoes_and_apply_agrees_with_the_matrix(draw: np.random.Generator) -> None:
    pose = random_poses(draw, 3, 4)
    np.testing.assert_allclose(rigid.inverse(pose) @ pose, np.broadcast_to(np.eye(4), pose.shape), atol=1e-12)
    points = draw.normal(size=(3, 4, 7, 3))
    kept = points.copy()
    by_hand = np.einsum("abij,abpj->abpi", pose[..., :3, :3], points) + pose[..., None, :3, 3]
    np.testing.assert_allclose(rigid.apply(pose, points), by_hand, atol=1e-12)
    np.testing.assert_array_equal(points, kept)
    np.testing.assert_allclose(rigid.apply(pose, points[0, 0]).shape, (3, 4, 7, 3))


def test_fit_finds_the_motion(draw: np.random.Generator) -> None:
    pose, points = random_poses(draw, 50), draw.normal(size=(50, 20, 3))
    np.testing.assert_allclose(rigid.fit(points, rigid.apply(pose, points)), pose, atol=1e-11)


def test_fit_of_noisy_points_agrees_with_scipy_align_vectors(draw: np.random.Generator) -> None:
    for _ in range(50):
        a, b = draw.normal(size=(2, 12, 3))  # nothing in common: where a mirror would often fit better
        expected, _ = Rotation.align_vectors(b - b.mean(0), a - a.mean(0))
        found = rigid.fit(a, b)
        np.testing.assert_allclose(found[:3, :3], expected.as_matrix(), atol=1e-9)
        np.testing.assert_allclose(rigid.apply(found, a).mean(0), b.mean(0), atol=1e-12)


def test_fit_never_mirrors_even_when_a_mirror_fits_exactly(draw: np.random.Generator) -> None:
    points = draw.normal(size=(30, 10, 3))
    found = rigid.fit(points, points * [-1, 1, 1])
    np.testing.assert_allclose(np.linalg.det(found[:, :3, :3]), 1.0, atol=1e-12)


def test_fit_of_points_in_a_plane_is_a_proper_motion(draw: np.random.Generator) -> None:
    points = draw.normal(size=(10, 8, 3)) * [1, 1, 0]
    pose = random_poses(draw, 10)
    np.testing.assert_allclose(rigid.fit(points, rigid.apply(pose, points)), pose, atol=1e-11)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (np.zeros((2, 3)), np.zeros((2, 3))),
        (np.zeros((5, 3)), np.zeros((4, 3))),
        (np.full((5, 3), np.nan), np.zeros((5, 3))),
    ],
)
def test_fit_refuses_what_it_cannot_fit(source: rigid.Array, target: rigid.Array) -> None:
    with pytest.raises(ValueError, match=r"must"):
        rigid.fit(source, target)


@pytest.mark.parametrize("degrees", [0.0, 1e-9, 1e-5, 0.1, 90.0, 179.0, 179.9999, 180.0])
def test_angles_are_exact_near_0_and_near_180(degrees: float) -> None:
    axis = np.array([2.0, -1.0, 2.0]) / 3
    matrix = Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix()
    assert rigid.angle_deg(matrix) == pytest.approx(degrees, rel=1e-6, abs=1e-13 if degrees < 1 else 2e-6)
