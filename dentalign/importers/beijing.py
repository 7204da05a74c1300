"""Importer of the set of Beijing Stomatological Hospital: scans before and after treatment.

    <phase>/ori/*U*.stl, *L*.stl, uppper_mark.json (sic), lower_mark.json    <phase>/final/...

`ori` has the scans before treatment. Each other folder beside it, usually `final`, has scans after treatment
and makes one case. `<phase>/<anything>/ori` is read, too. The key `segmentation` of the JSON has the vertices
of each tooth. The tooth-local frames are made from the scan before treatment; the motion to the scan after it
is found by registration, tooth by tooth. File names vary in the set, and are matched as in a loader that the
authors of the set published; where that loader takes the first of several files, the case is refused here.

`<phase>` is a phase of treatment. The set does not say which phases belong to one patient: cases whose crowns
have the same shapes (`crown_shapes`) are assigned to one patient. Source: Sci Data 2024, 11:1277.
"""

from collections import Counter, defaultdict
from statistics import fmean

import numpy as np

from dentalign.cases.settings import Limits
from dentalign.errors import CaseDefect, DentalignError, ToothDefect
from dentalign.geometry import rigid, stl
from dentalign.geometry.rigid import Array
from dentalign.importers import crown_cutting
from dentalign.importers.base import FoundCase, ImportedCase, Importer
from dentalign.importers.crown_cutting import LABEL_IS_WRONG
from dentalign.importers.crown_shapes import shapes_of
from dentalign.importers.frames import ScannedMouth
from dentalign.importers.jaw_names import JAWS, jaw_of
from dentalign.importers.registration import Registration, common_frame, register
from dentalign.importers.source_folder import MAX_SCAN_MB, SourceFolder
from dentalign.teeth import is_known, is_upper

BEFORE, USUAL_AFTER = "ori", "final"
# Names of labels and scans in the set, the better one first; U and L may stand anywhere in others.
USUAL = {
    "upper": ("uppper_mark", "upper_mark", "upper_pred_landmarks"),
    "lower": ("lower_mark", "lower_pred_landmarks"),
}
MOVED = "not that of the scans before; registered on the teeth that moved least"
RESIDUAL = "residual of the registration, mean over a case's teeth (mm)"
MAX_RESIDUAL_MM = 0.2
FEWEST_COMMON = 6  # teeth in both scans
MOST_PAIRS = 12  # of a patient; the set has 2.4 on the average


