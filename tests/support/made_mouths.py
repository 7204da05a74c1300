"""Mouths of simple crowns, built in code, whose clinical measures are known by construction."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dentalign.clinical import landmarks, measures
from dentalign.geometry import rigid
from dentalign.geometry.average_mouth import average_mouth, crown_width_mm
from dentalign.geometry.rigid import Array
from dentalign.teeth import SLOT_COUNT, SLOT_INDEX, SLOTS, antimere

HEIGHT_MM = 8.0
_STEPS = np.linspace(-0.5, 0.5, 9)


def crown(fdi: int, width: float) -> Array:
    """Triangles (F, 3, 3) of a box with an edge or cusps on top, tooth-local mm; as wide as `width`."""
    position = fdi % 10
    depth = 6.0 if position <= 3 else 9.0
    # Cusps: x and y as shares of width and depth.
    some: dict[int, list[tuple[float, float]]]
    some = {1: [], 2: [], 3: [(0, 0)], 4: [(0, 0.25), (0, -0.25)], 5: [(0, 0.25), (0, -0.25)]}
    cusps = some.get(position, [(0.25, 0.25), (-0.25, 0.25), (0.25, -0.25), (-0.25, -0.25)])
    grid = np.stack(np.meshgrid(_STEPS, _STEPS, indexing="ij"), -1)
    if cusps:
        drop = np.min([np.linalg.norm(grid - cusp, axis=-1) for cusp in cusps], axis=0)
    else:
        drop = np.abs(grid[..., 1])  # an edge along x
    top = np.concatenate([grid * [width, depth], (HEIGHT_MM / 2 - 4 * drop)[..., None]], axis=-1)
    bottom = top * [1, 1, 0] - [0, 0, HEIGHT_MM / 2]
    count = len(_STEPS)

    def sheet(a: Array, up: bool) -> list[Array]:
        found = []
        for i in range(a.shape[0] - 1):
            for j in range(a.shape[1] - 1):
                p, q, r, s = a[i, j], a[i + 1, j], a[i + 1, j + 1], a[i, j + 1]
                centre = (p + q + r + s) / 4
                fan = [[p, q, centre], [q, r, centre], [r, s, centre], [s, p, centre]]
                found += [np.array(t if up else t[::-1]) for t in fan]
        return found

    walls = []
    for side in (top[:, 0], top[-1], top[::-1, -1], top[::-1][-1, ::-1]):
        wall = np.stack([side * [1, 1, 0] - [0, 0, HEIGHT_MM / 2] * np.ones((count, 1)), side], axis=1)
        walls += sheet(wall, True)
    flip = np.array([1.0 if fdi // 10 % 2 else -1.0, 1.0, 1.0])
    triangles = np.array([*sheet(top, True), *sheet(bottom, False), *walls]) * flip
    return triangles if flip[0] > 0 else triangles[:, ::-1]


class MadeMouth:
    """28 simple crowns in the positions of the average mouth; `fdi` numbers are permanent unless changed."""

    def __init__(self, widths: dict[int, float] | None = None):
        self.widths = {fdi: crown_width_mm(fdi) for fdi in SLOTS if fdi % 10 < 8} | (widths or {})
        self.crowns = {SLOT_INDEX[fdi]: crown(fdi, width) for fdi, width in self.widths.items()}
        average = average_mouth()
        self.pose = rigid.from_rotation(average.rotation, average.position)
        self.present = np.isin(np.arange(SLOT_COUNT), list(self.crowns))
        self.fdi = np.array(SLOTS, np.uint8)

    def shift(self, *teeth: int, by: tuple[float, float, float]) -> "MadeMouth":
        """Move teeth, mm in head axes."""
        for fdi in teeth:
            self.pose[SLOT_INDEX[fdi], :3, 3] += by
        return self

    def without(self, *teeth: int) -> "MadeMouth":
        self.present[[SLOT_INDEX[fdi] for fdi in teeth]] = False
        return self

    def head(self, fdi: int, point: tuple[float, float, float]) -> Array:
        """A point of the crown, given with +x mesial, in head coordinates."""
        mesial = 1.0 if fdi // 10 % 2 else -1.0
        return rigid.apply(self.pose[SLOT_INDEX[fdi]], np.array([point]) * [mesial, 1, 1])[0]

    def moved(self, motion: Array) -> "MadeMouth":
        self.pose = motion @ self.pose
        return self

    def mirrored(self) -> "MadeMouth":
        """Mirror image: antimeres change places."""
        other = MadeMouth({antimere(fdi): width for fdi, width in self.widths.items()})
        swap = [SLOT_INDEX[antimere(fdi)] for fdi in SLOTS]
        flip = np.diag([-1.0, 1.0, 1.0, 1.0])
        other.pose, other.present = flip @ self.pose[swap] @ flip, self.present[swap]
        return other

    def landmarks(self) -> NDArray[np.float32]:
        return landmarks.mouth_landmarks(self.crowns, self.fdi)

    def measure(self, bolton_mm: Array | None = None) -> dict[str, dict[str, Any]]:
        return measures.measure(self.landmarks(), self.pose, self.present, self.fdi, bolton_mm)
