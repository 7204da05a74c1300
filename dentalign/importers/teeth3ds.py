"""Teeth3DS+ (3DTeethSeg22): scans with a tooth number for each vertex. Shapes only: there is no T2.

    **/<id>_upper.obj, <id>_upper.json    **/<id>_lower.obj, <id>_lower.json

Each jaw becomes a case whose T2 is its T1: good for the tooth autoencoder, and for nothing else.
"""

import io
import re
from collections import Counter

import numpy as np
import trimesh
from numpy.typing import NDArray
from trimesh import Trimesh

from dentalign.cases.settings import Limits
from dentalign.errors import CaseDefect, ToothDefect
from dentalign.importers import crown_cutting
from dentalign.importers.base import FoundCase, ImportedCase, Importer
from dentalign.importers.crown_cutting import GUM, LABEL_IS_WRONG
from dentalign.importers.frames import ScannedMouth
from dentalign.importers.source_folder import MAX_SCAN_MB, SourceFolder
from dentalign.teeth import is_known, is_upper

SCAN = re.compile(r"(?P<patient>.+)_(?P<jaw>upper|lower)\.(obj|json)")
LARGEST_LABEL = 1000
ONE_INSTANCE = 0.9  # share of a label's vertices that must be one tooth


class Teeth3DS(Importer):
    """Labelled scans of single jaws."""

    name = "teeth3ds"
    shapes_only = True
    missing = "no <id>_upper.obj or <id>_lower.obj; unpack the archives and name their folder"

    def find(self, source: SourceFolder) -> list[FoundCase]:
        """Find every scan, and every file of labels without a scan."""
        found = set()
        for file in source.find("**/*.*"):
            if match := SCAN.fullmatch(file.rpartition("/")[2]):
                patient_id = f"teeth3ds-{match['patient']}"
                place = file.rpartition(".")[0]
                case_id, both = f"{patient_id}-{match['jaw']}", (f"{place}.obj", f"{place}.json")
                found.add(FoundCase(case_id, patient_id, place, both))
        return sorted(found, key=lambda case: (case.case_id, case.place))

    def read(self, source: SourceFolder, case: FoundCase) -> ImportedCase:
        """Cut the crowns of one jaw and give each a frame; T2 is T1."""
        file = source.location(case.place)
        scan_file, label_file = case.files
        scan = _read_scan(source, scan_file)
        labels, instances = _read_labels(source, label_file, len(scan.vertices))
        jaw = "upper" if case.case_id.endswith("-upper") else "lower"
        wrong = _wrong_labels(labels, instances, jaw, source, label_file)
        labels[np.isin(labels, [int(defect.tooth or 0) for defect in wrong])] = GUM
        crowns, scattered = crown_cutting.cut(scan, labels, source.location(label_file))
        lost = (*wrong, *scattered)
        if len(lost) > Limits().max_dropped_teeth or not crowns:
            numbers = ", ".join(str(one.tooth) for one in lost)
            seen = f"labels that give no usable tooth: {numbers}" if lost else "no tooth is labelled"
            raise CaseDefect("too_many_lost", seen, "leave the scan out", file=file)
        mouth = ScannedMouth(crowns)
        frame = mouth.frame_of_labels(file)
        poses = mouth.tooth_poses(frame)
        in_head = {fdi: frame.to_head @ pose for fdi, pose in poses.items()}
        return ImportedCase(crowns=mouth.local_crowns(poses), t1=in_head, t2=in_head, lost=lost)


def _read_scan(source: SourceFolder, name: str) -> Trimesh:
    """Read an OBJ with its vertices in the order of the file, to which the labels refer."""
    data = source.read(name, MAX_SCAN_MB)
    try:
        mesh = trimesh.load_mesh(
            io.BytesIO(data), file_type="obj", process=False, maintain_order=True, skip_materials=True
        )
        vertices = np.asarray(mesh.vertices, dtype=np.float64).reshape(-1, 3)
        faces = np.asarray(mesh.faces, dtype=np.int64).reshape(-1, 3)
    except Exception as error:  # noqa: BLE001  any failure of the parser is a defect of this file
        raise source.damaged_mesh(name, f"not readable as OBJ ({type(error).__name__})") from None
    if not len(faces) or faces.min() < 0 or faces.max() >= len(vertices):
        raise source.damaged_mesh(name, "no faces, or faces of vertices that are not there")
    source.check_coordinates(name, vertices)
    return Trimesh(vertices, faces, process=False)


def _read_labels(
    source: SourceFolder, name: str, vertices: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read labels and instances (V,) of a scan."""
    if not source.has(name):
        seen = "no labels beside the scan (those of the test split may be published elsewhere)"
        raise source.defect("missing_file", name, seen)
    values = source.json_object(name)
    columns = []
    for key in ("labels", "instances"):
        try:
            column = np.array(values[key], dtype=np.float64)
            if column.shape != (vertices,) or not (np.abs(column) <= LARGEST_LABEL).all():  # nor NaN
                raise ValueError
        except (KeyError, TypeError, ValueError):
            seen = f"'{key}' is no list of {vertices} numbers, one for each vertex of the scan"
            raise source.defect("damaged_labels", name, seen) from None
        columns.append(column.astype(np.int64))
    return columns[0], columns[1]


def _wrong_labels(
    labels: NDArray[np.int64], instances: NDArray[np.int64], jaw: str, source: SourceFolder, name: str
) -> list[ToothDefect]:
    """Find labels that are no tooth, or of two teeth; raises CaseDefect if some are of the other jaw."""
    numbers = sorted(set(np.unique(labels).tolist()) - {GUM})
    other = [fdi for fdi in numbers if is_known(fdi) and is_upper(fdi) != (jaw == "upper")]
    if other:
        seen = f"teeth {', '.join(map(str, other[:5]))} in the file of the {jaw} jaw"
        raise source.defect("damaged_labels", name, seen)
    wrong = []
    for fdi in numbers:
        counts = Counter(instances[labels == fdi].tolist())
        if not is_known(fdi):
            code, seen = "unknown_tooth", f"tooth number {fdi} is not in the FDI scheme"
        elif counts.most_common(1)[0][1] < ONE_INSTANCE * counts.total():
            code, seen = "label_twice", f"{len(counts)} teeth have the number {fdi}"
        else:
            continue
        wrong.append(ToothDefect(code, seen, LABEL_IS_WRONG, file=source.location(name), tooth=fdi))
    return wrong
