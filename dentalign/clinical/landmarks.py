"""Landmarks of a crown, from its mesh in the tooth-local frame: edges, cusps, contact points and others.

Tooth-local millimetres: +z from root to crown tip, +y buccal, x = y cross z (mesial in quadrants 1 and 3,
distal in 2 and 4). The rules are geometric: extremal points of the outline, highest points of a region. The
same mesh gives the same points, and the mirror image of a mesh gives the mirror image of its points.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dentalign.geometry.rigid import Array
from dentalign.teeth import PRIMARY, SLOT_COUNT, SLOTS

LANDMARK_NAMES = (
    "edge_middle",  # incisors: middle of the incisal edge, and its two ends
    "edge_mesial",
    "edge_distal",
    "incisal_tip",  # incisors: the highest point of the edge
    "buccal_cusp",  # canines: the cusp; premolars: buccal; molars: mesiobuccal
    "distobuccal_cusp",  # molars
    "lingual_cusp",  # premolars: lingual; molars: mesiolingual
    "distolingual_cusp",  # molars
    "mesial_contact",  # the most mesial and most distal points of the outline seen from occlusal
    "distal_contact",
    "facial_axis",  # FA point: facial surface, halfway up the crown, halfway between the contacts
    "facial_gingival",  # two points of the facial axis: the tangent at the FA point runs through them
    "facial_occlusal",
    "central_fossa",  # premolars and molars
    "mesial_ridge",  # premolars and molars: marginal ridges
    "distal_ridge",
)
LANDMARK_INDEX = {name: number for number, name in enumerate(LANDMARK_NAMES)}

_EDGE_MM = 0.7  # the incisal edge is this high
_CONTACT_MM = 0.15  # the contact area is this deep
_APART = 0.12  # of the mesiodistal width: cusps of a molar stand at least so far from its middle
_UPWARDS = 0.3  # cosine: facets that face the opposing arch


def crown_landmarks(triangles: Array, fdi: int) -> NDArray[np.float32]:
    """Find the landmarks of a crown.

    triangles : (F, 3, 3) mm, tooth-local
    fdi       : FDI number; primary molars have the landmarks of molars
    returns   : (L, 3) float32, tooth-local mm, in the order of LANDMARK_NAMES; NaN for a landmark that this
                kind of tooth does not have, or that the mesh does not show
    """
    # In axes in which +x is mesial; antimeres are mirror images.
    flip = np.array([1.0 if fdi // 10 % 2 else -1.0, 1.0, 1.0])
    corners = np.asarray(triangles, np.float64) * flip
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) * flip[0]
    length = np.sqrt(np.einsum("ij,ij->i", normals, normals))
    normals = normals / np.where(length > 0, length, 1.0)[:, None]
    crown = _Crown(corners, normals)
    found = crown.contacts()
    position = fdi % 10
    if position <= 2:
        found |= crown.edge()
    elif position == 3:
        found["buccal_cusp"] = crown.highest(crown.occlusal_half)
    elif fdi in PRIMARY or position >= 6:
        found |= crown.molar_cusps() | crown.occlusal_surface()
    else:
        found |= crown.premolar_cusps() | crown.occlusal_surface()
    tips = [found[name][0] for name in ("edge_middle", "buccal_cusp", "distobuccal_cusp") if name in found]
    found |= crown.facial_axis(float(np.mean(tips)))
    points = np.full((len(LANDMARK_NAMES), 3), np.nan, np.float32)
    for name, point in found.items():
        points[LANDMARK_INDEX[name]] = point * flip
    return points


def mouth_landmarks(crowns: Mapping[int, Array], fdi: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Find the landmarks of all crowns of a mouth.

    crowns  : slot -> (F, 3, 3) mm, tooth-local
    fdi     : (32,) FDI number by slot
    returns : (32, L, 3) float32, tooth-local mm; NaN in slots without a crown
    """
    points = np.full((SLOT_COUNT, len(LANDMARK_NAMES), 3), np.nan, np.float32)
    for slot, triangles in crowns.items():
        points[slot] = crown_landmarks(triangles, int(fdi[slot]) or SLOTS[slot])
    return points


