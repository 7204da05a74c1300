"""Distance fields: as exact as the distance to the mesh itself, for one crown and for posed pairs."""

import igl
import numpy as np
import pytest
import trimesh

from dentalign.geometry import rigid
from dentalign.geometry.mesh_file import Surface
from dentalign.planning.distance_field import DistanceFields


def ellipsoid(*half_axes_mm: float) -> Surface:
    sphere = trimesh.creation.icosphere(subdivisions=4)
    return np.asarray(sphere.vertices) * half_axes_mm, np.asarray(sphere.faces, np.int64)


def exact(surface: Surface, points: np.ndarray) -> np.ndarray:
    return np.asarray(igl.signed_distance(points, *surface, igl.SIGNED_DISTANCE_TYPE_PSEUDONORMAL)[0])


CROWN = ellipsoid(4.0, 3.0, 3.5)


@pytest.mark.parametrize("damage", ["none", "inside out", "with a hole"])
def test_distance_near_a_surface_is_that_of_the_mesh(damage: str) -> None:
    vertices, faces = CROWN
    rng = np.random.default_rng(0)
    near = vertices[rng.integers(0, len(vertices), 2000)] + rng.uniform(-0.3, 0.3, (2000, 3))
    if damage == "inside out":
        faces = faces[:, ::-1]
    if damage == "with a hole":  # at the neck; measured where the rest of the surface is nearer
        faces = faces[vertices[faces][:, :, 2].mean(1) > -3.2]
        near = near[near[:, 2] > -1.0]
    fields = DistanceFields([(vertices, faces)])
    found, gradient = fields.distance_and_gradient(np.zeros(len(near), np.intp), near)
    assert np.abs(found - exact(CROWN, near)).max() < 0.02
    outward = near / np.array([4.0, 3.0, 3.5]) ** 2
    assert (rigid.unit(gradient) * rigid.unit(outward)).sum(1).min() > 0.98


def test_depth_of_posed_crowns_is_that_of_their_meshes() -> None:
    crowns = [CROWN, ellipsoid(3.0, 3.0, 4.0), CROWN]
    rng = np.random.default_rng(1)
    turns = rigid.rotation_matrix(rng.normal(0, 0.5, (6, 3, 3)))
    places = np.array([[0.0, 0, 0], [6.3, 0, 0], [30, 0, 0]]) + rng.normal(0, 0.3, (6, 3, 3))
    poses, pairs = rigid.from_rotation(turns, places), np.array([[0, 1], [1, 2]])
    found = DistanceFields(crowns).depth_mm(poses, pairs)
    for position, depth in zip(poses, found[:, 0], strict=True):
        seen = [
            exact(crowns[b], rigid.apply(rigid.inverse(position[b]) @ position[a], crowns[a][0])).min()
            for a, b in ((0, 1), (1, 0))
        ]
        assert depth == pytest.approx(max(0.0, -min(seen)), abs=0.01, rel=0.03)
    assert found[:, 0].max() > 0.3
    assert not found[:, 1].any()


def test_probes_within_a_distance_are_found_on_both_crowns_and_no_others() -> None:
    poses = np.tile(np.eye(4), (1, 2, 1, 1))
    poses[0, 1, 0, 3] = 8.2  # a gap of 0.2 mm
    found = DistanceFields([CROWN, CROWN]).near(poses, np.array([[0, 1]]), within_mm=0.4)
    assert set(found.tooth.tolist()) == {0, 1}
    assert (found.tooth != found.other).all()
    assert found.distance_mm.min() == pytest.approx(0.2, abs=0.02)
    assert found.distance_mm.max() < 0.4
    assert found.point[found.tooth == 0][:, 0].min() > 3  # on the side of the other crown
