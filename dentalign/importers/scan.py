"""Importer of labelled scans: OBJ or PLY with a JSON of labels, labelled PLY or VTP; makes cases at T1.

    <id>_upper.obj, <id>_upper.json, <id>_lower.obj, ...    <id>/upper.vtp, <id>/lower.vtp    <id>.ply

Two scans of one id, upper and lower jaw, are one case; they must stand in occlusion, in one frame. A scan of
one jaw, or of both jaws, is also a case.
"""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from trimesh import Trimesh

from dentalign.errors import CaseDefect, ToothDefect
from dentalign.files import hashing
from dentalign.importers import crown_cutting, labelled_scan, tooth_numbers
from dentalign.importers.base import FoundCase, ImportedCase, Importer
from dentalign.importers.case_at_t1 import case_at_t1
from dentalign.importers.crown_cutting import GUM, LABEL_IS_WRONG
from dentalign.importers.frames import ScannedMouth
from dentalign.importers.jaw_names import JAWS, jaw_of, without_jaw
from dentalign.importers.labelled_scan import SUFFIXES, LabelledScan
from dentalign.importers.source_folder import SourceFolder
from dentalign.importers.tooth_numbers import NUMBERING
from dentalign.teeth import is_upper


class Scan(Importer):
    """Importer of labelled scans.

    numbering  : "fdi", "universal", or "" to find the notation from the numbers
    label_file : JSON from label or colour to tooth, see `labelled_scan.read_map`; None if labels are
                 tooth numbers
    """

    name = "scan"
    downloaded = False
    without_t2 = True
    missing = f"no scan ({', '.join(SUFFIXES)}) in it"

    def __init__(self, numbering: str = "", label_file: Path | None = None):
        self._numbering = numbering
        self._map = None if label_file is None else labelled_scan.read_map(label_file)
        self.options = f" {numbering} {hashing.sha256_json(sorted(self._map.items()) if self._map else [])}"

    def find(self, source: SourceFolder) -> list[FoundCase]:
        """Find the scans; those of one id are one case."""
        cases: dict[str, list[str]] = defaultdict(list)
        for file in source.find("**/*"):
            if file.lower().endswith(SUFFIXES):
                folder, _, last = file.rpartition("/")
                outer = folder.rpartition("/")[2] or source.folder.resolve().name
                cases[without_jaw(last.rpartition(".")[0]) or outer].append(file)
        return [
            FoundCase(case_id, case_id, files[0], (*files, *(f"{file[:-4]}.json" for file in files)))
            for case_id, files in sorted(cases.items())
        ]

    def read(self, source: SourceFolder, case: FoundCase) -> ImportedCase:
        """Cut the crowns out of the scans of a case and find the head frame and the tooth-local frames."""
        place = source.location(case.place)
        files = [file for file in case.files if file.lower().endswith(SUFFIXES)]
        jaws = {file: jaw_of(file.rpartition("/")[2]) for file in files}
        if len(files) > 1 and sorted(jaws.values()) != sorted(JAWS):
            seen = f"{len(files)} scans have the id {case.case_id}, and are not one upper and one lower jaw"
            raise CaseDefect("several_files", seen, "name them <id>_upper and <id>_lower", file=place)
        scans = {file: self._with_numbers(source, file) for file in files}
        numbers: dict[str, set[int]] = defaultdict(set)
        for file, scan in scans.items():
            numbers[jaws[file]] |= set(np.unique(scan.labels).tolist()) - {GUM}
        if not any(numbers.values()):
            raise source.defect("damaged_labels", case.place, "no tooth is labelled")
        notation = tooth_numbers.notation_of(numbers, self._numbering, place)
        mouth = ScannedMouth({})
        for file, scan in scans.items():
            crowns, lost = _cut(scan, notation, jaws[file], source, file)
            if mouth.crowns.keys() & crowns.keys():
                raise source.defect("damaged_labels", file, "a tooth of this scan is in the other scan, too")
            mouth = ScannedMouth({**mouth.crowns, **crowns}, (*mouth.lost, *lost))
        one = case_at_t1(mouth, place, by_numbers=True)
        return replace(one, notes={**one.notes, NUMBERING: notation})

    def _with_numbers(self, source: SourceFolder, file: str) -> LabelledScan:
        """Read a scan and give its labels the numbers of the map; raises CaseDefect if it needs one."""
        scan = labelled_scan.read(source, file)
        if self._map is None:
            if scan.coloured:
                colours = labelled_scan.colour_names(scan.labels)
                fix = 'write a JSON from colour to tooth, such as {"#ff0000": 11}, and name it with --labels'
                seen = f"the scan has colours and no tooth numbers: {colours}"
                raise CaseDefect("no_label_map", seen, fix, file=source.location(file))
            return replace(scan, labels=np.maximum(scan.labels, GUM))
        labels = np.full_like(scan.labels, GUM)
        for label, number in self._map.items():
            labels[scan.labels == label] = number
        return replace(scan, labels=labels)


def _cut(
    scan: LabelledScan, notation: str, jaw: str, source: SourceFolder, name: str
) -> tuple[dict[int, Trimesh], list[ToothDefect]]:
    """Cut the crowns of a scan; raises CaseDefect if one is of the other jaw."""
    numbers = np.unique(scan.labels)
    fdi = [0 if number == GUM else tooth_numbers.to_fdi(number, notation) for number in numbers.tolist()]
    other = [number for number in fdi if number and jaw in JAWS and is_upper(number) != (jaw == "upper")]
    if other:
        seen = f"teeth {', '.join(map(str, other[:5]))} (FDI) in the scan of the {jaw} jaw"
        raise source.defect("damaged_labels", name, seen)
    unknown = [
        ToothDefect(
            "unknown_tooth", f"label {number} is no tooth number ({notation})", LABEL_IS_WRONG,
            file=source.location(name), tooth=f"label {number}",
        )
        for number, tooth in zip(numbers.tolist(), fdi, strict=True)
        if tooth is None
    ]  # fmt: skip
    labels = np.array([number or GUM for number in fdi])[np.searchsorted(numbers, scan.labels)]
    of_faces = labels if scan.per_face else crown_cutting.labels_of_faces(scan.faces, labels)
    # Some exporters give each face vertices of its own: only merged ones show what hangs together.
    surface = crown_cutting.surface(scan.vertices[scan.faces])
    crowns, lost = crown_cutting.cut_faces(
        surface, of_faces, np.unique(labels).tolist(), source.location(name)
    )
    return crowns, [*unknown, *lost]
