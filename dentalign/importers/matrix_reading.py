"""How the sixteen numbers of a T1 -> T2 matrix are meant: as they give a plausible arch at T2.

A row R00 R01 R02 0 R10 R11 R12 0 R20 R21 R22 0 Tx Ty Tz 1 is a 4 x 4 matrix whose last row is the shift, as
graphics libraries write it for points as rows: p' = p R + T. But R may also have been written as it
multiplies columns (p' = R p + T), and a tooth may turn about the origin or about its own middle.

At T2 neighbours touch: the wrong reading leaves gaps and overlaps. About the origin that tells clearly
(0.3 mm against 2 to 3 mm on eight made-up mouths). About each tooth's own middle both readings of R leave the
teeth in their places, and the contacts do not tell them from each other: then the user must say.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dentalign.cases.slots import slot_of
from dentalign.geometry import contacts, rigid, sampling
from dentalign.geometry.rigid import Array
from dentalign.importers.imported_case import Surface
from dentalign.teeth import SLOT_COUNT

READINGS = {
    "rows": "points are rows (p R + T), turned about the origin",
    "columns": "points are columns (R p + T), turned about the origin",
    "rows-own": "points are rows (p R + T), each tooth turned about its own middle",
    "columns-own": "points are columns (R p + T), each tooth turned about its own middle",
}
POINTS = 64  # of a tooth, for its contacts
ALIKE_MM = 0.05  # readings that put no tooth further apart than this are one
CLEAR_MM, CLEAR_SHARE = 0.1, 0.75  # the best must be so much better, and at most this share, of the next
CAP_MM = 3.0  # a gap or overlap counts as no more, so that one lost tooth does not decide


@dataclass(frozen=True)
class Judged:
    """Misfit of the T2 arch under each reading, mean of gap and overlap between neighbours in mm.

    best : the reading that is clearly the most plausible, or "" where none is
    """

    misfit_mm: dict[str, float]
    best: str


def motions(reading: str, matrices: Mapping[int, Array], crowns: Mapping[int, Surface]) -> dict[int, Array]:
    """FDI -> motion (4, 4) from T1 to T2 in the coordinates of the meshes.

    matrices : FDI -> (4, 4) as written, the last row being the shift
    """
    found = {}
    for fdi, matrix in matrices.items():
        rotation = matrix[:3, :3].T if reading.startswith("rows") else matrix[:3, :3]
        shift = matrix[3, :3]
        if reading.endswith("own"):
            middle = crowns[fdi].vertices.mean(0)
            shift = shift + middle - rotation @ middle
        found[fdi] = rigid.from_rotation(rotation, shift)
    return found


def judge(matrices: Mapping[int, Array], crowns: Mapping[int, Surface]) -> Judged:
    """Hold the readings of a case's matrices against each other; crowns at T1, mm."""
    points = {
        fdi: sampling.order(sampling.sample_surface(crowns[fdi].triangles, POINTS, 4, 0)) for fdi in matrices
    }
    moved = {
        reading: {
            fdi: rigid.apply(pose, points[fdi]) for fdi, pose in motions(reading, matrices, crowns).items()
        }
        for reading in READINGS
    }
    misfit = {reading: _misfit_mm(teeth) for reading, teeth in moved.items()}
    ranked = sorted(READINGS, key=lambda reading: misfit[reading])
    best = ranked[0]
    others = [other for other in ranked[1:] if _apart_mm(moved[best], moved[other]) > ALIKE_MM]
    if len(others) < len(ranked) - 1:
        return Judged(misfit, "")  # another reading is the same here: the case does not tell
    second = misfit[others[0]]
    clear = misfit[best] <= second - CLEAR_MM and misfit[best] <= CLEAR_SHARE * second
    return Judged(misfit, best if clear else "")


def apart_mm(matrices: Mapping[int, Array], crowns: Mapping[int, Surface]) -> float:
    """How far the readings put a vertex from each other at most, mm: where little, no decision is needed."""
    poses = [motions(reading, matrices, crowns) for reading in READINGS]
    return max(
        float(
            np.linalg.norm(
                rigid.apply(one[fdi], vertices) - rigid.apply(poses[0][fdi], vertices), axis=1
            ).max()
        )
        for one in poses[1:]
        for fdi, vertices in ((fdi, crowns[fdi].vertices) for fdi in matrices)
    )


def _misfit_mm(teeth: Mapping[int, Array]) -> float:
    cloud, present = np.zeros((SLOT_COUNT, POINTS, 3)), np.zeros(SLOT_COUNT, bool)
    for fdi, points in teeth.items():
        cloud[slot_of(fdi)], present[slot_of(fdi)] = points, True
    # Only neighbours with no tooth missing between them are sure to touch.
    pairs = contacts.neighbours(present, present)
    pairs = pairs[np.abs(pairs[:, 0] - pairs[:, 1]) == 1]
    if not len(pairs):
        return 0.0
    overlap, gap = contacts.contacts(cloud, pairs)
    return float(np.minimum(overlap + gap, CAP_MM).mean())


def _apart_mm(one: Mapping[int, Array], other: Mapping[int, Array]) -> float:
    return max(float(np.linalg.norm(one[fdi] - other[fdi], axis=1).max()) for fdi in one)
