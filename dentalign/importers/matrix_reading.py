"""Meaning of the sixteen numbers of a T1 -> T2 matrix: the reading that gives a plausible arch at T2.

A row R00 R01 R02 0 R10 R11 R12 0 R20 R21 R22 0 Tx Ty Tz 1 is a 4 x 4 matrix whose last row is the
translation, as graphics libraries write it for points as rows: p' = p R + T. But R may also have been written
as it multiplies columns (p' = R p + T), and a tooth may rotate about the origin or about its own centroid.

At T2 neighbours touch: the wrong reading leaves gaps and overlaps. About the origin that tells clearly (0.3
mm against 2 to 3 mm on eight made-up mouths). About each tooth's own centroid both readings of R leave the
teeth in their places, and the contacts do not tell them apart: then the user must say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, starmap

import numpy as np
from trimesh import Trimesh

from dentalign.cases.slots import slot_of
from dentalign.geometry import contacts, rigid, sampling
from dentalign.geometry.rigid import Array
from dentalign.teeth import SLOT_COUNT

READINGS = {
    "rows": "points are rows (p R + T), rotated about the origin",
    "columns": "points are columns (R p + T), rotated about the origin",
    "rows-own": "points are rows (p R + T), each tooth rotated about its own centroid",
    "columns-own": "points are columns (R p + T), each tooth rotated about its own centroid",
}
POINTS = 64  # of a tooth, for its contacts
ALIKE_MM = 0.05  # readings that put no tooth farther apart than this are one
CLEAR_MM, CLEAR_SHARE = 0.1, 0.75  # the best must be better than the next by so much, and by this factor
CAP_MM = 3.0  # a gap or overlap counts as no more, so that one lost tooth does not decide


@dataclass(frozen=True)
class ReadingScores:
    """Plausibility of the T2 arch of a case under each reading.

    misfit_mm : reading -> mean of gap and overlap between neighbours
    best      : the reading that is clearly the most plausible, or "" if none is
    alike     : True if all readings give the same arch
    """

    misfit_mm: dict[str, float]
    best: str
    alike: bool


def motions(reading: str, matrices: Mapping[int, Array], crowns: Mapping[int, Trimesh]) -> dict[int, Array]:
    """Motions from T1 to T2 in the coordinates of the meshes: FDI -> (4, 4), mm.

    matrices : FDI -> (4, 4) as written, the last row being the translation
    """
    found = {}
    for fdi, matrix in matrices.items():
        rotation = matrix[:3, :3].T if reading.startswith("rows") else matrix[:3, :3]
        translation = matrix[3, :3]
        if reading.endswith("own"):
            centroid = crowns[fdi].vertices.mean(0)
            translation = translation + centroid - rotation @ centroid
        found[fdi] = rigid.from_rotation(rotation, translation)
    return found


def score(matrices: Mapping[int, Array], crowns: Mapping[int, Trimesh]) -> ReadingScores:
    """Compare the readings of a case's matrices; crowns at T1, mm."""
    order = sorted(matrices)
    points = np.stack(
        [sampling.order(sampling.sample_surface(crowns[fdi].triangles, POINTS, 4, 0)) for fdi in order]
    )
    arches = {}
    for reading in READINGS:
        poses = motions(reading, matrices, crowns)
        arches[reading] = rigid.apply(np.stack([poses[fdi] for fdi in order]), points)
    misfit = {reading: _misfit_mm(order, arch) for reading, arch in arches.items()}

    def alike(one: str, other: str) -> bool:
        return float(np.linalg.norm(arches[one] - arches[other], axis=-1).max()) <= ALIKE_MM

    best, *others = sorted(READINGS, key=lambda reading: misfit[reading])
    second = misfit[others[0]]
    clear = misfit[best] <= second - CLEAR_MM and misfit[best] <= CLEAR_SHARE * second
    sure = clear and not any(alike(best, other) for other in others)
    return ReadingScores(misfit, best if sure else "", all(starmap(alike, combinations(READINGS, 2))))


def _misfit_mm(order: list[int], arch: Array) -> float:
    """Mean of gap and overlap between neighbours, mm; `arch` (T, P, 3) has the points of these teeth."""
    cloud, present = np.zeros((SLOT_COUNT, POINTS, 3)), np.zeros(SLOT_COUNT, bool)
    slots = [slot_of(fdi) for fdi in order]
    cloud[slots], present[slots] = arch, True
    # Only neighbours with no tooth missing between them are sure to touch.
    pairs = contacts.neighbours(present, present)
    pairs = pairs[np.abs(pairs[:, 0] - pairs[:, 1]) == 1]
    if not len(pairs):
        return 0.0
    overlap, gap = contacts.contacts(cloud, pairs)
    return float(np.minimum(overlap + gap, CAP_MM).mean())
