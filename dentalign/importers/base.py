"""Base class of the importers, and the cases that they find and read."""

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
    """Case found in a source folder, before its files are read.

    case_id    : id in the case store
    patient_id : id made from the names of folders or files
    place      : folder or scan of the case, relative to the source folder
    files      : files that are read for the case, relative to the source folder; some may not exist
    """

    case_id: str
    patient_id: str
    place: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class ImportedCase:
    """Case as an importer read it: crowns and poses in dentalign's frames.

    crowns        : FDI -> surface, tooth-local, mm
    t1            : FDI -> pose (4, 4), tooth-local -> head, mm
    t2            : the same at T2, for some or all teeth of t1; None for a case without a plan
    lost          : `ToothDefect` of each tooth, label or file that could not be used
    registrations : for each tooth whose motion was found by registration: FDI number, method, residual in mm,
                    True if the motion was used
    patient_marks : texts that only cases of one patient share, such as the SHA-256 of a scan
    crown_shapes  : FDI -> `Shape` of the crown, to find cases of one patient in a set without patient ids
    notes         : name -> value; the report counts the cases with each value
    figures       : name -> value; the report gives the mean over the cases
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
        """Make the case document, with a treatment stage for T1 and, if there is a T2, one for T2."""
        stages = [
            {"Stage": number, "ToothTransforms": {str(fdi): as_pose(pose) for fdi, pose in poses.items()}}
            for number, poses in enumerate((self.t1, self.t2))
            if poses is not None
        ]
        t2_stage = {} if self.t2 is None else {"T2Stage": 1}
        return CaseDocument.model_validate({"CaseID": case_id, **t2_stage, "Staging": stages})


class Importer(ABC):
    """Base class of the importers, one subclass per format; run `find`, `prepare`, then `read` for each case.

    name        : name of the format on the command line
    options     : options of the user, as text; after a change every case is imported again
    shapes_only : True if T2 is only a copy of T1: the cases can train the tooth autoencoder, nothing else
    without_t2  : True if no case has a T2: the cases serve for predictions, not for training
    downloaded  : True for a published data set; False for the user's own files, which can be exported again
    missing     : error text for a source folder that holds nothing of the format
    """

    name: str
    options = ""
    shapes_only = False
    without_t2 = False
    downloaded = True
    missing: str

    @abstractmethod
    def find(self, source: SourceFolder) -> list[FoundCase]:
        """Find the cases in the source folder, usable or not, sorted by id."""

    def prepare(self, source: SourceFolder, found: list[FoundCase]) -> dict[str, str]:
        """Determine the conventions of the whole set, as name -> value, for the report and for later runs."""
        return {}

    @abstractmethod
    def read(self, source: SourceFolder, case: FoundCase) -> ImportedCase:
        """Read one case; raises CaseDefect if the case as a whole cannot be used."""
