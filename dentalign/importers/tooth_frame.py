"""A tooth-local frame for a crown that comes without one, from its surface and the arch at T1.

Origin: the area centroid of the crown. +z: from root to crown tip. A crown cut out of a scan is open at the
gum; the vector area of an open surface is that of the opening, whatever the shape above it (Stokes), so its
direction is the normal of the gum line. A closed crown has none: there it is the direction of an upright
tooth in the arch. +y: the way outwards from the arch, made perpendicular to z. x = y x z.

T2 takes no part in it: a frame that knew the target would tell the model the answer.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.importers.imported_case import Surface
from dentalign.importers.mouth_frame import MouthFrame

OPEN = 0.15  # length of the vector area over the area: a hemisphere has 0.5, a closed surface 0
UPRIGHT_COSINE = 0.5  # a gum line that leans by more than 60 degrees is no gum line


def centroid(surface: Surface) -> Array:
    """Area centroid (3,), mm."""
    triangles = surface.triangles
    area = np.linalg.norm(_normals(triangles), axis=1)
    centre: Array = area @ triangles.mean(1) / area.sum()
    return centre


def crown_axis(surface: Surface) -> Array | None:
    """Unit vector (3,) from the opening to the tip of an open crown; None where it is closed.

    Its sign comes from the border, not from the winding: the border lies at the root's side.
    """
    triangles = surface.triangles
    normals = _normals(triangles)
    vector = normals.sum(0)
    length = float(np.linalg.norm(vector))
    if length < OPEN * np.linalg.norm(normals, axis=1).sum():
        return None
    border = _border(surface.faces)
    if not len(border):
        return None
    ends = surface.vertices[border]
    weight = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    if not weight.sum() > 0:
        return None
    to_tip = centroid(surface) - weight @ ends.mean(1) / weight.sum()
    return vector / length * (1.0 if vector @ to_tip >= 0 else -1.0)


def tooth_frames(
    crowns: Mapping[int, Surface], axes: Mapping[int, Array], mouth: MouthFrame
) -> dict[int, Array]:
    """FDI -> pose (4, 4), tooth-local -> scan coordinates, mm; `axes` as `crown_axis` gave them."""
    frames = {}
    for fdi, crown in crowns.items():
        upright = mouth.crown_direction(fdi)
        z = axes.get(fdi, upright)
        if z @ upright < UPRIGHT_COSINE:
            z = upright
        y = mouth.outward(fdi)
        y = y - (y @ z) * z
        y /= np.linalg.norm(y)
        frames[fdi] = rigid.from_rotation(np.stack([np.cross(y, z), y, z], axis=1), centroid(crown))
    return frames


def local(surface: Surface, frame: Array) -> Surface:
    """The surface in tooth-local coordinates; `frame` is tooth-local -> scan."""
    return Surface(rigid.apply(rigid.inverse(frame), surface.vertices), surface.faces)


def _normals(triangles: Array) -> Array:
    """Normals (F, 3), each twice as long as the triangle's area."""
    normals: Array = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    return normals


def _border(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Edges (B, 2) that belong to one face only."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    return unique[count == 1]
