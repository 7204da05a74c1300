"""Find the point about which the T1 -> T2 matrices of TeethAlign3D rotate a tooth.

A row R00 R01 R02 0 R10 R11 R12 0 R20 R21 R22 0 Tx Ty Tz 1 is a 4 x 4 matrix whose last row is the
translation. The authors' own code multiplies points as rows, about the mean of the tooth: p' = p R + T. It
does not show whether the published T belongs to that mean or to the origin of the coordinates.

At T2 neighbours touch, and the wrong origin leaves gaps and overlaps. Their mean on eight made-up mouths was
0.3 mm with the right origin, 2 to 3 mm with the wrong one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from trimesh import Trimesh

from dentalign.cases.slots import slot_of
from dentalign.geometry import contacts, rigid, sampling
from dentalign.geometry.rigid import Array
from dentalign.teeth import SLOT_COUNT

ORIGINS = {
    "origin": "p R + T, rotated about the origin of the coordinates",
    "tooth": "p R + T, each tooth rotated about the mean of its own vertices",
}
POINTS = 64  # of a tooth, for its contacts
ALIKE_MM = 0.05  # origins that put every point nearer together than this count as one
CLEAR_MM, CLEAR_SHARE = 0.1, 0.75  # misfit of the better origin: less by so much, and at most this share
CAP_MM = 3.0  # a larger gap or overlap counts as this, so that one misplaced tooth has little weight


@dataclass(frozen=True)
class OriginScores:
    """Comparison of the arches at T2 that the matrices of a case give with each origin.

    misfit_mm : key of `ORIGINS` -> mean of gap plus overlap between neighbours, mm
    best      : origin with clearly the smaller misfit; "" if there is none
    alike     : True if both origins give the same arch
    """

    misfit_mm: dict[str, float]
    best: str
    alike: bool


def motions(origin: str, matrices: Mapping[int, Array], crowns: Mapping[int, Trimesh]) -> dict[int, Array]:
    """Convert matrices to motions from T1 to T2 in the coordinates of the meshes: FDI -> (4, 4), mm.

    origin   : key of `ORIGINS`
    matrices : FDI -> (4, 4) as in the file, with the translation in the last row
    crowns   : FDI -> surface at T1, mm
    """
    found = {}
    for fdi, matrix in matrices.items():
        rotation, translation = matrix[:3, :3].T, matrix[3, :3]
        if origin == "tooth":
            centroid = crowns[fdi].vertices.mean(0)
            translation = translation + centroid - rotation @ centroid
        found[fdi] = rigid.from_rotation(rotation, translation)
    return found


def score(matrices: Mapping[int, Array], crowns: Mapping[int, Trimesh]) -> OriginScores:
    """Compare the two origins on the matrices of a case; parameters as for `motions`."""
    order = sorted(matrices)
    points = np.stack(
        [sampling.order(sampling.sample_surface(crowns[fdi].triangles, POINTS, 4, 0)) for fdi in order]
    )
    arches = {}
    for origin in ORIGINS:
        poses = motions(origin, matrices, crowns)
        arches[origin] = rigid.apply(np.stack([poses[fdi] for fdi in order]), points)
    misfit = {origin: _misfit_mm(order, arch) for origin, arch in arches.items()}
    best, other = sorted(ORIGINS, key=lambda origin: misfit[origin])
    alike = float(np.linalg.norm(arches[best] - arches[other], axis=-1).max()) <= ALIKE_MM
    clear = misfit[best] <= misfit[other] - CLEAR_MM and misfit[best] <= CLEAR_SHARE * misfit[other]
    return OriginScores(misfit, best if clear and not alike else "", alike)


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
