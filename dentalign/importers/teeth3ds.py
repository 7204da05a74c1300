"""Teeth3DS+ (3DTeethSeg22): scans with a tooth number for each vertex. Shapes only: there is no T2.

    **/<id>_upper.obj, <id>_upper.json    **/<id>_lower.obj, <id>_lower.json

Each jaw becomes a case whose T2 is its T1: good for the tooth autoencoder, and for nothing else.
"""

import io
import re
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from dentalign.cases.settings import Limits
from dentalign.errors import CaseDefect, ToothDefect
from dentalign.importers import crown_cutting
from dentalign.importers.imported_case import Found, ImportedCase, Surface
from dentalign.importers.labelled_mouth import LabelledMouth
from dentalign.importers.source_folder import AGAIN, MAX_SCAN_MB, SourceFolder
from dentalign.teeth import is_known, is_upper

SCAN = re.compile(r"(?P<patient>.+)_(?P<jaw>upper|lower)\.(obj|json)")
LARGEST_LABEL = 1000
ONE_INSTANCE = 0.9  # share of a label's vertices that must be one tooth


class Teeth3DS:
    """The data set."""

    name = "teeth3ds"
    shapes_only = True
    missing = "no <id>_upper.obj or <id>_lower.obj; unpack the archives and name their folder"

    def find(self, source: SourceFolder) -> list[Found]:
        """Every scan, and every file of labels without a scan."""
        stems: dict[str, re.Match[str]] = {}
        for folder, _, files in source.folders():
            for file in files:
                if match := SCAN.fullmatch(file):
                    stem = file.rpartition(".")[0]
                    stems[f"{folder}/{stem}" if folder else stem] = match
        return sorted(
            (
                Found(
                    case_id=f"teeth3ds-{match['patient']}-{match['jaw']}",
                    patient_id=f"teeth3ds-{match['patient']}",
                    place=place,
                    files=(f"{place}.obj", f"{place}.json"),
                )
                for place, match in stems.items()
            ),
            key=lambda case: (case.case_id, case.place),
        )

    def prepare(self, source: SourceFolder, found: list[Found]) -> dict[str, str]:
        """Nothing is decided for the set as a whole."""
        return {}

    def read(self, source: SourceFolder, case: Found) -> ImportedCase:
        """Cut the crowns of one jaw and give each a frame; T2 is T1."""
        file = source.location(case.place)
        scan_file, label_file = case.files
        scan = _scan(source, scan_file)
        labels, instances = _labels(source, label_file, len(scan.vertices))
        jaw = "upper" if case.case_id.endswith("-upper") else "lower"
        lost = _not_of(labels, instances, jaw, source.location(label_file))
        for defect in lost:
            labels[labels == defect.tooth] = crown_cutting.GUM
        crowns, scattered = crown_cutting.cut(scan, labels, source.location(label_file))
        lost += scattered
        if len(lost) > Limits().max_dropped_teeth or not crowns:
            seen = f"{len(lost)} labels are no usable tooth: " + ", ".join(str(one.tooth) for one in lost)
            raise CaseDefect("too_many_lost", seen, "leave the scan out", file=file)
        mouth = LabelledMouth.of(crowns, tuple(lost))
        frame = mouth.frame(file)
        local, frames = mouth.teeth(frame)
        poses = {fdi: frame.to_head @ pose for fdi, pose in frames.items()}
        return ImportedCase(crowns=local, t1=poses, t2=poses, lost=mouth.lost)

    def same_patient(self, source: SourceFolder, case: Found) -> tuple[str, ...]:
        """The names of the scans say whose they are."""
        return ()


def _scan(source: SourceFolder, name: str) -> Surface:
    """An OBJ with its vertices in the order of the file, as the labels want it."""
    import trimesh

    data = source.read(name, MAX_SCAN_MB)
    try:
        mesh = trimesh.load_mesh(
            io.BytesIO(data), file_type="obj", process=False, maintain_order=True, skip_materials=True
        )
        vertices = np.asarray(mesh.vertices, dtype=np.float64).reshape(-1, 3)
        faces = np.asarray(mesh.faces, dtype=np.int64).reshape(-1, 3)
    except Exception as error:  # noqa: BLE001  whatever the parser trips over, it is this file's defect
        raise source.damaged_mesh(name, f"not readable as OBJ ({type(error).__name__})") from None
    if not len(faces) or faces.min() < 0 or faces.max() >= len(vertices):
        raise source.damaged_mesh(name, "no faces, or faces of vertices that are not there")
    source.check_coordinates(name, vertices)
    return Surface(vertices, faces)


def _labels(source: SourceFolder, name: str, vertices: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels and instances (V,) of a scan."""
    if not source.has(name):
        seen = "no labels beside the scan (those of the test split may be published elsewhere)"
        raise CaseDefect("missing_file", seen, AGAIN, file=source.location(name))
    values = source.json_object(name)
    columns = []
    for key in ("labels", "instances"):
        try:
            column = np.array(values[key], dtype=np.float64)
            if column.shape != (vertices,) or not (np.abs(column) <= LARGEST_LABEL).all():  # nor NaN
                raise ValueError
        except (KeyError, TypeError, ValueError):
            seen = f"'{key}' is no list of {vertices} numbers, one for each vertex of the scan"
            raise CaseDefect("damaged_labels", seen, AGAIN, file=source.location(name)) from None
        columns.append(column.astype(np.int64))
    return columns[0], columns[1]


def _not_of(
    labels: NDArray[np.int64], instances: NDArray[np.int64], jaw: str, file: str
) -> list[ToothDefect]:
    """Labels that are no tooth, or two of one number; raises CaseDefect where they are another jaw's."""
    numbers = sorted(set(np.unique(labels).tolist()) - {crown_cutting.GUM})
    other = [fdi for fdi in numbers if is_known(fdi) and is_upper(fdi) != (jaw == "upper")]
    if other:
        seen = f"teeth {', '.join(map(str, other[:5]))} in the file of the {jaw} jaw"
        raise CaseDefect("damaged_labels", seen, AGAIN, file=file)
    lost = []
    for fdi in numbers:
        if not is_known(fdi):
            seen, mend = f"tooth number {fdi} is not in the FDI scheme", "nothing, the label is so"
            lost.append(ToothDefect("unknown_tooth", seen, mend, file=file, tooth=fdi))
            continue
        counts = Counter(instances[labels == fdi].tolist())
        if counts.most_common(1)[0][1] < ONE_INSTANCE * counts.total():
            seen, mend = f"{len(counts)} teeth have the number {fdi}", "nothing, the label is so"
            lost.append(ToothDefect("label_twice", seen, mend, file=file, tooth=fdi))
    return lost
