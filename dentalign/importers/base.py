"""Case of a public data set in our frames, and the interface of every importer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from trimesh import Trimesh

from dentalign.cases.case_document import CaseDocument
from dentalign.errors import ToothDefect
from dentalign.geometry.rigid import Array
from dentalign.importers.crown_shapes import Shape
from dentalign.importers.source_folder import SourceFolder
from dentalign.prediction.planned_document import as_pose


@dataclass(frozen=True)
class FoundCase:
    """Case of a download, not read yet.

    case_id    : its id once imported
    patient_id : as far as the names of the folders tell
    place      : folder or scan, below the source
    files      : every file that is read for it, below the source
    """

    case_id: str
    patient_id: str
    place: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class ImportedCase:
    """Case in our frames.

    crowns        : FDI -> surface, tooth-local, mm
    t1, t2        : FDI -> pose (4, 4), tooth-local -> head, mm; every tooth of t2 is in t1; t2 None: no plan
    lost          : teeth that could not be used
    registrations : (tooth, method, residual in mm, True if it was used), of motions found by registration
    patient_marks : shared only by cases of one patient, such as the hash of a scan
    crown_shapes  : FDI -> size and spread (`crown_shapes`), of a set whose cases do not name their patient
    notes         : decisions for this case, for the report: name -> value
    figures       : figures for the report, which gives their means: name -> value
    """

    crowns: Mapping[int, Trimesh]
    t1: Mapping[int, Array]
    t2: Mapping[int, Array] | None
    lost: tuple[ToothDefect, ...] = ()
    registrations: tuple[tuple[int, str, float, bool], ...] = ()
    patient_marks: tuple[str, ...] = ()
    crown_shapes: Mapping[int, Shape] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)

    def document(self, case_id: str) -> CaseDocument:
        """Document of a planning system with a stage for T1 and one for T2, poses straight to the head."""
        stages = [
            {"Stage": number, "ToothTransforms": {str(fdi): as_pose(pose) for fdi, pose in poses.items()}}
            for number, poses in enumerate((self.t1, self.t2))
            if poses is not None
        ]
        t2_stage = {} if self.t2 is None else {"T2Stage": 1}
        return CaseDocument.model_validate({"CaseID": case_id, **t2_stage, "Staging": stages})


class Importer(ABC):
    """Base class, one subclass per format; `find` and `prepare` run once, then `read` for each case.

    options     : what the user said about the files: another answer imports them again
    shapes_only : True if T2 is T1: good for the tooth autoencoder alone
    without_t2  : True if no case has a T2: good for a prediction, and for no list to learn from
    downloaded  : False if the user made the files and can make them anew
    missing     : message where nothing of the format is found
    """

    name: str
    options = ""
    shapes_only = False
    without_t2 = False
    downloaded = True
    missing: str

    @abstractmethod
    def find(self, source: SourceFolder) -> list[FoundCase]:
        """Find the cases of the download, sorted by id, usable or not."""

    def prepare(self, source: SourceFolder, found: list[FoundCase]) -> dict[str, str]:
        """Decide what holds for the whole set: name -> decision, for the report and later runs."""
        return {}

    @abstractmethod
    def read(self, source: SourceFolder, case: FoundCase) -> ImportedCase:
        """Read one case; raises CaseDefect if it cannot be used as a whole."""
