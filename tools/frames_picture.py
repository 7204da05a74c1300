"""Draw docs/pictures/frames.svg: head and tooth-local frame, arches, signs of tip, torque and rotation.

    python -m tools.frames_picture

The arches are those of `average_mouth`. A moved tooth is drawn by the pose of its `Motion`, and a test
measures that pose with `dentalign.geometry.movement`.
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Polygon
from scipy.interpolate import CubicSpline

from dentalign.geometry import rigid
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.rigid import Array
from dentalign.running.stage_code import ROOT
from dentalign.teeth import LOWER, SLOT_INDEX, UPPER

PICTURE = ROOT / "docs" / "pictures" / "frames.svg"

TOOTH = 33  # of the three lower panels; mesial is +x there
ANGLE_DEG = 25.0
X, Y, Z = np.eye(3)
AXES = (("x", X, "#c0392b"), ("y", Y, "#1e8449"), ("z", Z, "#2154a6"))
INK, MUTED, PALE = "#1c2a35", "#5d6d7a", "#e8eef3"


def _outline(points: list[tuple[float, float]], across: Array, up: Array) -> Array:
    """Closed smooth curve (N, 3) through points that are given along two axes, mm."""
    closed = np.array([*points, points[0]])
    curve = CubicSpline(np.arange(len(closed)), closed, bc_type="periodic")(np.linspace(0, len(points), 80))
    return curve[:, :1] * across + curve[:, 1:] * up


# A lower left canine, tooth-local, mm.
BUCCAL_SIDE = _outline(
    [(0, -15), (1.9, -8), (2.5, -4), (3.7, 1), (2.6, 4), (0.7, 5.6), (-2.4, 3.9), (-3.6, 0.6), (-2.5, -4),
     (-1.7, -8)], X, Z)  # fmt: skip
MESIAL_SIDE = _outline(
    [(-0.4, -15), (1.9, -9), (3.0, -4), (3.5, -1), (2.2, 3), (0.7, 5.6), (-0.6, 3.6), (-2.0, 0.8),
     (-3.4, -2.2), (-3.0, -5), (-2.0, -10)], Y, Z)  # fmt: skip
CROWN_TIP_SIDE = _outline(
    [(4.6, -0.2), (2.6, 2.0), (0.3, 2.9), (-2.2, 2.1), (-4.4, -0.3), (-2.4, -2.6), (0, -3.4), (2.4, -2.7)],
    X, Y)  # fmt: skip


@dataclass(frozen=True)
class View:
    """An orthographic view; `right` and `up` are the directions (3,) that point so on the page."""

    right: Array
    up: Array

    def of(self, points: Array) -> Array:
        """Points (..., 3) on the page, (..., 2)."""
        return np.stack([points @ self.right, points @ self.up], axis=-1)

    @property
    def depth(self) -> Array:
        """The direction (3,) that points at the viewer."""
        return np.cross(self.right, self.up)


@dataclass(frozen=True)
class Motion:
    """A rotation (4, 4) that makes the angle `column` of the movement table positive, and how it is drawn."""

    column: str
    axis: Array
    view: View
    outline: Array
    title: str
    seen_from: str
    positive: str
    sides: tuple[str, str]

    @property
    def pose(self) -> Array:
        """Pose of the moved tooth, when the pose before is the identity."""
        return rigid.from_rotation(rigid.rotation_matrix(np.radians(ANGLE_DEG) * self.axis), np.zeros(3))


MOTIONS = (
    Motion("tip_deg", Y, View(-X, Z), BUCCAL_SIDE, "Tip, about y", "buccal", "crown to mesial",
           ("mesial", "distal")),
    Motion("torque_deg", -X, View(Y, Z), MESIAL_SIDE, "Torque, about x", "mesial", "crown to buccal",
           ("lingual", "buccal")),
    Motion("rotation_deg", Z, View(X, Y), CROWN_TIP_SIDE, "Rotation, about z", "the crown tip",
           "mesial side to buccal", ("distal", "mesial")),
)  # fmt: skip


def draw(path: Path) -> None:
    """Write the picture in the format of the file's name; equal bytes for equal versions of matplotlib."""
    plt.rcParams.update({"svg.hashsalt": "frames", "font.size": 11, "text.color": INK})
    figure = plt.figure(figsize=(13.5, 9.4), facecolor="white")
    above, below = (figure.add_gridspec(1, count, left=0.01, right=0.99, bottom=low, top=high, wspace=0.02)
                    for count, low, high in ((4, 0.5, 0.93), (3, 0.0, 0.39)))  # fmt: skip
    _front(figure.add_subplot(above[0]))
    _arch(figure.add_subplot(above[1]), "Upper arch, from below", UPPER, View(X, -Y))
    _arch(figure.add_subplot(above[2]), "Lower arch, from above", LOWER, View(X, Y))
    _local_frames(figure.add_subplot(above[3]))
    for number, motion in enumerate(MOTIONS):
        _motion(figure.add_subplot(below[number]), motion)
    legend = ("circle with a dot: the axis points at you", "circle with a cross: away from you",
              "dashed: before, solid: after")  # fmt: skip
    figure.text(0.5, 0.475, "        ".join(legend), ha="center", color=MUTED)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
    plt.close(figure)


