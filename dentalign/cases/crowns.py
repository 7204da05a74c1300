"""Crown meshes of a mouth -> ordered points on them, the same points at T1 and T2, after the crown checks."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dentalign.cases import crown_check, exported_points
from dentalign.cases.crown_check import CrownShape
from dentalign.cases.findings import Findings
from dentalign.cases.settings import BuccalAxis, Limits, Sample
from dentalign.cases.slots import to_our_frame
from dentalign.clinical.landmarks import crown_landmarks, with_exported
from dentalign.errors import ToothDefect
from dentalign.geometry import sampling
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, Mouth
from dentalign.teeth import SLOT_COUNT

# Slot -> triangles (F, 3, 3), mm, in the exporter's tooth-local frame, and the path or URL.
ReadMesh = Callable[[int], tuple[Array, str]]


@dataclass(frozen=True)
class Sampler:
    """Measuring and sampling of crowns with given settings; instances can be sent to worker processes.

    buccal_axis : buccal axis of the exporter's tooth-local frame, "+y" (as in ours) or "-y"
    """

    buccal_axis: BuccalAxis
    sample: Sample
    limits: Limits

    def shape(self, triangles: Array, file: str, fdi: int) -> CrownShape:
        """Measure a crown for the checks.

        triangles : (F, 3, 3) mm in the exporter's tooth-local frame
        file      : path or URL, for the errors
        raises    : ToothDefect where all triangles have area 0, or the mesh is not limits.min_crown_mm to
                    limits.max_crown_mm long
        """
        try:
            shape = crown_check.shape_of(triangles, to_our_frame(self.buccal_axis), file)
        except ValueError:
            seen, fix = "all triangles have area 0", "export the mesh again"
            raise ToothDefect("mesh_without_area", seen, fix, file=file, tooth=fdi) from None
        extent, limits = float(shape.extent.max()), self.limits
        if not limits.min_crown_mm <= extent <= limits.max_crown_mm:
            wanted = f"{limits.min_crown_mm:g} to {limits.max_crown_mm:g} mm"
            seen = f"the mesh is {extent:.3g} mm long; a crown is {wanted}"
            raise ToothDefect("mesh_size", seen, "check the unit of the export (mm)", file=file, tooth=fdi)
        return shape

    def points(self, triangles: Array) -> NDArray[np.float64]:
        """Sample ordered points (P, 3) on a crown, mm, in our tooth-local frame.

        triangles : (F, 3, 3) mm in the exporter's tooth-local frame
        raises    : ValueError where all triangles have area 0
        """
        ours = self.in_our_frame(triangles)  # first, so that the frame changes no point
        sample = self.sample
        points = sampling.sample_surface(ours, sample.points, sample.oversampling, sample.seed)
        return sampling.order(points)

    def in_our_frame(self, triangles: Array) -> Array:
        """Convert triangles (F, 3, 3) from the exporter's tooth-local frame to ours, mm."""
        return triangles @ to_our_frame(self.buccal_axis).T

    def landmarks(self, triangles: Array, fdi: int) -> NDArray[np.float32]:
        """Find the landmarks (L, 3) of a crown, mm, in our tooth-local frame; arguments as for `shape`."""
        return crown_landmarks(self.in_our_frame(triangles), fdi)


def read_crowns(
    mouth: Mouth, read_mesh: ReadMesh, sampler: Sampler, findings: Findings, *, plan: bool = True
) -> Mouth:
    """Add points on the crowns and their landmarks to a mouth, and drop teeth whose mesh cannot be used.

    Landmarks of the export, where the mouth has some, take the place of those from the mesh.

    read_mesh : reads the mesh of a slot, or raises ToothDefect
    findings  : gets a line for each dropped tooth, and for exported points off their crown
    plan      : if True, at least one tooth must be left at both T1 and T2
    raises    : CaseDefect where most crowns have the same fault, or too few teeth are left
    """
    points = np.zeros((SLOT_COUNT, sampler.sample.points, 3), np.float32)
    landmarks, exported = mouth.landmarks.copy(), mouth.exported_landmarks.copy()
    shapes, lost = {}, []
    for slot in np.flatnonzero(mouth.present[T1]).tolist():
        try:
            triangles, file = read_mesh(slot)
            shapes[slot] = sampler.shape(triangles, file, int(mouth.fdi[slot]))
            points[slot] = sampler.points(triangles)
            fdi = int(mouth.fdi[slot])
            landmarks[slot] = sampler.landmarks(triangles, fdi)
            if np.isfinite(exported[slot]).any():
                ours = sampler.in_our_frame(triangles)
                exported[slot] = exported_points.on_crown(exported[slot], ours, fdi, file, findings)
                landmarks[slot] = with_exported(landmarks[slot], exported[slot])
        except ToothDefect as defect:
            findings.add(defect)
            lost.append(slot)
    wrong = crown_check.wrong_crowns(mouth, shapes, sampler.limits)
    findings.add(*wrong.values())
    mouth = replace(mouth, points=points, landmarks=landmarks, exported_landmarks=exported)
    mouth = mouth.dropping([*lost, *wrong])
    findings.refuse_what_is_left(mouth, sampler.limits, plan=plan)
    return mouth
