"""What an importer makes of one case, and the promise that every importer keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dentalign.cases.case_document import CaseDocument, as_exported
from dentalign.errors import ToothDefect
from dentalign.geometry.rigid import Array
from dentalign.importers.source_folder import SourceFolder
from dentalign.prediction.planned_document import as_pose


@dataclass(frozen=True)
class Surface:
    """A triangle mesh: vertices (V, 3) float64, mm, and faces (F, 3) int."""

    vertices: Array
    faces: NDArray[np.int64]

    @property
    def triangles(self) -> Array:
        """Corners (F, 3, 3), mm."""
        return self.vertices[self.faces]


@dataclass(frozen=True)
class Registration:
    """How a tooth at T1 was brought onto the one at T2: method, what was left (RMS), whether it is used."""

    fdi: int
    method: str
    residual_mm: float
    kept: bool


@dataclass(frozen=True)
class ImportedCase:
    """A case in our frames.

    crowns  : FDI -> surface, tooth-local, mm
    t1, t2  : FDI -> pose (4, 4), tooth-local -> head, mm; every tooth of t2 is in t1
    lost    : teeth that could not be used
    registrations : per tooth, where the motion was found by registration
    notes   : name -> value of what was decided for this case, for the report
    """

    crowns: Mapping[int, Surface]
    t1: Mapping[int, Array]
    t2: Mapping[int, Array]
    lost: tuple[ToothDefect, ...] = ()
    registrations: tuple[Registration, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)

    def document(self, case_id: str) -> dict[str, object]:
        """The case as a planning system would export it: two stages, poses straight to the head."""
        stages = [
            {"Stage": number, "ToothTransforms": {str(fdi): as_pose(pose) for fdi, pose in poses.items()}}
            for number, poses in enumerate((self.t1, self.t2))
        ]
        document = CaseDocument.model_validate({"CaseID": case_id, "T2Stage": 1, "Staging": stages})
        return as_exported(document)


@dataclass(frozen=True)
class Found:
    """A case of the download.

    case_id    : as it will be called
    patient_id : whose it is, as far as the names of the folders tell
    place      : folder or scan, below the source
    files      : everything that is read for it, below the source
    """

    case_id: str
    patient_id: str
    place: str
    files: tuple[str, ...]


class Importer(Protocol):
    """One data set. `find` and `prepare` are called once, then `read` for each case."""

    name: str
    shapes_only: bool  # T2 is T1: good for the tooth autoencoder alone
    missing: str  # what to say where nothing of the data set is there

    def find(self, source: SourceFolder) -> list[Found]:
        """The cases of the download, sorted by id, whether they can be used or not."""

    def prepare(self, source: SourceFolder, found: list[Found]) -> dict[str, str]:
        """Decide what holds for the whole set; returns name -> decision, for the report and later runs."""

    def read(self, source: SourceFolder, case: Found) -> ImportedCase:
        """One case; raises CaseDefect where it cannot be used as a whole."""

    def same_patient(self, source: SourceFolder, case: Found) -> tuple[str, ...]:
        """Marks that two cases share only if they are of one patient, such as the hash of a scan."""
