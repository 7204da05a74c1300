"""Shape of crowns as four numbers, to find cases that have the same crowns, wherever these stand.

In a set without patient ids, two phases of one patient could fall into different splits. Area and principal
spreads of a surface do not change when it is moved, mirrored or triangulated anew.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from trimesh import Trimesh

from dentalign.cases.slots import slot_of
from dentalign.geometry.rigid import Array
from dentalign.teeth import SLOT_COUNT

Shape = tuple[float, float, float, float]  # square root of the area, principal standard deviations; mm

SAME_SHARE = 0.01  # relative difference up to which two crowns have one shape
FEWEST_SAME = 8  # crowns that must have one shape, and be half of the crowns that both mouths have
_DIGITS = 4


def shapes_of(crowns: Mapping[int, Trimesh]) -> dict[int, Shape]:
    """Measure the shape of each crown, by FDI number."""
    return {fdi: _shape(crown) for fdi, crown in crowns.items()}


def _shape(crown: Trimesh) -> Shape:
    area, triangles = np.asarray(crown.area_faces), np.asarray(crown.triangles)
    total = float(area.sum())
    middle = triangles.mean(1)
    centroid = area @ middle / total
    # Second moments of a triangle with corners a, b, c and centroid m: area / 12 (aa + bb + cc + 9 mm).
    corners, centred = triangles - centroid, middle - centroid
    moments = np.einsum("f,fki,fkj->ij", area, corners, corners) + 9 * np.einsum(
        "f,fi,fj->ij", area, centred, centred
    )
    spreads = np.sqrt(np.maximum(np.linalg.eigvalsh(moments / (12 * total)), 0.0))
    first, second, third = (round(float(spread), _DIGITS) for spread in spreads)
    return round(total**0.5, _DIGITS), first, second, third


def same_mouths(shapes: Sequence[Mapping[int, Shape]]) -> NDArray[np.intp]:
    """Find pairs of mouths whose crowns have the same shapes: (K, 2) indices into `shapes`."""
    table: Array = np.full((len(shapes), SLOT_COUNT, 4), np.nan)
    for row, mouth in enumerate(shapes):
        for fdi, shape in mouth.items():
            table[row, slot_of(fdi)] = shape
    pairs = []
    for row in range(len(shapes) - 1):
        others = table[row + 1 :]
        difference = np.abs(others - table[row]) / np.maximum(np.maximum(others, table[row]), 1e-6)
        both = ~np.isnan(difference[..., 0])
        same = (np.nan_to_num(difference, nan=1.0).max(-1) <= SAME_SHARE).sum(1)
        fits = (same >= FEWEST_SAME) & (same >= both.sum(1) / 2)
        pairs += [(row, row + 1 + int(other)) for other in np.flatnonzero(fits)]
    return np.array(pairs, dtype=np.intp).reshape(-1, 2)
