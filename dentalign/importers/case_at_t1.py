"""Case at T1, without a plan, from the crowns of a mouth in one common frame."""

from collections.abc import Mapping, Sequence

import numpy as np
from trimesh import Trimesh

from dentalign.cases.left_out import NO_TEETH_OF_T1
from dentalign.cases.settings import Limits
from dentalign.cases.slots import slot_of
from dentalign.errors import CaseDefect, ToothDefect
from dentalign.geometry import rigid
from dentalign.geometry.average_mouth import average_mouth, crown_width_mm
from dentalign.importers.base import ImportedCase
from dentalign.importers.frames import MouthFrame, ScannedMouth
from dentalign.teeth import LOWER, UPPER, is_upper

SLIVER_MM = 5.0  # from mesial to distal: no molar is so narrow (8.5 to 11 mm on the average)
FIRST_MOLAR = 6
# Between the centroids of the arches in occlusion: 4.7 to 11.8 mm above each other, and up to 6.5 mm aside of
# where the average mouth has them, in 174 mouths, severe Class II and III and open bites among them.
ABOVE_MM, ASIDE_MM = (2.0, 16.0), 13.0
FEWEST_SIZES = 10  # crowns of an arch: fewer do not show that all are numbered one too far
# Correlation of sizes with mean widths; where all are numbered one too far it is at least 0.12 less.
CLEARLY = 0.1
SIDES = "left, right and up"


def case_at_t1(mouth: ScannedMouth, file: str, *, by_numbers: bool = False) -> ImportedCase:
    """Make a case at T1 from the crowns of a mouth: find its head frame and its tooth-local frames.

    file       : folder or scan, for the errors
    by_numbers : True to trust the tooth numbers about left and right where nothing else shows which way is up
    raises     : CaseDefect if the case as a whole cannot be used
    """
    lost = [defect for defect in mouth.lost if defect.code not in NO_TEETH_OF_T1]
    if len(lost) > Limits().max_dropped_teeth or not mouth.crowns:
        raise _too_many_lost(lost, file)
    _refuse_one_place(mouth, file)
    frame = mouth.frame_of_labels(file, by_numbers=by_numbers)
    _refuse_apart(mouth, frame, file)
    poses = mouth.tooth_poses(frame)
    crowns = mouth.local_crowns(poses)
    slivers = [
        _sliver(fdi, crown, file) for fdi, crown in crowns.items() if _width_mm(fdi, crown) < SLIVER_MM
    ]
    if len(slivers) == len(crowns):
        raise _too_many_lost([*lost, *slivers], file)
    kept = crowns.keys() - {defect.tooth for defect in slivers}
    _refuse_shifted({fdi: crowns[fdi] for fdi in kept}, file)
    found = "from the tooth numbers" + (", confirmed by the crowns" if frame.sides else " alone")
    return ImportedCase(
        crowns={fdi: crowns[fdi] for fdi in crowns if fdi in kept},
        t1={fdi: frame.to_head @ poses[fdi] for fdi in crowns if fdi in kept},
        t2=None,
        lost=(*mouth.lost, *slivers),
        notes={SIDES: found, "crowns open at the gum": "yes" if mouth.axes else "no"},
    )


def _too_many_lost(lost: Sequence[ToothDefect], file: str) -> CaseDefect:
    numbers = ", ".join(str(defect.tooth) for defect in lost)
    seen = f"teeth that cannot be used: {numbers}" if lost else "no tooth is labelled"
    return CaseDefect("too_many_lost", seen, "leave the case out", file=file)


def _width_mm(fdi: int, crown: Trimesh) -> float:
    """Extent of a molar from mesial to distal; infinite for other teeth, which may be narrow."""
    return float(np.ptp(crown.vertices[:, 0])) if fdi % 10 >= FIRST_MOLAR else np.inf


def _sliver(fdi: int, crown: Trimesh, file: str) -> ToothDefect:
    seen = f"the molar is {_width_mm(fdi, crown):.1f} mm wide (under {SLIVER_MM:g}): cut off by the edge?"
    return ToothDefect("sliver", seen, "nothing, or scan the whole tooth", file=file, tooth=fdi)


def _refuse_one_place(mouth: ScannedMouth, file: str) -> None:
    """Raise CaseDefect if each crown stands at the origin of its own frame."""
    centroids = np.stack(list(mouth.centroids.values()))
    largest = max(float(np.ptp(crown.vertices, axis=0).max()) for crown in mouth.crowns.values())
    if len(centroids) > 1 and np.linalg.norm(centroids - centroids[0], axis=1).max() < largest:
        seen = "all crowns stand in one place: each is in its own coordinates"
        fix = "export the crowns where they stand in the mouth"
        raise CaseDefect("poses_at_one_place", seen, fix, file=file)


def _refuse_apart(mouth: ScannedMouth, frame: MouthFrame, file: str) -> None:
    """Raise CaseDefect if the arches do not stand in occlusion, which is where T1 has them."""
    jaws = [[fdi for fdi in mouth.crowns if is_upper(fdi) == upper] for upper in (True, False)]
    if not all(jaws):
        return
    places = [rigid.apply(frame.to_head, [mouth.centroids[fdi] for fdi in jaw]) for jaw in jaws]
    usual = [average_mouth().position[[slot_of(fdi) for fdi in jaw]] for jaw in jaws]
    # In millimetres of an average mouth, whatever the unit: the pipeline's checks name a wrong one.
    scale = sum(place.std(0).sum() for place in usual) / sum(place.std(0).sum() for place in places)
    apart = (places[0].mean(0) - places[1].mean(0)) * scale
    # One arch may have its front teeth only: then the average mouth's are apart, too.
    aside_mm = float(np.linalg.norm((apart - usual[0].mean(0) + usual[1].mean(0))[:2]))
    if not ABOVE_MM[0] <= apart[2] <= ABOVE_MM[1] or aside_mm > ASIDE_MM:
        seen = (
            f"the upper arch stands {apart[2]:.1f} mm above the lower one (expected: {ABOVE_MM[0]:g} to "
            f"{ABOVE_MM[1]:g}) and {aside_mm:.1f} mm aside of its place (at most {ASIDE_MM:g})"
        )
        fix = "export both jaws in occlusion, in one frame, or each as a case of its own"
        raise CaseDefect("arches_apart", seen, fix, file=file)


def _refuse_shifted(crowns: Mapping[int, Trimesh], file: str) -> None:
    """Raise CaseDefect if the crowns of an arch have the sizes of the teeth beside them.

    Programs that count the teeth of a jaw from 1 are read as Universal numbers, which begin at third molars.
    """
    for name, arch in (("upper", UPPER), ("lower", LOWER)):
        for step in (-1, 1):
            places = [at for at, fdi in enumerate(arch) if fdi in crowns and 0 <= at + step < len(arch)]
            if len(places) < FEWEST_SIZES:
                continue
            size = np.log([crowns[arch[at]].area for at in places])
            as_numbered, as_shifted = (
                np.corrcoef(size, np.log([crown_width_mm(arch[at + by]) for at in places]))[0, 1]
                for by in (0, step)
            )
            if as_shifted > as_numbered + CLEARLY:
                seen = f"by the sizes of the crowns, the tooth numbers of the {name} arch are wrong by one"
                fix = "teeth that a program counts from 1 need FDI numbers, or a file for --labels"
                raise CaseDefect("numbers_shifted", seen, fix, file=file)
