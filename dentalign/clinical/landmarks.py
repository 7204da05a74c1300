"""Landmarks of a crown, from its mesh in the tooth-local frame: edges, cusps, contact points and others.

Tooth-local millimetres: +z from root to crown tip, +y buccal, x = y cross z (mesial in quadrants 1 and 3,
distal in 2 and 4). The rules are geometric: extremal points of the outline, highest points of a region. The
same mesh gives the same points, and the mirror image of a mesh gives the mirror image of its points.
"""

import functools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dentalign.geometry.rigid import Array
from dentalign.mouth import EDGE_POINTS, EDGE_TILTS, EXPORTED_NAMES, LANDMARK_NAMES
from dentalign.teeth import PRIMARY, SLOT_COUNT, SLOTS

LANDMARK_INDEX = {name: number for number, name in enumerate(LANDMARK_NAMES)}

EDGE = ("edge_middle", "edge_mesial", "edge_distal")
_EDGE_MM = 0.7  # the incisal edge is this high
_CONTACT_MM = 0.15  # the contact area is this deep
_APART = 0.12  # of the mesiodistal width: cusps of a molar stand at least so far from its middle
_GUM = -0.3  # height of the facial outline near the gum, share of the crown's, from its middle
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
    crown = _Crown(corners)
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
    top = None
    if "distobuccal_cusp" not in found:
        top = float(found["edge_middle" if position <= 2 else "buccal_cusp"][0])
    found |= crown.facial_axis(top)
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


def with_exported(landmarks: NDArray[np.float32], exported: NDArray[np.float32]) -> NDArray[np.float32]:
    """Replace landmarks of a crown by those of an export.

    An incisal edge whose middle and both ends are given is that of the export alone: the other points of the
    edge, which come from the mesh, become NaN.

    landmarks : (L, 3) tooth-local mm, in the order of LANDMARK_NAMES
    exported  : (E, 3) in the order of EXPORTED_NAMES, NaN where the export gives none
    """
    found = landmarks.copy()
    both = [name for name in EXPORTED_NAMES if name in LANDMARK_INDEX]
    theirs = exported[[EXPORTED_NAMES.index(name) for name in both]]
    ours = [LANDMARK_INDEX[name] for name in both]
    found[ours] = np.where(np.isfinite(theirs).all(1, keepdims=True), theirs, landmarks[ours])
    if np.isfinite(exported[[EXPORTED_NAMES.index(name) for name in EDGE]]).all():
        found[[LANDMARK_INDEX[name] for name in EDGE_POINTS]] = np.nan
    return found


@functools.cache
def _edge_directions() -> Array:
    tilt, azimuth = np.radians(np.array(EDGE_TILTS).T)
    return np.stack([np.sin(tilt) * np.cos(azimuth), np.sin(tilt) * np.sin(azimuth), np.cos(tilt)], axis=1)


class _Crown:
    """Corners (F, 3, 3) of a crown's facets, +x mesial; x, y and z (3 F,) count from its middle."""

    def __init__(self, corners: Array):
        self.corners, self.points = corners, corners.reshape(-1, 3)
        rows = np.ascontiguousarray(self.points.T)  # a third of the time of the columns
        self.low, self.high = rows.min(1), rows.max(1)
        self.size = self.high - self.low
        self.middle = (self.low + self.high) / 2
        self.x, self.y, self.z = rows - self.middle[:, None]
        self.occlusal_half = self.z > 0
        a, b, c = np.ascontiguousarray(self.z.reshape(-1, 3).T)
        self.facet_low, self.facet_high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)

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
        farthest = self.points[np.argmax(_edge_directions() @ self.points.T, axis=1)]
        return dict(zip(EDGE_POINTS, farthest, strict=True)) | {
            "edge_mesial": mesial,
            "edge_distal": distal,
            "edge_middle": (mesial + distal) / 2,
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
        between = self.occlusal_half & (np.abs(self.y) < 0.2 * self.size[1]) & np.repeat(self._upwards(), 3)
        found = {
            "mesial_ridge": self.highest(between & (self.x > 0.3 * self.size[0])),
            "distal_ridge": self.highest(between & (self.x < -0.3 * self.size[0])),
        }
        inner = between & (np.abs(self.x) < 0.2 * self.size[0])
        if inner.any():
            points = self.points[inner]
            found["central_fossa"] = points[points[:, 2] < points[:, 2].min() + 1e-6].mean(0)
        return found

    def _upwards(self) -> NDArray[np.bool_]:
        """Facets (F,) that face the opposing arch or away from it, not the sides; component by component."""
        x, y, z = (part.reshape(-1, 3) for part in (self.x, self.y, self.z))
        ux, uy, uz = (part[:, 1] - part[:, 0] for part in (x, y, z))
        vx, vy, vz = (part[:, 2] - part[:, 0] for part in (x, y, z))
        across = ux * vy - uy * vx
        area = np.sqrt((uy * vz - uz * vy) ** 2 + (uz * vx - ux * vz) ** 2 + across**2)
        return np.asarray(np.abs(across) > _UPWARDS * area)

    def facial_axis(self, top: float | None) -> dict[str, Array]:
        """FA point, and two points of the tangent there.

        The facial axis runs from the middle of the facial outline near the gum to the edge or the cusp; on
        molars, whose groove is hard to find, along z. Its depth is that of a straight line through the
        silhouette of the middle third of the width, over the middle half of the height. Found on cuts at a
        few heights.

        top : x of the axis at the height of the tip; None for an axis along z
        """
        levels = self.size[2] * np.array([_GUM, -0.25, -0.15, -0.05, 0.05, 0.15, 0.25])
        cuts = [self._cut(level) for level in levels]
        gum = cuts[0][cuts[0][:, 1] > 0]
        third = self.size[0] / 6
        depths = np.array([cut[np.abs(cut[:, 0]) < third, 1].max(initial=-np.inf) for cut in cuts[1:]])
        seen = np.isfinite(depths)
        if seen.sum() < 2 or not len(gum):
            return {}
        slope, depth = np.polyfit(levels[1:][seen], depths[seen], 1)
        low = (gum[:, 0].max() + gum[:, 0].min()) / 2
        lean = 0.0 if top is None else (top - self.middle[0] - low) / ((0.5 - _GUM) * self.size[2])
        found = {}
        for name, share in (("facial_gingival", -0.25), ("facial_axis", 0.0), ("facial_occlusal", 0.25)):
            height = share * self.size[2]
            across = low + lean * (height - _GUM * self.size[2])
            found[name] = self.middle + np.array([across, depth + slope * height, height])
        return found

    def _cut(self, level: float) -> Array:
        """Points x, y (K, 2) where the edges of the facets pass a height, from the middle of the crown."""
        corners = self.corners[(self.facet_low <= level) & (self.facet_high > level)] - self.middle
        z = corners[:, :, 2] - level
        points = []
        for one, other in ((0, 1), (1, 2), (2, 0)):
            through = (z[:, one] <= 0) != (z[:, other] <= 0)
            start, end = corners[through, one], corners[through, other]
            share = z[through, one] / (z[through, one] - z[through, other])
            points.append((start + share[:, None] * (end - start))[:, :2])
        return np.concatenate(points)
