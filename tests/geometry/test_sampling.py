"""Points on a tooth: as many as asked for, on the surface, evenly spread, in an order with a meaning."""

import functools

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from dentalign.demo_clinic import crowns
from dentalign.demo_clinic.crowns import Variation
from dentalign.geometry import sampling
from dentalign.geometry.sampling import (
    Points,
    directions,
    mirror_permutation,
    order,
    sample_surface,
    triangulation,
)

COUNT = 256
FLIP = np.array([-1.0, 1.0, 1.0])
TEETH = (11, 13, 15, 16, 31, 34, 37)


@functools.cache
def crown(fdi: int) -> Points:
    made = crowns.make(fdi)
    return made.vertices[made.faces]


def sphere(radius: float) -> Points:
    return np.asarray(trimesh.creation.icosphere(3, radius).triangles)


def plate(thickness: float) -> Points:
    return np.asarray(trimesh.creation.box((8.0, 6.0, thickness)).triangles)


MESHES = {
    "crown": crown(16),
    "doubled shell": np.concatenate([crown(16), crown(16)]),
    "shells 0.1 mm apart": np.concatenate([sphere(4.0), sphere(4.1)]),
    "thin plate": plate(0.01),
    "flat plate": plate(0.0),
    "one triangle": np.array([[[0.0, 0, 0], [3, 0, 0], [0, 4, 0]]]),
    "sliver": np.array([[[0.0, 0, 0], [9, 0, 0], [9, 1e-6, 0]]]),
    "triangles without area": np.concatenate([crown(11), np.zeros((50, 3, 3))]),
    "tiny, far from the origin": sphere(0.01) + np.array([400.0, -300.0, 450.0]),
    "turned inside out": crown(16)[:, ::-1],
}


def distances(points: Points) -> np.ndarray:
    """To the nearest other point."""
    return np.asarray(cKDTree(points).query(points, 2)[0][:, 1])


def off_surface(points: Points, triangles: Points) -> float:
    """The largest distance of a point from the nearest triangle (slow, obvious)."""
    size = float(np.ptp(triangles.reshape(-1, 3), axis=0).max())
    middle = triangles.mean((0, 1))
    closest = [
        trimesh.triangles.closest_point(
            (triangles - middle) / size, np.broadcast_to((point - middle) / size, (len(triangles), 3))
        )
        for point in points
    ]
    scaled = (points - middle) / size
    return max(float(np.linalg.norm(c - p, axis=1).min()) for c, p in zip(closest, scaled, strict=True))


@pytest.mark.parametrize("name", MESHES)
def test_there_are_exactly_as_many_points_as_asked_for_and_all_on_the_surface(name: str) -> None:
    points = sample_surface(MESHES[name], COUNT, 8, seed=0)
    assert points.shape == (COUNT, 3)
    assert np.isfinite(points).all()
    triangles = MESHES[name][np.ptp(MESHES[name], axis=1).any(1)]
    assert off_surface(points[::8], triangles) < 1e-6  # of the size
    assert order(points).shape == (COUNT, 3)
    if name != "sliver":
        assert len(np.unique(points, axis=0)) == COUNT


@pytest.mark.parametrize("fdi", TEETH)
def test_points_are_evenly_spread(fdi: int) -> None:
    found = distances(sample_surface(crown(fdi), COUNT, 8, seed=0))
    assert found.std() / found.mean() < 0.15
    assert found.min() > 0.5 * found.mean()


def test_no_part_of_the_surface_is_forgotten() -> None:
    triangles = crown(16)
    points = sample_surface(triangles, COUNT, 8, seed=0)
    away = cKDTree(points).query(triangles.mean(1))[0]
    assert away.max() < 1.6 * distances(points).mean()


def test_the_same_mesh_and_seed_give_the_same_points() -> None:
    first = sample_surface(crown(16), COUNT, 8, seed=3)
    np.testing.assert_array_equal(first, sample_surface(crown(16).copy(), COUNT, 8, seed=3))
    assert not np.array_equal(first, sample_surface(crown(16), COUNT, 8, seed=4))