def _panel(axes: Axes, title: str, subtitle: str, width: float, height: float) -> None:
    axes.set_aspect("equal")
    axes.set_xlim(-width / 2, width / 2)
    axes.set_ylim(-height / 2, height / 2)
    axes.axis("off")
    axes.text(0.5, 1.08, title, transform=axes.transAxes, ha="center", fontsize=13, fontweight="bold")
    axes.text(0.5, 1.01, subtitle, transform=axes.transAxes, ha="center", color=MUTED)


def _text(
    axes: Axes, place: Array, text: str, color: str = MUTED, size: float = 11, weight: str = "normal"
) -> None:
    axes.text(
        place[0], place[1], text, color=color, ha="center", va="center", fontsize=size, fontweight=weight
    )


def _arrow(axes: Axes, start: Array, end: Array, color: str, width: float = 2.2) -> None:
    style = {
        "arrowstyle": "-|>",
        "color": color,
        "lw": width,
        "shrinkA": 0,
        "shrinkB": 0,
        "mutation_scale": 7 * width,
    }
    axes.annotate("", (end[0], end[1]), (start[0], start[1]), arrowprops=style)


def _axes_of(axes: Axes, view: View, origin: Array, length: float, label: tuple[float, float]) -> None:
    """The three axes in a view: two arrows, and a circle for the one along the line of sight."""
    for name, direction, color in AXES:
        seen = view.of(direction)
        if seen.any():
            _arrow(axes, origin, origin + length * seen, color)
            _text(axes, origin + 1.18 * length * seen, name, color, weight="bold")
            continue
        away = direction @ view.depth < 0
        axes.plot(*origin, "o", markersize=13, mfc="white", mec=color, mew=2, zorder=4)
        axes.plot(*origin, "x" if away else "o", color=color, markersize=7 if away else 4, mew=2, zorder=5)
        _text(axes, origin + np.array(label) * length, name, color, weight="bold")


def _front(axes: Axes) -> None:
    _panel(axes, "Head frame, from the front", "x to the patient's left, y to posterior, z up", 84, 84)
    for numbers, widths, crown in ((UPPER, (8.5, 6.2, 6.4, 5, 4), -1), (LOWER, (5.2, 5.2, 6, 5.4, 4.5), 1)):
        edges = np.append(0, np.cumsum(widths))
        for fdi in numbers:
            if fdi % 10 > 5:
                continue  # behind the others
            side = 1 if fdi // 10 in (2, 3) else -1
            left, right = side * edges[fdi % 10 - 1] + 0.3 * side, side * edges[fdi % 10] - 0.3 * side
            corners = [(left, 0.6), (right, 0.6), (right - 0.7 * side, 10), (left + 0.7 * side, 10)]
            axes.add_patch(Polygon(np.array(corners) * (1, -crown), facecolor="white", edgecolor=INK, lw=1.2))
            _text(axes, np.array([(left + right) / 2, -13.0 * crown]), str(fdi), INK, 8)
    _text(axes, np.array([-28, 26]), "patient's right")
    _text(axes, np.array([28, 26]), "patient's left")
    _axes_of(axes, View(X, Z), np.array([-8.0, -38.0]), 16.0, (-0.3, 0))


