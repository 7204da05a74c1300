"""Pictures of teeth on a bare server: no display, no GPU, no OpenGL.

The views are orthographic. Triangles are shaded one by one and painted from far to near: the painter's
algorithm (Newell, Newell and Sancha 1972, doi:10.1145/800193.569954). Pillow paints them at three times the
final resolution; this takes a tenth of the time of matplotlib's polygons. The same bodies give the same
bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dentalign.files import atomic
from dentalign.geometry.rigid import Array, unit

Colour = tuple[float, float, float]

IVORY: Colour = (0.965, 0.925, 0.835)

# Rows: picture right, picture up, towards the viewer, in the head frame (x left, y posterior, z up).
VIEWS: dict[str, Array] = {
    "frontal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "left": np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]),
    "right": np.array([[0.0, -1, 0], [0, 0, 1], [-1, 0, 0]]),
    "upper_occlusal": np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]),
    "lower_occlusal": np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]),
}

# A lamp above and to the left of the viewer, as in clinical photographs; unit vector in view axes.
_VIEWER = np.array([0.0, 0.0, 1.0])
_LAMP = np.array([-0.32, 0.45, 0.83]) / np.linalg.norm([-0.32, 0.45, 0.83])
_HALFWAY = (_LAMP + _VIEWER) / np.linalg.norm(_LAMP + _VIEWER)
_AMBIENT, _DIFFUSE, _GLOSS, _SHININESS = 0.42, 0.62, 0.16, 28.0
_FADING = 0.28  # darkening of the farthest face, relative to the nearest
_OVERSAMPLING = 3  # pixels drawn per pixel shown, each way
_FISSURE = 2.4  # darkening of fissures per unit of concavity


@dataclass(frozen=True)
class Body:
    """Closed surface to draw.

    vertices : (V, 3) float, mm, head frame
    faces    : (F, 3) int, counter-clockwise as seen from outside
    colour   : red, green, blue in [0, 1], of the body or of each face (F, 3)
    """

    vertices: Array
    faces: NDArray[np.int64]
    colour: Colour | Array = IVORY

    @cached_property
    def relief(self) -> tuple[Array, Array]:
        """Smoothed normals (F, 3) and concavities (F,) of the faces, computed once."""
        return _smooth(self.vertices, self.faces)


def draw(axes: Axes, bodies: Sequence[Body], view: str, box: tuple[float, float, float, float]) -> None:
    """Draw bodies into axes as seen from one side; equal scale on both axes, no frame.

    bodies : all of them are drawn; for an occlusal view, pass one arch
    view   : key of `VIEWS`. left, right: buccal views of that side of the patient. upper_occlusal: from
             below, incisors at the top. lower_occlusal: from above, incisors at the bottom. In the frontal
             and both occlusal views, the patient's right is on the left of the picture
    box    : left, right, bottom and top of the part that is shown, mm along the axes of the picture
    """
    axes.set_aspect("equal")
    axes.set_axis_off()
    if not bodies:
        return
    triangles, colours = _visible(bodies, VIEWS[view])
    order = np.argsort(triangles[:, :, 2].mean(axis=1), kind="stable")  # far first
    corners, shades = triangles[order, :, :2], colours[order]
    left, right, bottom, top = box
    scale = _OVERSAMPLING * min(
        axes.bbox.width / (right - left), axes.bbox.height / (top - bottom)
    )  # pixels a mm
    size = max(1, round((right - left) * scale)), max(1, round((top - bottom) * scale))
    image = Image.new("RGBA", size, (255, 255, 255, 0))
    brush = ImageDraw.Draw(image)
    pixels = np.stack([corners[..., 0] - left, top - corners[..., 1]], axis=-1) * scale - 0.5
    inks = np.round(255 * shades).astype(int)
    for polygon, ink in zip(pixels.reshape(-1, 6).tolist(), inks.tolist(), strict=True):
        brush.polygon(polygon, fill=tuple(ink))
    axes.imshow(np.asarray(image), extent=box, interpolation="antialiased")
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)


def save_png(drawn: Figure, path: str | Path) -> None:
    """Write a figure as PNG, all or nothing, without software version or time."""
    buffer = BytesIO()
    drawn.savefig(buffer, format="png", facecolor="white", metadata={"Software": None})
    atomic.write_bytes(path, buffer.getvalue())


def _visible(bodies: Sequence[Body], axes_of_view: Array) -> tuple[Array, Array]:
    """Triangles that face the viewer (N, 3, 3) in view axes (right, up, near), and their colours (N, 3)."""
    parts = []
    for body in bodies:
        corners = (body.vertices @ axes_of_view.T)[body.faces]  # (F, 3, 3)
        front = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0
        normals, concavities = body.relief
        tints = np.broadcast_to(body.colour, (len(corners), 3))
        parts.append([part[front] for part in (corners, normals @ axes_of_view.T, concavities, tints)])
    corners, normals, concavities, tints = (np.concatenate(part) for part in zip(*parts, strict=True))
    near = corners[:, :, 2].mean(axis=1)
    depth = (near.max() - near) / max(float(np.ptp(near)), 1.0)
    light = _AMBIENT + _DIFFUSE * np.clip(normals @ _LAMP, 0, None)
    light *= (1 - _FADING * depth) * np.clip(1 - _FISSURE * concavities, 0.45, 1.08)
    shine = _GLOSS * np.clip(normals @ _HALFWAY, 0, None) ** _SHININESS * (1 - depth)
    return corners, np.clip(tints * light[:, None] + shine[:, None], 0, 1)


def _smooth(points: Array, faces: NDArray[np.int64]) -> tuple[Array, Array]:
    """Mean normal of each face's corners (F, 3), of length 1, and its concavity (F,).

    The concavity of a vertex is the height of its neighbours above its tangent plane, relative to their
    distance: positive in fissures, negative on cusps.
    """
    count = len(points)
    corners = points[faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    ring = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])

    def summed(index: NDArray[np.int64], values: Array) -> Array:
        return np.stack([np.bincount(index, values[:, k], count) for k in range(values.shape[1])], axis=1)

    normal = unit(summed(faces.T.ravel(), np.tile(flat, (3, 1))))
    step = points[ring[:, 1]] - points[ring[:, 0]]
    above = np.einsum("ij,ij->i", step, normal[ring[:, 0]]) / np.maximum(np.linalg.norm(step, axis=1), 1e-12)
    degree = np.maximum(np.bincount(ring[:, 0], minlength=count), 1)
    concavity = np.bincount(ring[:, 0], above, count) / degree
    # Smoothed twice: with one flat colour a face, the pattern of the diagonals would show.
    face_count = np.maximum(np.bincount(faces.ravel(), minlength=count), 1)
    for _ in range(2):
        of_faces = np.column_stack([unit(normal[faces].sum(axis=1)), concavity[faces].mean(axis=1)])
        spread = summed(faces.T.ravel(), np.tile(of_faces, (3, 1)))
        normal, concavity = unit(spread[:, :3]), spread[:, 3] / face_count
    return unit(normal[faces].sum(axis=1)), concavity[faces].mean(axis=1)
