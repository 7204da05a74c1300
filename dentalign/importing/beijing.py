"""The pre/post set of Beijing Stomatological Hospital (Sci Data 2024, 11:1277): scans before and after.

    <patient>/ori/*U*.stl, *L*.stl, *U*.json, *L*.json    <patient>/final/...

The JSON's `segmentation` has the vertices of each tooth. One tooth-local frame per tooth is made of the scan
before; the motion to the scan after is found by registration, tooth by tooth. A folder with several folders
beside `ori` has as many pairs; `<patient>/<anything>/ori` is read too.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from dentalign.errors import CaseDefect, DentalignError, ToothDefect
from dentalign.geometry import rigid, stl
from dentalign.geometry.rigid import Array
from dentalign.importing import crown_cutting, registration
from dentalign.importing.imported_case import Found, ImportedCase, Registration, Surface
from dentalign.importing.labelled_mouth import LabelledMouth
from dentalign.importing.source_folder import AGAIN, MAX_SCAN_MB, SourceFolder
from dentalign.params import Limits
from dentalign.teeth import is_known, is_upper

BEFORE, USUAL_AFTER = "ori", "final"
JAWS = {"upper": ("upper", "maxilla", "U"), "lower": ("lower", "mandib", "L")}
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
            if after != BEFORE and any(_is_scan(file) for file in files.get(_join(name, after), []))
        ]
        # A folder `ori` with nothing beside it is half a pair: found, and left out with a reason.
        pairs += [
            (name, USUAL_AFTER)
            for name, folders, _ in tree
            if BEFORE in folders and not any(name == one for one, _ in pairs)
        ]
        several = {name for name, _ in pairs if sum(name == one for one, _ in pairs) > 1}
        _refuse_other_level(source, [name for name, _ in pairs])
        found = []
        for name, after in pairs:
            suffix = "" if after == USUAL_AFTER and name not in several else f"-{after}"
            wanted = [
                _join(folder, file)
                for folder in (_join(name, BEFORE), _join(name, after))
                for file in files.get(folder, [])
                if file.lower().endswith((".stl", ".json"))
            ]
            found.append(
                Found(
                    case_id=f"beijing-{name.replace('/', '-')}{suffix}",
                    patient_id=f"beijing-{name.partition('/')[0]}",
                    place=_join(name, after),
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
        before = _read_scan(source, _join(parent, BEFORE))
        after = _read_scan(source, case.place)
        common = sorted(before.mouth.crowns.keys() & after.mouth.crowns.keys())
        if len(common) < FEWEST_COMMON:
            seen = f"{len(common)} teeth are in both scans, at least {FEWEST_COMMON} are needed"
            raise CaseDefect("too_few_common", seen, "leave the case out", file=file)
        frame = before.mouth.frame(source.location(_join(parent, BEFORE)))
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
        only_after = sorted(after.mouth.crowns.keys() - before.mouth.crowns.keys())
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
        scans = [_scan_of(source, _join(parent, BEFORE), jaw) for jaw in JAWS]
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
        name, labels = _scan_of(source, folder, jaw), _labels_of(source, folder, jaw)
        marked = _marked(source, labels, jaw)
        scan = Surface(*stl.merged(source.triangles(name, max_mb=MAX_SCAN_MB)))
        numbers = crown_cutting.labels_of_points(scan.vertices, marked, source.location(labels))
        found, bad = crown_cutting.cut(scan, numbers, source.location(labels))
        crowns |= found
        points |= marked
        lost += bad
    return _Scan(LabelledMouth.of(crowns, tuple(lost)), points)


def _marked(source: SourceFolder, name: str, jaw: str) -> dict[int, Array]:
    """FDI -> labelled points (N, 3) of one jaw."""
    segmentation = source.json_object(name).get("segmentation")
    if not isinstance(segmentation, dict):
        raise _damaged(source, name, "no object 'segmentation'")
    marked = {}
    for key, value in sorted(segmentation.items()):
        if not (key.isascii() and key.isdigit() and len(key) == 2 and is_known(int(key))):
            raise _damaged(source, name, "a key of 'segmentation' is no FDI number")
        if is_upper(int(key)) != (jaw == "upper"):
            raise _damaged(source, name, f"tooth {key} in the file of the {jaw} jaw")
        try:
            points = np.array(value["vertices"], dtype=np.float64).reshape(-1, 3)
        except (TypeError, ValueError, KeyError, IndexError):
            raise _damaged(source, name, f"tooth {key}: 'vertices' is no list of points") from None
        source.check_coordinates(name, points, int(key))
        if len(points):
            marked[int(key)] = points
    if not marked:
        raise _damaged(source, name, "no tooth is labelled")
    return marked


def _damaged(source: SourceFolder, name: str, seen: str) -> CaseDefect:
    return CaseDefect("damaged_labels", seen, AGAIN, file=source.location(name))


def _scan_of(source: SourceFolder, folder: str, jaw: str) -> str:
    return _one_of(source, folder, jaw, ".stl")


def _labels_of(source: SourceFolder, folder: str, jaw: str) -> str:
    usual = _join(folder, f"{jaw}_pred_landmarks.json")
    return usual if source.has(usual) else _one_of(source, folder, jaw, ".json")


def _one_of(source: SourceFolder, folder: str, jaw: str, suffix: str) -> str:
    """The one file of a jaw in a folder; raises CaseDefect where there is none, or several."""
    place = source.folder / folder
    names = sorted(file.name for file in place.iterdir()) if place.is_dir() else []
    fitting = [
        name for name in names if name.lower().endswith(suffix) and _jaw_of(name[: -len(suffix)]) == jaw
    ]
    if len(fitting) == 1:
        return _join(folder, fitting[0])
    what = "scan (STL)" if suffix == ".stl" else "labels (JSON)"
    if fitting:
        seen = f"{len(fitting)} files may be the {what} of the {jaw} jaw"
        raise CaseDefect("several_files", seen, "leave one of them there", file=source.location(folder))
    seen = f"no {what} of the {jaw} jaw"
    raise CaseDefect("missing_file", seen, AGAIN, file=source.location(folder))


def _jaw_of(stem: str) -> str:
    """Upper or lower by a file's name, or "" where it does not say, or says both."""
    lowered = stem.lower()
    words = {jaw for jaw, (word, other, _) in JAWS.items() if word in lowered or other in lowered}
    letters = {jaw for jaw, (_, _, letter) in JAWS.items() if letter in re.split(r"[^A-Za-z]+", stem)}
    letters = letters or {jaw for jaw, (_, _, letter) in JAWS.items() if letter in stem}
    found = words or letters
    return found.pop() if len(found) == 1 else ""


def _is_scan(file: str) -> bool:
    return file.lower().endswith((".stl", ".json"))


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


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
