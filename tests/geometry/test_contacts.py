"""Contacts of teeth, on spheres, whose overlap and gap are known."""

import numpy as np
import pytest
import trimesh

from dentalign.geometry import contacts, rigid
from dentalign.geometry.sampling import directions, triangulation
from dentalign.teeth import SLOT_INDEX

RADIUS_MM = 4.0
PAIR = np.array([[0, 1]])


def balls(distance_mm: float, motion: np.ndarray | None = None) -> np.ndarray:
    """Two spheres sampled as teeth are, their centres along a slanted line."""
    along = np.array([0.8, 0.48, 0.36])
    ball = directions(256) * RADIUS_MM
    both = np.stack([ball, ball @ rigid.rotation_matrix([0.4, 1.0, 0.2]).T + distance_mm * along])
    return both if motion is None else rigid.apply(motion, both)


@pytest.mark.parametrize("overlap_mm", [0.2, 0.5, 1.0, 2.0])
def test_spheres_overlap_by_what_is_known(overlap_mm: float) -> None:
    overlap, gap = contacts.contacts(balls(2 * RADIUS_MM - overlap_mm), PAIR)
    assert overlap[0] == pytest.approx(overlap_mm, abs=0.1)
    assert gap[0] == 0


@pytest.mark.parametrize("gap_mm", [0.0, 0.1, 0.5, 3.0, 12.0])
def test_spheres_are_apart_by_what_is_known(gap_mm: float) -> None:
    overlap, gap = contacts.contacts(balls(2 * RADIUS_MM + gap_mm), PAIR)
    assert overlap[0] == 0
    assert gap[0] == pytest.approx(gap_mm, abs=0.1)


def test_the_order_of_a_pair_and_a_motion_of_the_mouth_change_nothing() -> None:
    motion = rigid.from_rotation(rigid.rotation_matrix([0.5, -1.2, 0.3]), [30.0, -12, 5])
    for distance_mm in (7.2, 8.6):
        expected = np.concatenate(contacts.contacts(balls(distance_mm), PAIR))
        assert np.concatenate(contacts.contacts(balls(distance_mm), PAIR[:, ::-1])) == pytest.approx(expected)
        assert np.concatenate(contacts.contacts(balls(distance_mm, motion), PAIR)) == pytest.approx(expected)


def test_a_tooth_inside_another_is_an_overlap() -> None:
    ball = directions(256)
    overlap, gap = contacts.contacts(np.stack([ball * 5.0, ball * 1.0 + [2.0, 0, 0]]), PAIR)
    assert overlap[0] == pytest.approx(4.0, abs=0.15)  # the far side of the small one is 4 mm deep
    assert gap[0] == 0


def test_folds_in_a_surface_are_not_taken_for_an_overlap() -> None:
    teeth = balls(2 * RADIUS_MM + 1.0)
    facing = np.argsort((teeth[1] - teeth[0].mean(0)) @ [0.8, 0.48, 0.36])[:40]
    for seed in range(5):  # points in each other's place: a crumpled surface on the side of the contact
        crumpled = teeth.copy()
        crumpled[1, facing] = teeth[1, np.random.default_rng(seed).permutation(facing)]
        assert contacts.contacts(crumpled, PAIR)[0][0] == 0


def by_every_triangle(teeth: np.ndarray) -> tuple[float, float]:
    """Overlap and gap of two teeth from the distance of every probe to every triangle, by trimesh."""
    faces = triangulation(teeth.shape[1])
    deepest, gap = 0.0, np.inf
    for probing, standing in (teeth, teeth[::-1]):
        probes = np.concatenate([probing, probing[faces].mean(1)])
        for probe in probes:
            corners = standing[faces]
            a, b, c = np.moveaxis(corners - probe, 1, 0)
            la, lb, lc = (np.linalg.norm(side, axis=1) for side in (a, b, c))
            volume = (a * np.cross(b, c)).sum(1)
            rest = la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb
            nearest = trimesh.triangles.closest_point(corners, np.tile(probe, (len(faces), 1)))
            distance = float(np.linalg.norm(nearest - probe, axis=1).min())
            gap = min(gap, distance)
            if 2 * np.arctan2(volume, rest).sum() > 2 * np.pi:  # solid angle: inside
                deepest = max(deepest, distance)
    return deepest, 0.0 if deepest else gap


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("overlap_mm", [0.3, 1.0, -0.4])
def test_overlap_and_gap_are_those_over_every_probe_and_triangle(seed: int, overlap_mm: float) -> None:
    teeth = balls(2 * RADIUS_MM - overlap_mm)
    facing = np.argsort((teeth[1] - teeth[0].mean(0)) @ [0.8, 0.48, 0.36])[:40]
    teeth[1, facing] = teeth[1, np.random.default_rng(seed).permutation(facing)]
    overlap, gap = contacts.contacts(teeth, PAIR)
    assert (overlap[0], gap[0]) == pytest.approx(by_every_triangle(teeth), abs=1e-9)


def test_several_pairs_are_as_one_after_the_other() -> None:
    ball = directions(64) * RADIUS_MM
    row = np.stack([np.add(ball, [place, 0, 0]) for place in (0.0, 7.5, 16.0, 23.7)])
    pairs = np.array([[0, 1], [1, 2], [2, 3]])
    together = np.stack(contacts.contacts(row, pairs))
    alone = np.concatenate([np.stack(contacts.contacts(row, pairs[k : k + 1])) for k in range(3)], axis=1)
    assert together == pytest.approx(alone)
    assert together[0] == pytest.approx([0.5, 0, 0.3], abs=0.2)
    assert contacts.contacts(row, np.zeros((0, 2), int))[0].shape == (0,)


def test_neighbours_skip_empty_slots_but_not_teeth_without_a_prediction() -> None:
    present, judged = np.zeros(32, bool), np.zeros(32, bool)
    present[[SLOT_INDEX[fdi] for fdi in (33, 31, 41, 44, 47, 11, 21, 23)]] = True
    judged |= present
    judged[SLOT_INDEX[44]] = False
    pairs = contacts.neighbours(present, judged).tolist()
    assert pairs == [[SLOT_INDEX[a], SLOT_INDEX[b]] for a, b in ((33, 31), (31, 41), (11, 21), (21, 23))]
