"""Rendering: what a viewer sees, and that it is the same bytes each time."""

from pathlib import Path

import numpy as np
import pytest
import trimesh
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dentalign.reports import rendering

BOX = (-15.0, 15.0, -15.0, 15.0)
RED, BLUE = (1.0, 0.1, 0.1), (0.1, 0.1, 1.0)


def ball(centre: tuple[float, float, float], colour: rendering.Colour, radius: float = 4.0) -> rendering.Body:
    mesh = trimesh.creation.icosphere(subdivisions=2, radius=radius)
    return rendering.Body(np.asarray(mesh.vertices) + centre, np.asarray(mesh.faces), colour)


def picture(bodies: list[rendering.Body], view: str) -> np.ndarray:
    drawn = Figure(figsize=(2, 2))
    canvas = FigureCanvasAgg(drawn)
    rendering.draw(drawn.add_axes((0, 0, 1, 1)), bodies, view, BOX)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def place(image: np.ndarray, colour: rendering.Colour) -> np.ndarray:
    """Mean (column, row) of the pixels of a colour."""
    red_minus_blue = image[..., 0] - image[..., 2]
    rows, columns = np.nonzero(red_minus_blue > 60 if colour == RED else red_minus_blue < -60)
    return np.array([columns.mean(), rows.mean()]) if len(rows) else np.full(2, np.nan)


@pytest.mark.parametrize("view", ["frontal", "upper_occlusal", "lower_occlusal"])
def test_the_patients_right_is_on_the_pictures_left(view: str) -> None:
    image = picture([ball((-10, 0, 0), RED), ball((10, 0, 0), BLUE)], view)
    assert place(image, RED)[0] < place(image, BLUE)[0]


@pytest.mark.parametrize(
    ("view", "axis"),
    [("upper_occlusal", 1), ("lower_occlusal", 1), ("left", 0), ("right", 0)],
)
def test_where_the_incisors_are(view: str, axis: int) -> None:
    image = picture([ball((0, -10, 0), RED), ball((0, 10, 0), BLUE)], view)
    first = place(image, RED)[axis] < place(image, BLUE)[axis]  # rows count downwards
    assert first == (view in ("upper_occlusal", "left"))


@pytest.mark.parametrize("view", ["frontal", "left", "right"])
def test_the_upper_arch_is_above(view: str) -> None:
    image = picture([ball((0, 0, 10), RED), ball((0, 0, -10), BLUE)], view)
    assert place(image, RED)[1] < place(image, BLUE)[1]


@pytest.mark.parametrize("view", list(rendering.VIEWS))
def test_a_nearer_tooth_hides_the_one_behind(view: str) -> None:
    towards = rendering.VIEWS[view][2] * 20
    near, far = ball(tuple(towards), RED), ball(tuple(-towards), BLUE, radius=3.5)
    for bodies in ([near, far], [far, near]):
        image = picture(bodies, view)
        assert np.isfinite(place(image, RED)).all()
        assert np.isnan(place(image, BLUE)).all()


def test_the_same_bodies_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        drawn = Figure(figsize=(2, 2))
        rendering.draw(drawn.add_axes((0, 0, 1, 1)), [ball((0, 0, 0), RED)], "frontal", BOX)
        rendering.save_png(drawn, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert b"Software" not in (tmp_path / "a.png").read_bytes()


def test_nothing_to_draw_is_an_empty_panel() -> None:
    assert (picture([], "frontal") == 255).all()
