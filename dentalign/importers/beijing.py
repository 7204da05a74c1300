"""The pre/post set of Beijing Stomatological Hospital (Sci Data 2024, 11:1277): scans before and after.

    <patient>/ori/*U*.stl, *L*.stl, *U*.json, *L*.json    <patient>/final/...

The JSON's `segmentation` has the vertices of each tooth. One tooth-local frame per tooth is made of the scan
before; the motion to the scan after is found by registration, tooth by tooth. A folder with several folders
beside `ori` has as many pairs; `<patient>/<anything>/ori` is read too.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from dentalign.cases.settings import Limits
from dentalign.errors import CaseDefect, DentalignError, ToothDefect
from dentalign.geometry import rigid, stl
from dentalign.geometry.rigid import Array
from dentalign.importers import beijing_files, crown_cutting, registration
from dentalign.importers.beijing_files import JAWS, join
from dentalign.importers.imported_case import Found, ImportedCase, Registration, Surface
from dentalign.importers.labelled_mouth import LabelledMouth
from dentalign.importers.source_folder import MAX_SCAN_MB, SourceFolder

BEFORE, USUAL_AFTER = "ori", "final"
MAX_RESIDUAL_MM = 0.2
FEWEST_COMMON = 6  # teeth in both scans
MOST_PAIRS = 12  # of a patient; the set has 2.4 on the average


@dataclass(frozen=True)
class _Scan:
    """A mouth of two labelled scans, and the labelled points (N, 3) of each tooth."""

    mouth: LabelledMouth
    points: Mapping[int, Array]


class Beijing:
    """The data set."""

    name = "beijing"
    shapes_only = False
    missing = f"no folder '{BEFORE}' with another one beside it (such as '{USUAL_AFTER}'); unpack the archive"

    def find(self, source: SourceFolder) -> list[Found]:
        """Every folder with scans beside a folder `ori`; the patient is the first folder of its path."""
        tree = list(source.folders())
        files = {name: inside for name, _, inside in tree}
        pairs = [
            (name, after)
            for name, folders, _ in tree
            if BEFORE in folders
            for after in folders
            if after != BEFORE
            and any(beijing_files.is_scan(file) for file in files.get(join(name, after), []))
        ]
        # A folder `ori` with nothing beside it is half a pair: found, and left out with a reason.
        pairs += [
            (name, USUAL_AFTER)
            for name, folders, _ in tree
            if BEFORE in folders and not any(name == one for one, _ in pairs)
        ]
        _refuse_other_level(source, [name for name, _ in pairs])
        found = []
        for name, after in pairs:
            wanted = [
                join(folder, file)
                for folder in (join(name, BEFORE), join(name, after))
                for file in files.get(folder, [])
                if file.lower().endswith((".stl", ".json"))
            ]
            found.append(
                Found(
                    case_id=f"beijing-{name.replace('/', '-')}-{after}",
                    patient_id=f"beijing-{name.partition('/')[0]}",
                    place=join(name, after),
                    files=tuple(wanted),
                )
            )
        return sorted(found, key=lambda case: (case.case_id, case.place))

    def prepare(self, source: SourceFolder, found: list[Found]) -> dict[str, str]:
        """Nothing is decided for the set as a whole."""
        return {}

    def read(self, source: SourceFolder, case: Found) -> ImportedCase:
        """Cut both mouths, build the frames from the first, register each tooth."""
        parent = case.place.rpartition("/")[0]
        file = source.location(case.place)
        before = _read_scan(source, join(parent, BEFORE))
        after = _read_scan(source, case.place)
        common = sorted(before.mouth.crowns.keys() & after.mouth.crowns.keys())
        if len(common) < FEWEST_COMMON:
            seen = f"{len(common)} teeth are in both scans, at least {FEWEST_COMMON} are needed"
            raise CaseDefect("too_few_common", seen, "leave the case out", file=file)
        frame = before.mouth.frame(source.location(join(parent, BEFORE)))
        crowns, frames = before.mouth.teeth(frame)
        centres = [np.stack([scan.mouth.centres[fdi] for fdi in common]) for scan in (before, after)]
        back, elsewhere = registration.common_frame(*centres)
        motions = {fdi: _register(before, after, fdi, back) for fdi in common}
        registrations = tuple(
            Registration(fdi, motion.method, motion.residual_mm, motion.residual_mm <= MAX_RESIDUAL_MM)
            for fdi, motion in motions.items()
        )
        lost = [*before.mouth.lost, *(_unexplained(one, file) for one in registrations if not one.kept)]
        # A label that is no crown after says nothing about the tooth: it is no extraction.
        unclear = {int(defect.tooth or 0) for defect in after.mouth.lost} & crowns.keys()
        lost += [defect for defect in after.mouth.lost if defect.tooth in unclear]
        seen_before = before.mouth.crowns.keys() | {defect.tooth for defect in before.mouth.lost}
        only_after = sorted(after.mouth.crowns.keys() - seen_before)
        gone = unclear | {one.fdi for one in registrations if not one.kept}
        if len(lost) > Limits().max_dropped_teeth:
            seen = f"{len(lost)} teeth cannot be used: " + ", ".join(str(defect.tooth) for defect in lost)
            raise CaseDefect("too_many_lost", seen, "leave the case out", file=file)
        kept = [fdi for fdi in crowns if fdi not in gone]
        return ImportedCase(
            crowns={fdi: crowns[fdi] for fdi in kept},
            t1={fdi: frame.to_head @ frames[fdi] for fdi in kept},
            t2={
                fdi: frame.to_head @ back @ motions[fdi].pose @ frames[fdi] for fdi in kept if fdi in motions
            },
            lost=(*lost, *(_only_after(fdi, file) for fdi in only_after)),
            registrations=registrations,
            notes={
                "the scans after": "stood elsewhere, and were brought back by the teeth that moved least"
                if elsewhere
                else "stand in the frame of those before",
            },
            figures={
                "residual of the registration, mean over a case's teeth (mm)": fmean(
                    one.residual_mm for one in registrations
                )
            },
        )

    def same_patient(self, source: SourceFolder, case: Found) -> tuple[str, ...]:
        """The hash of each scan before: the same scan in two folders is the same patient."""
        parent = case.place.rpartition("/")[0]
        scans = [beijing_files.scan_of(source, join(parent, BEFORE), jaw) for jaw in JAWS]
        return tuple(stl.mesh_sha256(source.read(scan, MAX_SCAN_MB)) for scan in scans)


def _register(before: _Scan, after: _Scan, fdi: int, back: Array) -> registration.Motion:
    first, second = before.mouth.crowns[fdi], after.mouth.crowns[fdi]
    # Searched from where the mouths lie on each other, with the middles of the tooth brought together.
    turn = rigid.inverse(back)[:3, :3]
    start = rigid.from_rotation(turn, after.mouth.centres[fdi] - turn @ before.mouth.centres[fdi])
    return registration.register(first, second, (before.points[fdi], after.points[fdi]), [start])


def _unexplained(one: Registration, file: str) -> ToothDefect:
    seen = f"the crowns before and after differ by {one.residual_mm:.2f} mm (RMS) after the best motion"
    mend = f"nothing: more than {MAX_RESIDUAL_MM:g} mm is another shape, or a wrong label"
    return ToothDefect("registration_residual", seen, mend, file=file, tooth=one.fdi)


def _only_after(fdi: int, file: str) -> ToothDefect:
    seen, mend = (
        "the tooth is in the scan after only",
        "nothing, if it erupted; it is neither input nor label",
    )
    return ToothDefect("t2_only", seen, mend, file=file, tooth=fdi)


def _read_scan(source: SourceFolder, folder: str) -> _Scan:
    crowns: dict[int, Surface] = {}
    points: dict[int, Array] = {}
    lost: list[ToothDefect] = []
    for jaw in JAWS:
        name, labels = (
            beijing_files.scan_of(source, folder, jaw),
            beijing_files.labels_of(source, folder, jaw),
        )
        marked = beijing_files.marked_points(source, labels, jaw)
        scan = Surface(*stl.merged(source.triangles(name, max_mb=MAX_SCAN_MB)))
        numbers = crown_cutting.labels_of_points(scan.vertices, marked, source.location(labels))
        found, bad = crown_cutting.cut(scan, numbers, source.location(labels))
        crowns |= found
        points |= marked
        lost += bad
    return _Scan(LabelledMouth.of(crowns, tuple(lost)), points)


def _refuse_other_level(source: SourceFolder, names: list[str]) -> None:
    """Raises DentalignError where the folders named first cannot be patients: the split hangs on them."""
    pairs = Counter(name.partition("/")[0] for name in names)
    mend = "name the folder that holds the patients' folders"
    if "" in names:
        raise DentalignError(f"{source.folder}: has a folder '{BEFORE}', so it is one patient; {mend}")
    for patient, count in pairs.items():
        inside = source.folder / patient
        if count > MOST_PAIRS or (len(pairs) == 1 and count > 1 and patient not in names):
            raise DentalignError(
                f"{inside}: holds {count} pairs, so it seems to be no patient; {mend} ({inside}?)"
            )
