"""Importer of Teeth3DS+ (3DTeethSeg22): scans of single jaws with a tooth number for each vertex, no T2.

    **/<id>_upper.obj, <id>_upper.json    **/<id>_lower.obj, <id>_lower.json

The JSON has `labels`. `instances`, which distinguish two teeth of one number, may be missing.

Each jaw becomes a case whose T2 is a copy of T1. Such cases can train the tooth autoencoder, nothing else.
"""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from trimesh import Trimesh

from dentalign.cases import case_list
from dentalign.errors import CaseDefect, ToothDefect
from dentalign.importers import crown_cutting, labelled_scan
from dentalign.importers.base import FoundCase, ImportedCase, Importer
from dentalign.importers.case_at_t1 import case_at_t1
from dentalign.importers.crown_cutting import GUM, LABEL_IS_WRONG
from dentalign.importers.frames import ScannedMouth
from dentalign.importers.source_folder import SourceFolder
from dentalign.teeth import is_known, is_upper

SCAN = re.compile(r"(?P<patient>.+)_(?P<jaw>upper|lower)\.(obj|json)")
ONE_INSTANCE = 0.9  # share of a label's vertices that must be one tooth


class Teeth3DS(Importer):
    """Importer of labelled scans of single jaws."""

    name = "teeth3ds"
    shapes_only = True
    missing = "no <id>_upper.obj or <id>_lower.obj; unpack the archives and name their folder"

    def find(self, source: SourceFolder) -> list[FoundCase]:
        """Find the scans, and the files of labels that have no scan."""
        found = set()
        for file in source.find("**/*.*"):
            if match := SCAN.fullmatch(file.rpartition("/")[2]):
                patient_id = f"teeth3ds-{match['patient']}"
                place = file.rpartition(".")[0]
                case_id, both = f"{patient_id}-{match['jaw']}", (f"{place}.obj", f"{place}.json")
                found.add(FoundCase(case_id, patient_id, place, both))
        return sorted(found, key=lambda case: (case.case_id, case.place))

    def read(self, source: SourceFolder, case: FoundCase) -> ImportedCase:
        """Cut the crowns out of the scan of a jaw and find the frames; T2 is a copy of T1."""
        scan_file, label_file = case.files
        scan = Trimesh(*source.surface(scan_file), process=False)
        values, count = labelled_scan.labels_beside(source, label_file), len(scan.vertices)
        jaw = "upper" if case.case_id.endswith("-upper") else "lower"
        _refuse_other_id(values.get("id_patient"), jaw, case, source.location(label_file))
        labels = labelled_scan.column(source, label_file, values, "labels", count)
        instances = labels
        if "instances" in values:
            instances = labelled_scan.column(source, label_file, values, "instances", count)
        wrong = _wrong_labels(labels, instances, jaw, source, label_file)
        labels[np.isin(labels, [int(defect.tooth or 0) for defect in wrong])] = GUM
        crowns, scattered = crown_cutting.cut(scan, labels, source.location(label_file))
        one = case_at_t1(ScannedMouth(crowns, (*wrong, *scattered)), source.location(case.place))
        return replace(one, t2=one.t1)


def _refuse_other_id(inside: object, jaw: str, case: FoundCase, file: str) -> None:
    """Raise CaseDefect if the labels name another patient than the file's name does."""
    if inside is None or f"teeth3ds-{inside}".strip().casefold() == case.patient_id.casefold():
        return
    case_list.check_id(str(inside), file)  # before it is quoted
    fix = f"rename scan and labels to {inside}_{jaw}, if they belong together"
    seen = "id_patient in the labels is not the id in the file's name"
    raise CaseDefect("case_id_differs", seen, fix, file=file)


def _wrong_labels(
    labels: NDArray[np.int64], instances: NDArray[np.int64], jaw: str, source: SourceFolder, name: str
) -> list[ToothDefect]:
    """Find labels that are no tooth, or of two teeth; raises CaseDefect if some are of the other jaw."""
    numbers = sorted(set(np.unique(labels).tolist()) - {GUM})
    other = [fdi for fdi in numbers if is_known(fdi) and is_upper(fdi) != (jaw == "upper")]
    if other:
        seen = f"teeth {', '.join(map(str, other[:5]))} are labelled in the file of the {jaw} jaw"
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
