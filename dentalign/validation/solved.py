"""Predictions after the solver, as `dentalign predict` gives them; without a prescription.

Validation has no meshes. A crown is the closed surface of its ordered points, as for the contacts; how far
that is from the mesh is in docs/metrics.md.
"""

import numpy as np
from numpy.typing import NDArray

from dentalign.geometry.rigid import Array
from dentalign.geometry.sampling import directions, triangulation
from dentalign.mouth import T1, Mouths
from dentalign.planning import solver
from dentalign.planning.distance_field import DistanceFields
from dentalign.planning.prescription import Prescription
from dentalign.planning.solver import Planning, Proposal


def solved(mouths: Mouths, predicted: Array, expected_add_mm: Array | None, usual: Planning) -> Array:
    """Solve each of N mouths; see `solver.solve`.

    predicted       : (N, 32, 4, 4), tooth-local -> head, mm
    expected_add_mm : (N, 32), NaN for teeth that the model leaves in place, which the solver holds; or None
    returns         : (N, 32, 4, 4)
    """
    faces = _open_at_the_root(mouths.points.shape[2])
    poses = predicted.copy()
    for row, stays in enumerate(mouths.stays):
        points = mouths.points[row].astype(np.float64)
        held = np.zeros_like(stays) if expected_add_mm is None else stays & np.isnan(expected_add_mm[row])
        fields = DistanceFields([(points[slot], faces) for slot in np.flatnonzero(stays)])
        no_fdi = np.zeros(len(stays), int)
        given = Proposal(mouths.pose[row, T1], predicted[row], stays, held, no_fdi, points, fields)
        poses[row] = solver.solve(given, Prescription(), usual)
    return poses


def _open_at_the_root(count: int) -> NDArray[np.intp]:
    """Triangles of the ordered points, without the one farthest from the crown's tip.

    Such surfaces have folds, where only the winding number tells inside from outside. The distance fields
    use it for surfaces with a hole; for closed ones they use the nearest face's normal, wrong at a fold.
    """
    faces = triangulation(count)
    return np.delete(faces, directions(count)[faces, 2].mean(1).argmin(), axis=0)