class _Crown:
    """Corners (F, 3, 3) and outward normals (F, 3) of a crown, +x mesial."""

    def __init__(self, corners: Array, normals: Array):
        self.corners, self.normals = corners, normals
        self.points = corners.reshape(-1, 3)
        self.low, self.high = self.points.min(0), self.points.max(0)
        self.size = self.high - self.low
        self.middle = (self.low + self.high) / 2
        self.x, self.y, self.z = (self.points - self.middle).T
        self.occlusal_half = self.z > 0

    def highest(self, chosen: NDArray[np.bool_]) -> Array:
        """Highest of the chosen corners; NaN if none is chosen."""
        if not chosen.any():
            return np.full(3, np.nan)
        points = self.points[chosen]
        return np.asarray(points[points[:, 2] > points[:, 2].max() - 1e-6].mean(0))

    def contacts(self) -> dict[str, Array]:
        """Mean of the corners that are nearly the most mesial, or distal."""
        x = self.points[:, 0]
        return {
            "mesial_contact": self.points[x > self.high[0] - _CONTACT_MM].mean(0),
            "distal_contact": self.points[x < self.low[0] + _CONTACT_MM].mean(0),
        }

    def edge(self) -> dict[str, Array]:
        """Incisal edge: what is nearly as high as the highest point, and its ends."""
        edge = self.points[self.points[:, 2] > self.high[2] - _EDGE_MM]
        x = edge[:, 0]
        mesial, distal = edge[x > x.max() - 1e-6].mean(0), edge[x < x.min() + 1e-6].mean(0)
        tip = self.highest(self.occlusal_half)
        return {
            "edge_mesial": mesial,
            "edge_distal": distal,
            "edge_middle": (mesial + distal) / 2,
            "incisal_tip": tip,
        }

    def premolar_cusps(self) -> dict[str, Array]:
        """Highest point of the buccal and of the lingual half."""
        return {
            "buccal_cusp": self.highest(self.occlusal_half & (self.y > 0)),
            "lingual_cusp": self.highest(self.occlusal_half & (self.y <= 0)),
        }

    def molar_cusps(self) -> dict[str, Array]:
        """Highest point of each quarter."""
        apart = _APART * self.size[0]
        return {
            "buccal_cusp": self.highest(self.occlusal_half & (self.y > 0) & (self.x > apart)),
            "distobuccal_cusp": self.highest(self.occlusal_half & (self.y > 0) & (self.x < -apart)),
            "lingual_cusp": self.highest(self.occlusal_half & (self.y <= 0) & (self.x > apart)),
            "distolingual_cusp": self.highest(self.occlusal_half & (self.y <= 0) & (self.x < -apart)),
        }

    def occlusal_surface(self) -> dict[str, Array]:
        """Lowest point between the cusps; highest points of the two marginal ridges between the cusps."""
        upwards = np.repeat(self.normals[:, 2] > _UPWARDS, 3) & self.occlusal_half
        between = upwards & (np.abs(self.y) < 0.2 * self.size[1])
        found = {
            "mesial_ridge": self.highest(between & (self.x > 0.3 * self.size[0])),
            "distal_ridge": self.highest(between & (self.x < -0.3 * self.size[0])),
        }
        inner = between & (np.abs(self.x) < 0.2 * self.size[0])
        if inner.any():
            points = self.points[inner]
            found["central_fossa"] = points[points[:, 2] < points[:, 2].min() + 1e-6].mean(0)
        return found

    def facial_axis(self, top: float) -> dict[str, Array]:
        """FA point, and two points of the tangent there.

        The facial axis runs from the middle of the facial outline near the gum to the edge, the cusp or, on
        molars, between the buccal cusps. Its depth is that of a straight line through the silhouette of the
        middle third of the width, over the middle half of the height.

        top : x of the axis at the height of the tip
        """
        middle = np.abs(self.x) < self.size[0] / 6
        levels = np.linspace(-0.25, 0.25, 11) * self.size[2]
        near = np.abs(self.z[middle][None] - levels[:, None]) < 0.06 * self.size[2]
        depths = np.where(near, self.y[middle], -np.inf).max(1)
        seen = np.isfinite(depths)
        gum = (self.y > 0) & (np.abs(self.z + 0.3 * self.size[2]) < 0.1 * self.size[2])
        if seen.sum() < 2 or not gum.any():
            return {}
        slope, depth = np.polyfit(levels[seen], depths[seen], 1)
        low = (self.x[gum].max() + self.x[gum].min()) / 2
        lean = (top - self.middle[0] - low) / (0.8 * self.size[2])
        quarter = self.size[2] / 4
        heights = {"facial_gingival": -quarter, "facial_axis": 0.0, "facial_occlusal": quarter}
        return {
            name: self.middle
            + np.array([low + lean * (height + 0.3 * self.size[2]), depth + slope * height, height])
            for name, height in heights.items()
        }