def _arch(axes: Axes, title: str, numbers: tuple[int, ...], view: View) -> None:
    front = float(np.sign(view.of(-Y)[1]))
    _panel(axes, title, f"the front is at the {'top' if front > 0 else 'bottom'}", 94, 94)
    mouth = average_mouth()
    slots = [SLOT_INDEX[fdi] for fdi in numbers]
    middle = view.of(mouth.position[slots])[:, 1].mean()
    for fdi, slot in zip(numbers, slots, strict=True):
        place = 1.1 * (view.of(mouth.position[slot]) - (0, middle))
        axes.add_patch(Circle(tuple(place), 2.4, facecolor="white", edgecolor=INK))
        outward, across = mouth.outward[slot], np.cross(mouth.outward[slot], mouth.crown[slot])
        _arrow(axes, place, place + 7.5 * view.of(across), AXES[0][2], 1.3)  # x = y cross z
        _arrow(axes, place, place + 7.5 * view.of(outward), AXES[1][2], 1.3)
        _text(axes, place + 11 * view.of(outward), str(fdi), INK, 9)
    _axes_of(axes, view, np.array([-3.0, -6.0 * front]), 13.0, (-0.42, 0))
    _text(axes, np.array([0, -46]), "small arrows: x and y of each tooth", size=10)


def _local_frames(axes: Axes) -> None:
    _panel(axes, "Tooth-local frame, from buccal", "+z root to crown tip, +y buccal, x = y × z", 76, 76)
    for quadrant, crown, side in ((1, -1, -1), (2, -1, 1), (3, 1, 1), (4, 1, -1)):
        view = View(-crown * X, crown * Z)  # y points at the viewer
        place = np.array([17.0 * side, -17.5 * crown])
        mirror = -1 if quadrant in (2, 4) else 1  # antimeres mirror in x
        axes.add_patch(
            Polygon(place + 0.85 * view.of(BUCCAL_SIDE * (mirror, 1, 1)), facecolor=PALE, edgecolor=MUTED)
        )
        _axes_of(axes, view, place, 9.0, (0.32 * crown, -0.34 * crown))
        meaning = "mesial" if quadrant in (1, 3) else "distal"
        _text(axes, place + crown * np.array([-7.5, 3.2]), meaning, AXES[0][2], 10)
        _text(axes, place - crown * np.array([0, 15.5]), f"quadrant {quadrant}", INK)
    axes.plot([0, 0], [-33, 29], color=MUTED, lw=1, ls=(0, (4, 3)))
    _text(axes, np.array([0, 32]), "midline", size=10)


def _motion(axes: Axes, motion: Motion) -> None:
    _panel(axes, motion.title, f"tooth {TOOTH}, seen from {motion.seen_from}", 44, 31)
    flat = motion.column == "rotation_deg"
    origin, size, arm = np.array([0, -0.5 if flat else 4]), 1.6 if flat else 1.0, X if flat else Z
    before = origin + size * motion.view.of(motion.outline)
    after = origin + size * motion.view.of(rigid.apply(motion.pose, motion.outline))
    axes.add_patch(Polygon(after, facecolor=PALE, edgecolor=INK, lw=1.8))
    axes.add_patch(Polygon(before, facecolor="none", edgecolor=MUTED, lw=1.4, ls=(0, (3, 2)), zorder=3))
    _axes_of(axes, motion.view, origin, 9.0, (0.2, -0.2))
    turned = [
        rigid.rotation_matrix(np.radians(angle) * motion.axis) @ arm
        for angle in np.linspace(0, ANGLE_DEG, 20)
    ]
    arc = origin + (9.0 if flat else 7.6) * motion.view.of(np.array(turned))
    axes.plot(*arc[:-2].T, color=INK, lw=2.2)
    _arrow(axes, arc[-3], arc[-1], INK)
    for side, word in zip((-1, 1), motion.sides, strict=True):
        _text(axes, np.array([13.5 * side, -7]), word)
    _text(axes, np.array([0, -14]), f"positive: {motion.positive}", INK, 12, "bold")


if __name__ == "__main__":
    draw(PICTURE)
