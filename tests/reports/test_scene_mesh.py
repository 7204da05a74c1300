"""Packed surfaces: near the original, closed where it is, and never too many faces."""

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

from dentalign.reports.scene_mesh import PackedMesh, pack, welded
from tests.support.report_scenes import full_mouth, tooth

BALL_MM = 5.0


def ball(subdivisions: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=BALL_MM)
    return np.asarray(mesh.vertices, dtype=np.float64), np.asarray(mesh.faces, dtype=np.int64)


def unpacked(packed: PackedMesh) -> NDArray[np.float64]:
    """Vertices (V, 3), mm, as the viewer computes them."""
    return np.asarray(packed.centre_mm) + packed.step_mm * packed.steps.astype(np.float64)


def edges(faces: NDArray[np.uint16]) -> NDArray[np.uint16]:
    return faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)


@pytest.mark.parametrize("size_mm", [1e-3, 12.0, 40.0, 600.0])
def test_a_vertex_moves_less_than_a_hundredth_of_a_millimetre(size_mm: float) -> None:
    vertices, faces = ball(3)
    given = vertices * (size_mm / 10) + [100.0, -3, 7]
    packed = pack(tooth(vertices=given, faces=faces))
    assert np.abs(unpacked(packed) - given).max() < 0.01
    assert (packed.faces == faces).all()  # nothing to weld: the order stays


def test_crowns_are_packed_to_a_fraction_of_a_micron() -> None:
    for crown in full_mouth().teeth:
        packed = pack(crown)
        assert len(packed.steps) == len(crown.vertices)
        assert np.abs(unpacked(packed) - crown.vertices).max() < 2e-4


def test_the_corners_of_an_stl_are_welded() -> None:
    vertices, faces = ball(2)
    corners = vertices[faces].reshape(-1, 3)
    packed = pack(tooth(vertices=corners, faces=np.arange(len(corners)).reshape(-1, 3)))
    assert len(packed.steps) == len(vertices)
    assert len(packed.faces) == len(faces)
    assert len(np.unique(edges(packed.faces), axis=0)) == 3 * len(faces)  # closed, one winding


def test_faces_without_area_and_vertices_without_faces_go() -> None:
    vertices, faces = welded(
        np.array([[9.0, 9, 9], [0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[1, 2, 3], [1, 1, 3]])
    )
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert faces.tolist() == [[0, 1, 2]]


def test_a_large_mesh_is_decimated_and_keeps_its_shape() -> None:
    vertices, faces = ball(5)  # 20,480 faces
    packed = pack(tooth(vertices=vertices, faces=faces), most_faces=3_000)
    assert 2_500 < len(packed.faces) <= 3_000
    points = unpacked(packed)
    assert np.abs(np.linalg.norm(points, axis=1) - BALL_MM).max() < 0.05
    corners = points[packed.faces]
    centroids = corners.mean(1)
    outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((outward * centroids).sum(1) > 0).all()
    assert np.abs(np.linalg.norm(centroids, axis=1) - BALL_MM).max() < 0.1
    assert len(np.unique(edges(packed.faces), axis=0)) == 3 * len(packed.faces)
    again = pack(tooth(vertices=vertices, faces=faces), most_faces=3_000)
    assert again.steps.tobytes() == packed.steps.tobytes()
    assert again.faces.tobytes() == packed.faces.tobytes()


@pytest.mark.parametrize(("rows", "columns"), [(30, 250), (8, 900)])
@pytest.mark.parametrize("most_faces", [1_000, 3_000])
def test_a_surface_of_long_thin_triangles_stays_whole(rows: int, columns: int, most_faces: int) -> None:
    mesh = trimesh.creation.uv_sphere(radius=BALL_MM, count=[rows, columns])
    vertices, faces = welded(np.asarray(mesh.vertices) * [1, 1, 1.6], np.asarray(mesh.faces))
    packed = pack(tooth(vertices=vertices, faces=faces), most_faces=most_faces)
    given = trimesh.Trimesh(vertices, faces, process=False)
    drawn = trimesh.Trimesh(unpacked(packed), packed.faces, process=False)
    assert most_faces / 8 < len(packed.faces) <= most_faces < len(faces)
    assert drawn.area == pytest.approx(given.area, rel=0.02)
    assert np.abs(drawn.bounds - given.bounds).max() < 0.1


def test_a_doubled_shell_is_packed_once() -> None:
    vertices, faces = ball(2)
    packed = pack(tooth(vertices=vertices, faces=np.concatenate([faces, faces])))
    assert (packed.faces == faces).all()


@pytest.mark.parametrize("kind", ["loose triangles", "a fan", "any three of a cloud"])
def test_what_is_no_surface_stays_within_the_limit_too(kind: str) -> None:
    rng = np.random.default_rng(0)
    if kind == "loose triangles":
        corners = rng.uniform(-5, 5, (4_000, 1, 3)) + rng.normal(0, 0.1, (4_000, 3, 3))
        vertices, faces = corners.reshape(-1, 3), np.arange(12_000).reshape(-1, 3)
    elif kind == "a fan":
        vertices, rim = rng.normal(0, 5, (8_002, 3)), np.arange(1, 8_001)
        faces = np.column_stack([np.zeros_like(rim), rim, rim + 1])
    else:
        vertices, faces = rng.normal(0, 5, (300, 3)), rng.integers(0, 300, (9_000, 3))
    packed = pack(tooth(vertices=vertices, faces=faces), most_faces=500)
    assert 0 < len(packed.faces) <= 500
