"""PNG picture of a scene: a row for each state, a column for each view."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dentalign.geometry import rigid
from dentalign.reports.rendering import IVORY, VIEWS, Body, draw, save_png
from dentalign.reports.scene import Scene, SceneTooth, label_and_unit
from dentalign.reports.scene_mesh import decimated
from dentalign.teeth import is_upper

# Ivory is 0 mm; the same scale in every picture, so that pictures compare.
FULL_COLOUR_AT_MM = 3.0

_COLUMNS = ("upper_occlusal", "lower_occlusal", "frontal", "right", "left")
_COLOURS = LinearSegmentedColormap.from_list("millimetres", [IVORY, (0.95, 0.66, 0.33), (0.74, 0.10, 0.13)])
_ROW_IN, _HEAD_IN, _FOOT_IN = 2.5, 0.8, 0.1

Surface = tuple[rigid.Array, NDArray[np.int64]]  # vertices (V, 3), tooth-local mm; faces (F, 3)


def write(
    path: str | Path,
    scene: Scene,
    title: str,
    subtitle: str,
    coloured: tuple[str, str],
    most_faces: int | None = None,
) -> None:
    """Write the picture of a scene, all or nothing; the same input gives the same bytes.

    The treatment stages between T1 and T2 (states whose key begins with "stage") are not drawn.

    coloured   : key of the state whose teeth are coloured, and name of the figure (mm) that gives the colour
    most_faces : crowns with more faces are decimated, which saves most of the time; None to draw all faces
    """
    surfaces = [surface(tooth, most_faces) for tooth in scene.teeth]
    rows = [
        (label, _bodies(scene, surfaces, key, coloured[1] if key == coloured[0] else ""))
        for key, label in scene.states
        if not key.startswith("stage")
    ]
    colour_label = "{} of the tooth, {}".format(*label_and_unit(coloured[1]))
    with matplotlib.rc_context(matplotlib.rcParamsDefault):  # the same bytes whatever style the user has set
        save_png(_drawing(rows, title, subtitle, colour_label), path)


def surface(tooth: SceneTooth, most_faces: int | None) -> Surface:
    """Surface of a tooth, tooth-local, mm, with at most so many faces; None to keep all."""
    vertices, faces = np.asarray(tooth.vertices, np.float64), np.asarray(tooth.faces, np.int64)
    if most_faces is None or len(faces) <= most_faces:
        return vertices, faces
    return decimated(vertices, faces, most_faces)


def _bodies(scene: Scene, surfaces: Sequence[Surface], state: str, coloured_by: str) -> dict[int, Body]:
    """FDI number -> tooth in the head frame, of a state; ivory without the figure."""
    bodies = {}
    for tooth, (vertices, faces) in zip(scene.teeth, surfaces, strict=True):
        if state in tooth.poses:
            length_mm = tooth.figures.get(coloured_by, 0.0)
            red, green, blue, _ = _COLOURS(min(length_mm / FULL_COLOUR_AT_MM, 1.0))
            bodies[tooth.fdi] = Body(rigid.apply(tooth.poses[state], vertices), faces, (red, green, blue))
    return bodies


def _drawing(
    rows: Sequence[tuple[str, dict[int, Body]]], title: str, subtitle: str, colour_label: str
) -> Figure:
    """The figure; rows, a label and FDI number -> tooth in the head frame, share a scale."""
    height = _HEAD_IN + _ROW_IN * len(rows) + _FOOT_IN
    row = _ROW_IN / height
    drawing = Figure(figsize=(15.0, height), dpi=100)
    drawing.text(0.02, 1 - 0.23 / height, title, fontsize=14, weight="bold", va="center")
    drawing.text(0.02, 1 - 0.51 / height, subtitle, fontsize=10, color="0.25", va="center")
    # A mouth of one arch has no occlusal view of the other.
    shown = {view: [_seen(bodies, view) for _, bodies in rows] for view in _COLUMNS}
    shown = {view: column for view, column in shown.items() if any(column)}
    boxes = [_box(column, view) for view, column in shown.items()]
    widths = np.array([box[1] - box[0] for box in boxes])
    widths *= 0.875 / widths.sum()
    lefts = 0.045 + np.concatenate([[0], np.cumsum(widths)[:-1]])
    for number, (label, _) in enumerate(rows):
        bottom = 1 - (_HEAD_IN + _ROW_IN * (number + 1)) / height
        drawing.text(0.022, bottom + 0.45 * row, label, rotation=90, ha="center", va="center", fontsize=12)
        for view, box, left, width in zip(shown, boxes, lefts, widths, strict=True):
            axes = drawing.add_axes((left + 0.004, bottom, width - 0.008, 0.89 * row))
            draw(axes, shown[view][number], view, box)
            if number == 0:
                centre, top = left + width / 2, 1 - 0.77 / height
                drawing.text(centre, top, view.replace("_", " "), ha="center", va="bottom", fontsize=10)
    scale = drawing.add_axes((0.942, 0.5 - 1.1 / height, 0.011, 2.2 / height))
    colours = ScalarMappable(Normalize(0, FULL_COLOUR_AT_MM), _COLOURS)
    drawing.colorbar(colours, cax=scale, extend="max").set_label(colour_label)
    return drawing


def _seen(bodies: dict[int, Body], view: str) -> list[Body]:
    """Teeth that a view shows: one arch in an occlusal view, both in the others."""
    hidden = {"upper_occlusal": False, "lower_occlusal": True}.get(view)  # True: upper teeth are
    return [body for fdi, body in bodies.items() if is_upper(fdi) != hidden]


def _box(states: list[list[Body]], view: str) -> tuple[float, float, float, float]:
    """Left, right, bottom, top, mm, that hold every state in a view, so that rows share a scale."""
    points = [body.vertices @ VIEWS[view][:2].T for bodies in states for body in bodies]
    low, high = np.concatenate(points).min(0) - 1.0, np.concatenate(points).max(0) + 1.0
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])