class Beijing(Importer):
    """Importer of pairs of scans, before and after treatment."""

    name = "beijing"
    missing = f"no folder '{BEFORE}' with another one beside it (such as '{USUAL_AFTER}'); unpack the archive"

    def find(self, source: SourceFolder) -> list[FoundCase]:
        """Find pairs of folders of scans side by side: `ori` (before) and any other (after) make a case.

        An `ori` alone is found, too, to be listed as left out. Cases in one top folder have one patient id.
        """
        scans: dict[str, list[str]] = defaultdict(list)
        for file in source.find("**/*.*"):
            if file.lower().endswith((".stl", ".json")):
                scans[file.rpartition("/")[0]].append(file)
        found = []
        for before in source.find(f"**/{BEFORE}"):
            name = before.rpartition("/")[0]
            after = [folder for folder in scans if folder.rpartition("/")[0] == name and folder != before]
            # A folder `ori` with nothing beside it is half a pair: found, and left out with a reason.
            for place in after or [f"{name}/{USUAL_AFTER}".lstrip("/")]:
                patient_id = f"beijing-{name.partition('/')[0]}"
                files = (*scans.get(before, ()), *scans.get(place, ()))
                found.append(FoundCase(f"beijing-{place.replace('/', '-')}", patient_id, place, files))
        _refuse_other_level(source, [case.place.rpartition("/")[0] for case in found])
        return sorted(found, key=lambda case: (case.case_id, case.place))

    def read(self, source: SourceFolder, case: FoundCase) -> ImportedCase:
        """Cut the crowns out of both scans, and register each tooth from the scan before to the scan after.

        The head frame and the tooth-local frames are made from the scan before treatment.
        """
        file, first = source.location(case.place), f"{case.place.rpartition('/')[0]}/{BEFORE}"
        before, after = _read_mouth(source, first), _read_mouth(source, case.place)
        common = sorted(before.crowns.keys() & after.crowns.keys())
        if len(common) < FEWEST_COMMON:
            seen = f"{len(common)} teeth are in both scans, at least {FEWEST_COMMON} are needed"
            raise CaseDefect("too_few_common", seen, "leave the case out", file=file)
        frame = before.frame_of_labels(source.location(first))
        poses = before.tooth_poses(frame)
        centroids = [np.stack([mouth.centroids[fdi] for fdi in common]) for mouth in (before, after)]
        back, elsewhere = common_frame(*centroids)
        found = {fdi: _register(before, after, fdi, back) for fdi in common}
        failed = {fdi for fdi, one in found.items() if one.residual_mm > MAX_RESIDUAL_MM}
        # A label without a crown in the scan after treatment is a wrong label, not an extraction.
        unclear = [defect for defect in after.lost if defect.tooth in before.crowns]
        lost = [*before.lost, *(_unexplained(fdi, found[fdi], file) for fdi in sorted(failed)), *unclear]
        if len(lost) > Limits().max_dropped_teeth:
            seen = f"{len(lost)} teeth cannot be used: " + ", ".join(str(defect.tooth) for defect in lost)
            raise CaseDefect("too_many_lost", seen, "leave the case out", file=file)
        erupted = after.crowns.keys() - before.crowns.keys() - {defect.tooth for defect in before.lost}
        said = "only the scan after treatment has the tooth", "nothing, if it erupted: it is not imported"
        only_after = [ToothDefect("t2_only", *said, file=file, tooth=fdi) for fdi in sorted(erupted)]
        gone = failed | {defect.tooth for defect in unclear}
        kept = [fdi for fdi in before.crowns if fdi not in gone]
        local = before.local_crowns(poses)
        scans = [_file_of(source, first, jaw, ".stl") for jaw in JAWS]
        return ImportedCase(
            crowns={fdi: local[fdi] for fdi in kept},
            t1={fdi: frame.to_head @ poses[fdi] for fdi in kept},
            t2={fdi: frame.to_head @ back @ found[fdi].motion @ poses[fdi] for fdi in kept if fdi in found},
            lost=(*lost, *only_after),
            registrations=tuple(
                (fdi, one.method, one.residual_mm, fdi not in failed) for fdi, one in found.items()
            ),
            # The same scan in two folders is the same patient.
            patient_marks=tuple(stl.mesh_sha256(source.read(scan, MAX_SCAN_MB)) for scan in scans),
            crown_shapes=shapes_of(before.crowns),
            notes={"frame of the scans after treatment": MOVED if elsewhere else "that of the scans before"},
            figures={RESIDUAL: fmean(one.residual_mm for one in found.values())},
        )


def _register(before: ScannedMouth, after: ScannedMouth, fdi: int, back: Array) -> Registration:
    # ICP starts with the mouths on each other and the centroids of the tooth brought together.
    rotation = rigid.inverse(back)[:3, :3]
    start = rigid.from_rotation(rotation, after.centroids[fdi] - rotation @ before.centroids[fdi])
    points = before.points[fdi], after.points[fdi]
    return register(before.crowns[fdi], after.crowns[fdi], points, start)


def _unexplained(fdi: int, one: Registration, file: str) -> ToothDefect:
    seen = (
        f"after the best rigid fit, the crowns before and after treatment differ by {one.residual_mm:.2f} mm "
        f"(RMS), at most {MAX_RESIDUAL_MM:g} mm is accepted"
    )
    fix = "nothing: the crown has changed its shape, or a label is wrong"
    return ToothDefect("registration_residual", seen, fix, file=file, tooth=fdi)


