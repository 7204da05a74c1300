"""Movements in an orthodontist's terms, against values worked out by hand."""

import numpy as np
import pytest

from dentalign.geometry import rigid
from dentalign.geometry.movement import COLUMNS, movement

POINTS = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
DIRECTIONS = ("mesiodistal_mm", "buccolingual_mm", "vertical_mm")
ANGLES = ("tip_deg", "torque_deg", "rotation_deg")


def pose(rotation_vector_deg: tuple[float, float, float], place: tuple[float, float, float]) -> np.ndarray:
    return rigid.from_rotation(rigid.rotation_matrix(np.radians(rotation_vector_deg)), place)


@pytest.mark.parametrize(
    ("fdi", "step", "expected"),
    [
        # Upper right central: x of the tooth is mesial, and here the tooth stands in the head's axes.
        (11, (0.5, 0, 0), (0.5, 0, 0)),
        (11, (0, 0.7, 0), (0, 0.7, 0)),
        (11, (0, 0, -0.3), (0, 0, -0.3)),
        # Left central: the same step in x is distal.
        (21, (0.5, 0, 0), (-0.5, 0, 0)),
        (36, (0.5, 0, 0), (0.5, 0, 0)),
        (46, (0.5, 0, 0), (-0.5, 0, 0)),
        (75, (0.5, 0, 0), (0.5, 0, 0)),
    ],
)
def test_a_step_along_an_axis_of_the_tooth_has_its_name_and_sign(
    fdi: int, step: tuple[float, float, float], expected: tuple[float, float, float]
) -> None:
    found = movement(fdi, np.eye(4), pose((0, 0, 0), step), POINTS)
    assert [found[name] for name in DIRECTIONS] == pytest.approx(expected)
    assert found["movement_mm"] == pytest.approx(np.linalg.norm(step))
    assert [found[name] for name in ANGLES] == pytest.approx((0, 0, 0))


@pytest.mark.parametrize(
    ("fdi", "turn", "expected"),
    [
        (11, (0, 10, 0), (10, 0, 0)),  # about buccal: the crown's tip (+z) goes to +x, which is mesial
        (21, (0, 10, 0), (-10, 0, 0)),
        (11, (10, 0, 0), (0, -10, 0)),  # about x: the tip goes to -y, to lingual
        (21, (10, 0, 0), (0, -10, 0)),
        (11, (0, 0, 10), (0, 0, 10)),  # about the long axis: the mesial side (+x) goes to +y, to buccal
        (21, (0, 0, 10), (0, 0, -10)),
    ],
)
def test_a_turn_about_an_axis_of_the_tooth_has_its_name_and_sign(
    fdi: int, turn: tuple[float, float, float], expected: tuple[float, float, float]
) -> None:
    found = movement(fdi, np.eye(4), pose(turn, (0, 0, 0)), POINTS)
    assert [found[name] for name in ANGLES] == pytest.approx(expected)
    assert found["turn_deg"] == pytest.approx(10)


def test_the_axes_are_those_of_the_tooth_where_it_stands_at_t1() -> None:
    # An upper tooth hangs: its root to crown axis points down, so a step down is an extrusion.
    hanging = pose((0, 180, 0), (20, -10, 5))
    lower = hanging.copy()
    lower[2, 3] -= 2
    found = movement(13, hanging, lower, POINTS)
    assert found["vertical_mm"] == pytest.approx(2)
    assert found["mesiodistal_mm"] == pytest.approx(0, abs=1e-12)


def test_it_is_the_crown_s_centroid_that_is_displaced_not_the_origin() -> None:
    off = POINTS + np.array([0, 0, 5.0])
    found = movement(11, np.eye(4), pose((0, 90, 0), (0, 0, 0)), off)
    assert found["movement_mm"] == pytest.approx(5 * 2**0.5)
    assert found["mesiodistal_mm"] == pytest.approx(5)


def test_a_mirror_image_moves_alike() -> None:
    rng = np.random.default_rng(0)
    before, after = (pose(tuple(rng.normal(0, 30, 3)), tuple(rng.normal(0, 5, 3))) for _ in range(2))
    points = rng.normal(size=(20, 3))
    flip = np.diag([-1.0, 1, 1, 1])
    one = movement(14, before, after, points)
    other = movement(24, flip @ before @ flip, flip @ after @ flip, points * [-1, 1, 1])
    assert one == pytest.approx(other)
    assert tuple(one) == COLUMNS
