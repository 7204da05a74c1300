"""One mouth in several states as a picture: a row for each state, a column for each view."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dentalign.geometry import rigid
from dentalign.reports.rendering import IVORY, VIEWS, Body, draw, figure
from dentalign.teeth import ARCHES

Array = NDArray[np.float64]
Surface = tuple[Array, NDArray[np.int64]]  # vertices (V, 3), tooth-local mm; faces (F, 3)

# Ivory is 0 mm; the same scale in every picture, so that pictures compare.
FULL_COLOUR_AT_MM = 3.0

_PANELS = ("upper_occlusal", "lower_occlusal", "frontal", "right", "left")
_COLOURS = LinearSegmentedColormap.from_list("millimetres", [IVORY, (0.95, 0.66, 0.33), (0.74, 0.10, 0.13)])
_ROW_IN, _HEAD_IN, _FOOT_IN = 2.5, 0.8, 0.1


def bodies(
    surfaces: Mapping[int, Surface],
    poses: Array,
    slots: NDArray[np.intp],
    length_mm: Mapping[int, float] | None = None,
) -> dict[int, Body]:
    """Slot -> tooth in the head frame, coloured by a length of its own where that is given.

    surfaces  : slot -> surface
    poses     : (32, 4, 4), tooth-local -> head, mm
    slots     : the teeth to show
    length_mm : slot -> length such as ADD or movement
    """
    shown = {}
    for slot in slots.tolist():
        vertices, faces = surfaces[slot]
        colour = IVORY
        if length_mm is not None:
            red, green, blue, _ = _COLOURS(min(length_mm[slot] / FULL_COLOUR_AT_MM, 1.0))
            colour = (red, green, blue)
        shown[slot] = Body(rigid.apply(poses[slot], vertices), faces, colour)
    return shown


def mouth_figure(
    title: str, subtitle: str, states: Sequence[tuple[str, Mapping[int, Body]]], colour_label: str
) -> Figure:
    """The picture; rows share a scale.

    states       : (label, slot -> body) from top to bottom
    colour_label : what the colours of `bodies` stand for
    """
    height = _HEAD_IN + _ROW_IN * len(states) + _FOOT_IN
    row = _ROW_IN / height
    drawn = figure(15.0, height)
    drawn.text(0.02, 1 - 0.23 / height, title, fontsize=14, weight="bold", va="center")
    drawn.text(0.02, 1 - 0.51 / height, subtitle, fontsize=10, color="0.25", va="center")
    columns = [(view, _shown(view)) for view in _PANELS]
    boxes = [
        _box([[body for slot, body in state.items() if slot in part] for _, state in states], view)
        for view, part in columns
    ]
    widths = np.array([box[1] - box[0] for box in boxes])
    lefts = 0.045 + 0.875 * np.concatenate([[0], np.cumsum(widths)[:-1]]) / widths.sum()
    for k, (label, state) in enumerate(states):
        bottom = 1 - (_HEAD_IN + _ROW_IN * (k + 1)) / height
        drawn.text(0.022, bottom + 0.45 * row, label, rotation=90, ha="center", va="center", fontsize=12)
        for (view, part), box, left, width in zip(
            columns, boxes, lefts, 0.875 * widths / widths.sum(), strict=True
        ):
            axes = drawn.add_axes((left + 0.004, bottom, width - 0.008, 0.89 * row))
            draw(axes, [body for slot, body in state.items() if slot in part], view, box)
            if k == 0:
                middle, heading = left + width / 2, view.replace("_", " ")
                drawn.text(middle, 1 - 0.77 / height, heading, ha="center", va="bottom", fontsize=10)
    scale = drawn.add_axes((0.942, 0.5 - 1.1 / height, 0.011, 2.2 / height))
    colours = ScalarMappable(Normalize(0, FULL_COLOUR_AT_MM), _COLOURS)
    drawn.colorbar(colours, cax=scale, extend="max").set_label(colour_label)
    return drawn


def _shown(view: str) -> set[int]:
    """Slots that a view shows: one arch from its occlusal side, both from elsewhere."""
    shown = [slots for name, slots in ARCHES.items() if "occlusal" not in view or name in view]
    return {int(slot) for slots in shown for slot in slots}


def _box(states: list[list[Body]], view: str) -> tuple[float, float, float, float]:
    """Left, right, bottom, top, mm, that hold every state in a view, so that rows share a scale."""
    points = [body.vertices @ VIEWS[view][:2].T for shown in states for body in shown]
    if not points:
        return 0.0, 1.0, 0.0, 1.0
    low, high = np.concatenate(points).min(0) - 1.0, np.concatenate(points).max(0) + 1.0
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])