@pytest.mark.parametrize("triangles", [np.zeros((4, 3, 3)), np.ones((1, 3, 3)), np.full((2, 3, 3), np.nan)])
def test_a_mesh_without_area_is_refused(triangles: Points) -> None:
    with pytest.raises(ValueError, match="no area"):
        sample_surface(triangles, COUNT, 8, seed=0)


@pytest.mark.parametrize("count", [2, 32, 64, 256])
def test_directions_are_unit_vectors_evenly_spread_that_mirror_each_other(count: int) -> None:
    found = directions(count)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-8)
    np.testing.assert_array_equal(found[mirror_permutation(count)] * FLIP, found)
    if count > 2:
        gaps = distances(found)
        assert gaps.std() / gaps.mean() < 0.1


@pytest.mark.parametrize("count", [0, 1, 33])
def test_an_odd_number_of_points_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="even"):
        directions(count)


@pytest.mark.parametrize("fdi", TEETH)
def test_ordering_only_changes_the_order(fdi: int) -> None:
    points = sample_surface(crown(fdi), COUNT, 8, seed=0)
    ordered = order(points)
    np.testing.assert_array_equal(np.unique(ordered, axis=0), np.unique(points, axis=0))


@pytest.mark.parametrize("fdi", TEETH)
def test_the_order_does_not_depend_on_the_order_of_the_rows(fdi: int) -> None:
    points = sample_surface(crown(fdi), COUNT, 8, seed=0)
    shuffled = np.random.default_rng(0).permutation(points)
    np.testing.assert_array_equal(order(shuffled), order(points))


@pytest.mark.parametrize("fdi", TEETH)
def test_the_order_of_a_mirror_image_is_the_mirrored_order(fdi: int) -> None:
    points = sample_surface(crown(fdi), COUNT, 8, seed=0)
    np.testing.assert_array_equal(order(points * FLIP), order(points)[mirror_permutation(COUNT)] * FLIP)


@pytest.mark.parametrize("fdi", TEETH)
def test_a_scaled_or_moved_tooth_keeps_its_order(fdi: int) -> None:
    points = sample_surface(crown(fdi), COUNT, 8, seed=0)
    wanted = order(points)
    for factor, shift in ((2.0, [0.0, 0.0, 0.0]), ([1.2, 0.9, 1.05], [3.0, -2.0, 1.0])):
        np.testing.assert_allclose(order(points * factor + shift), wanted * factor + shift, atol=1e-9)


@pytest.mark.parametrize("fdi", TEETH)
def test_a_position_means_the_same_place_in_another_patient_and_with_another_seed(fdi: int) -> None:
    wanted = order(sample_surface(crown(fdi), COUNT, 8, seed=0))
    gap = distances(wanted).mean()
    other = crowns.make(fdi, Variation(np.array([1.05, 0.97, 1.03]), np.full(6, 0.5)))
    for triangles, seed in ((crown(fdi), 1), (other.vertices[other.faces], 0)):
        found = order(sample_surface(triangles, COUNT, 8, seed=seed))
        away = np.linalg.norm(found - wanted, axis=1)
        at_random = np.linalg.norm(np.random.default_rng(0).permutation(found) - wanted, axis=1)
        assert away.mean() < 1.5 * gap < at_random.mean()


def test_the_order_of_the_triangles_matters_little() -> None:
    triangles = crown(16)
    wanted = order(sample_surface(triangles, COUNT, 8, seed=0))
    found = order(sample_surface(np.random.default_rng(0).permutation(triangles), COUNT, 8, seed=0))
    assert np.linalg.norm(found - wanted, axis=1).mean() < 1.5 * distances(wanted).mean()


def test_the_triangulation_is_a_closed_surface_with_outward_faces() -> None:
    faces = triangulation(COUNT)
    assert faces.shape == (2 * COUNT - 4, 3)
    mesh = trimesh.Trimesh(directions(COUNT), faces, process=False)
    assert mesh.is_watertight
    assert mesh.volume > 4.0
    assert sampling.triangulation(COUNT) is faces
