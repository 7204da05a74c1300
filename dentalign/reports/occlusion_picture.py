"""PNG picture of the occlusal contacts: the faces of each crown, coloured by distance to the other arch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import igl
import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.reports.mouth_picture import Surface, surface
from dentalign.reports.rendering import IVORY, Body, draw, save_png
from dentalign.reports.scene import Scene
from dentalign.teeth import is_upper

# Red: deeper than that in the antagonist; ivory: farther than that from it. The same in every picture.
DEEPEST_MM, FARTHEST_MM = -0.5, 1.0

_COLOURS = LinearSegmentedColormap.from_list(
    "contacts",
    [(0.0, (0.74, 0.10, 0.13)), (1 / 3, (0.98, 0.80, 0.25)), (0.53, (0.35, 0.65, 0.60)), (1.0, IVORY)],
)
_VIEWS = ("upper_occlusal", "lower_occlusal")
_SIZE_IN = 4.6


def write(path: str | Path, scene: Scene, title: str, most_faces: int) -> None:
    """Write the picture of a scene, all or nothing; the same scene gives the same bytes.

    A row for each state but the treatment stages, both occlusal views in it.

    most_faces : crowns with more faces are decimated, which saves most of the time
    """
    surfaces = {tooth.fdi: surface(tooth, most_faces) for tooth in scene.teeth}
    states = []
    for key, label in scene.states:
        if not key.startswith("stage"):
            posed = {tooth.fdi: tooth.poses[key] for tooth in scene.teeth if key in tooth.poses}
            crowns = {
                fdi: (rigid.apply(pose, surfaces[fdi][0]), surfaces[fdi][1]) for fdi, pose in posed.items()
            }
            states.append((label, crowns))
    with matplotlib.rc_context(matplotlib.rcParamsDefault):  # the same bytes whatever style the user has set
        save_png(_drawing(title, states), path)


def _drawing(title: str, states: Sequence[tuple[str, Mapping[int, Surface]]]) -> Figure:
    height = 0.5 + _SIZE_IN * len(states)
    drawing = Figure(figsize=(2 * _SIZE_IN + 1.4, height), dpi=100)
    drawing.text(0.02, 1 - 0.25 / height, title, fontsize=14, weight="bold", va="center")
    every = np.concatenate([vertices for _, crowns in states for vertices, _ in crowns.values()])
    low, high = every.min(0) - 1, every.max(0) + 1
    for number, (label, crowns) in enumerate(states):
        bodies = coloured(crowns)
        for column, view in enumerate(_VIEWS):
            flip = view == "upper_occlusal"
            box = (low[0], high[0], -high[1] if flip else low[1], -low[1] if flip else high[1])
            bottom = 1 - (0.5 + _SIZE_IN * (number + 1)) / height
            width = _SIZE_IN / (2 * _SIZE_IN + 1.4)
            axes = drawing.add_axes((0.01 + column * width, bottom, width, 0.94 * _SIZE_IN / height))
            draw(axes, [body for fdi, body in bodies.items() if is_upper(fdi) == flip], view, box)
            axes.set_title(f"{label}, {view.replace('_', ' ')}", fontsize=10)
    scale = drawing.add_axes((0.895, 0.3, 0.014, 0.4))
    colours = ScalarMappable(Normalize(DEEPEST_MM, FARTHEST_MM), _COLOURS)
    drawing.colorbar(colours, cax=scale, extend="both").set_label("distance to the other arch, mm")
    return drawing


def coloured(crowns: Mapping[int, Surface]) -> dict[int, Body]:
    """Crowns of one state whose faces have the colour of their signed distance to the other arch."""
    bodies = {}
    for upper in (False, True):
        mine = {fdi: crown for fdi, crown in crowns.items() if is_upper(fdi) == upper}
        others = [crown for fdi, crown in crowns.items() if is_upper(fdi) != upper]
        for fdi, (vertices, faces) in mine.items():
            at = _COLOURS(
                (_distance(vertices[faces].mean(1), others) - DEEPEST_MM) / (FARTHEST_MM - DEEPEST_MM)
            )
            bodies[fdi] = Body(vertices, faces, at[:, :3])
    return bodies


def _distance(points: Array, crowns: Sequence[Surface]) -> Array:
    """Signed distance (M,), mm, of points to the nearest crown, negative inside; at most `FARTHEST_MM`."""
    distance = np.full(len(points), FARTHEST_MM)
    for vertices, faces in crowns:
        low, high = vertices.min(0) - FARTHEST_MM, vertices.max(0) + FARTHEST_MM
        near = ((low < points) & (points < high)).all(1)
        if near.any():
            kind = igl.SIGNED_DISTANCE_TYPE_FAST_WINDING_NUMBER
            found = igl.signed_distance(points[near], vertices, faces, kind)[0]
            distance[near] = np.minimum(distance[near], found)
    return distance