def _read_mouth(source: SourceFolder, folder: str) -> ScannedMouth:
    """Cut the crowns of both jaws out of the scans in a folder."""
    mouth = ScannedMouth({})
    for jaw in JAWS:
        scan, labels = (_file_of(source, folder, jaw, suffix) for suffix in (".stl", ".json"))
        points, unknown = _labelled_points(source, labels, jaw)
        surface = crown_cutting.surface(source.triangles(scan, max_mb=MAX_SCAN_MB))
        numbers = crown_cutting.labels_of_points(surface.vertices, points, source.location(labels))
        crowns, lost = crown_cutting.cut(surface, numbers, source.location(labels))
        mouth = ScannedMouth(
            {**mouth.crowns, **crowns}, (*mouth.lost, *unknown, *lost), {**mouth.points, **points}
        )
    return mouth


def _labelled_points(source: SourceFolder, name: str, jaw: str) -> tuple[dict[int, Array], list[ToothDefect]]:
    """Read the labelled points of one jaw: FDI -> (N, 3), mm, and the numbers that are no tooth.

    Keys of two digits are teeth; others ("0", "gum") are what is no tooth.
    """
    segmentation = source.json_object(name).get("segmentation")
    if not isinstance(segmentation, dict):
        raise source.defect("damaged_labels", name, "no object 'segmentation'")
    points, unknown = {}, []
    for key, value in sorted(segmentation.items()):
        if not (key.isascii() and key.isdigit() and len(key) == 2):
            continue
        if not is_known(int(key)):
            seen, file = f"tooth number {key} is not in the FDI scheme", source.location(name)
            unknown.append(ToothDefect("unknown_tooth", seen, LABEL_IS_WRONG, file=file, tooth=key))
            continue
        if is_upper(int(key)) != (jaw == "upper"):
            raise source.defect("damaged_labels", name, f"tooth {key} in the labels of the {jaw} jaw")
        try:
            vertices = np.array(value["vertices"], dtype=np.float64).reshape(-1, 3)
        except (TypeError, ValueError, KeyError, IndexError):
            seen = f"tooth {key}: 'vertices' is no list of points"
            raise source.defect("damaged_labels", name, seen) from None
        source.check_coordinates(name, vertices, int(key))
        if len(vertices):
            points[int(key)] = vertices
    if not points:
        raise source.defect("damaged_labels", name, "no tooth is labelled")
    return points, unknown


def _file_of(source: SourceFolder, folder: str, jaw: str, suffix: str) -> str:
    """Find the scan (.stl) or the labels (.json) of a jaw; raises CaseDefect if there is none, or several."""
    for usual in USUAL[jaw]:
        if source.has(f"{folder}/{usual}{suffix}"):
            return f"{folder}/{usual}{suffix}"
    place = source.folder / folder
    files = place.iterdir() if place.is_dir() else ()
    fitting = [file.name for file in files if file.suffix.lower() == suffix and _jaw_of(file.stem) == jaw]
    if len(fitting) == 1:
        return f"{folder}/{fitting[0]}"
    what = f"{'scan (STL)' if suffix == '.stl' else 'labels (JSON)'} of the {jaw} jaw"
    if fitting:
        seen = f"{len(fitting)} files may be the {what}"
        raise CaseDefect("several_files", seen, "keep one of them", file=source.location(folder))
    raise source.defect("missing_file", folder, f"no {what}")


def _jaw_of(stem: str) -> str:
    """Find the jaw in a file's name, as `jaw_of`; if it finds none, by a U or L anywhere."""
    letters = [jaw for jaw, letter in zip(JAWS, "UL", strict=True) if letter in stem]
    return jaw_of(stem) or (letters[0] if len(letters) == 1 else "")


def _refuse_other_level(source: SourceFolder, names: list[str]) -> None:
    """Raise DentalignError if the folders named first cannot be patients: the split depends on them."""
    pairs = Counter(name.partition("/")[0] for name in names)
    fix = "name the folder that holds the patients' folders"
    if "" in names:
        raise DentalignError(f"{source.folder}: has a folder '{BEFORE}', so it is one patient's; {fix}")
    for patient, count in pairs.items():
        inside = source.folder / patient
        if count > MOST_PAIRS or (len(pairs) == 1 and count > 1 and patient not in names):
            raise DentalignError(
                f"{inside}: holds {count} pairs, so it seems to hold several patients; {fix} ({inside}?)"
            )
