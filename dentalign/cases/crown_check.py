"""Check that crowns are those of their teeth and stand upright in tooth-local coordinates.

A crown in head coordinates, upside down, mirrored or of another tooth gives a heap of teeth, and a model that learns
from it. Place and length are measured; for the rest a crown is compared with the average crown of its tooth, as it is
and turned over, turned around, mirrored, or as that of another tooth (`dentalign.geometry.average_crowns`). It is
suspected only if it fits clearly better so, and no small rotation makes it fit as it is; a crown that fits
nothing, worn, in part, or with gum, passes. What most of the crowns have in common excludes the case, what one crown
has drops its tooth.
"""

import functools
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dentalign.cases.settings import Limits
from dentalign.errors import CaseDefect, ToothDefect
from dentalign.geometry import rigid
from dentalign.geometry.arch_fit import find_arches, median
from dentalign.geometry.average_crowns import (
    AverageCrown,
    average_crown,
    mirrored_directions,
    surface_distances,
    surface_points,
)
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, Mouth
from dentalign.teeth import antimere, is_upper

MOST = 0.5  # of the crowns: what more have in common is the export's fault, not a tooth's
FEWEST = 3  # crowns that say something about a mouth
AT_POSE_MM = 5.0  # a crown in head coordinates lies this near to where the tooth's pose has it
SIZES = (0.6, 1.7)  # width and depth relative to average crowns, median over the mouth
# Of squared Mahalanobis distances: most real crowns have 20 to 150 from their own average.
CLEARLY = 12.0  # a crown that fits otherwise by so much better,
CLEARLY_OF_APART = 0.15  # and by such a share of what lies between the two averages,
CLEARLY_SHARE = 0.8  # and with at most so much of its misfit left
APART = 18.0  # between two averages: nearer ones cannot be told apart,
APART_MIRRORED = 45.0  # nor a crown from its mirror image, but for upper molars
SAME_MM = 0.01  # largest difference of the distances of one mesh under two numbers
FITS = 200.0  # a crown with more fits nothing
MOST_COUNTED = 20.0  # of one crown, in the mean over a mouth
MOUTH_CLEARLY = 4.0  # mean over the crowns of a mouth
FITS_NOTHING = 400.0  # median over the crowns of a mouth: these are no crowns
# Rotation vectors (12, 3): the axes of a tooth differ between exporters, most in how far a front tooth is tipped.
_TURNS = np.radians([angle * axis for angle in (-35.0, -18.0, 18.0, 35.0) for axis in np.eye(3)])

TURNED, MIRRORED, UPSIDE_DOWN = "crown_turned", "crown_mirrored", "crown_upside_down"
# Signs by which the axes of a wrong crown are multiplied -> reason code.
_FLIPS = {
    (-1, -1, 1): TURNED,
    (-1, 1, 1): MIRRORED,
    (1, -1, 1): MIRRORED,
    (1, -1, -1): UPSIDE_DOWN,
    (-1, 1, -1): UPSIDE_DOWN,
    (1, 1, -1): UPSIDE_DOWN,
    (-1, -1, -1): UPSIDE_DOWN,
}
_FLIP_NAMES = {
    TURNED: "turned by 180 deg about z",
    MIRRORED: "mirrored",
    UPSIDE_DOWN: "upside down",
}
_AXES = "+z from root to crown tip, +y buccal, x = y cross z (right-handed)"


@dataclass(frozen=True)
class CrownShape:
    """Place, size and surface of a crown.

    centre, extent : (3,) of its bounding box, mm, in the frame of the file
    points         : (256, 3) on its surface, tooth-local mm, our frame
    distances      : (98,) of the surface from the centre of the box, see `surface_distances`
    file           : path or URL, for the errors
    """

    centre: Array
    extent: Array
    points: Array
    distances: Array
    file: str


def shape_of(triangles: Array, to_ours: Array, file: str) -> CrownShape:
    """Measure a crown.

    triangles : (F, 3, 3) mm, in the frame of the file
    to_ours   : (3, 3) rotation from the exporter's tooth-local frame to ours
    raises    : ValueError where all triangles have area 0
    """
    low, high = triangles.min((0, 1)), triangles.max((0, 1))
    points = surface_points(triangles) @ to_ours.T
    return CrownShape((low + high) / 2, high - low, points, surface_distances(points), file)


def wrong_crowns(mouth: Mouth, shapes: Mapping[int, CrownShape], limits: Limits) -> dict[int, ToothDefect]:
    """Find the crowns that cannot be those of their teeth: slot -> defect, which drops the tooth.

    mouth  : poses at T1 and FDI numbers count
    shapes : slot -> its crown
    raises : CaseDefect where most crowns have the same fault, or fit no teeth at all
    """
    wrong = _far_off(mouth, shapes, limits) | _with_root(mouth, shapes, limits)
    fits = {slot: _Fit(int(mouth.fdi[slot]), shape) for slot, shape in shapes.items() if slot not in wrong}
    compared = {slot: fit for slot, fit in fits.items() if fit.average is not None}
    _refuse_other_shapes(mouth, compared)
    wrong |= _same_twice(compared)
    alone = {slot: _misfit(fit) for slot, fit in compared.items() if slot not in wrong}
    return wrong | {slot: defect for slot, defect in alone.items() if defect is not None}


def _far_off(mouth: Mouth, shapes: Mapping[int, CrownShape], limits: Limits) -> dict[int, ToothDefect]:
    """Find crowns that do not lie at the origin of their tooth-local frame."""
    away = {slot: float(np.linalg.norm(shape.centre)) for slot, shape in shapes.items()}
    far = [slot for slot in shapes if away[slot] > limits.max_from_origin_mm]
    at_pose = {slot: float(np.linalg.norm(shapes[slot].centre - mouth.pose[T1, slot, :3, 3])) for slot in far}
    fix = "export meshes in tooth-local coordinates, with the origin at the crown (limits.max_from_origin_mm)"
    if _are_most(far, shapes):
        seen = f"the centres of {len(far)} of {len(shapes)} crowns lie {_range(away[slot] for slot in far)} mm from "
        seen += "the tooth's origin: the meshes are in "
        if median(np.array(list(at_pose.values()))) < AT_POSE_MM:
            seen += (
                f"head coordinates ({_range(at_pose.values())} mm from where the poses at T1 have the teeth)"
            )
        else:
            seen += "one common frame (a jaw's or a scan's)"
        raise CaseDefect("mesh_far_off", seen, fix, file=shapes[far[0]].file)
    return {
        slot: ToothDefect(
            "mesh_far_off",
            f"the crown's centre lies {away[slot]:.3g} mm from the tooth's origin"
            + (
                f": it is in head coordinates ({at_pose[slot]:.1f} mm from where its pose at T1 has the tooth)"
                if at_pose[slot] < AT_POSE_MM
                else ": it is in the frame of a jaw or a scan?"
            ),
            fix,
            file=shapes[slot].file,
            tooth=int(mouth.fdi[slot]),
        )
        for slot in far
    }


def _with_root(mouth: Mouth, shapes: Mapping[int, CrownShape], limits: Limits) -> dict[int, ToothDefect]:
    """Find meshes that are too long from root to tip for a crown."""
    tall = {slot: float(shape.extent[2]) for slot, shape in shapes.items()}
    found = [slot for slot in shapes if tall[slot] > limits.max_crown_height_mm]
    fix = "export crowns without roots (limits.max_crown_height_mm)"
    most = f"a crown is at most {limits.max_crown_height_mm:g} mm from root to tip (z)"
    if _are_most(found, shapes):
        seen = (
            f"{len(found)} of {len(shapes)} meshes are {_range(tall[slot] for slot in found)} mm long; {most}"
        )
        raise CaseDefect("whole_tooth", seen, fix, file=shapes[found[0]].file)
    return {
        slot: ToothDefect(
            "whole_tooth",
            f"the mesh is {tall[slot]:.3g} mm long; {most}",
            fix,
            file=shapes[slot].file,
            tooth=int(mouth.fdi[slot]),
        )
        for slot in found
    }


class _Fit:
    """Misfits of a crown to the average crown of its tooth: as it is, and with its axes multiplied by signs.

    average   : None for teeth that have no average crown
    as_it_is  : squared Mahalanobis distance
    otherwise : (7,) the same, in the order of _FLIPS
    """

    def __init__(self, fdi: int, shape: CrownShape):
        self.fdi, self.shape, self.average = fdi, shape, average_crown(fdi)
        if self.average is None:
            return
        self.distances = self._as_on_one_side(shape.distances)
        self.as_it_is = float(self.average.misfit(self.distances))
        self.otherwise = self.average.misfit(self.distances[_orders()])

    @functools.cached_property
    def at_best(self) -> float:
        """Least misfit as it is, also under small rotations."""
        assert self.average is not None
        turned = [self._as_on_one_side(surface_distances(self.shape.points @ turn.T)) for turn in _turns()]
        return min(self.as_it_is, float(self.average.misfit(np.stack(turned)).min()))

    def _as_on_one_side(self, distances: Array) -> Array:
        """Mirror the distances of a crown of quadrant 2 or 4, whose +x is distal."""
        return distances[mirrored_directions(-1, 1, 1)] if self.fdi // 10 % 2 == 0 else distances


def _refuse_other_shapes(mouth: Mouth, fits: Mapping[int, _Fit]) -> None:
    """Raise CaseDefect where the crowns of a mouth are all too large or small, no crowns, or all flipped."""
    if len(fits) < FEWEST:
        return
    averages = [fit.average for fit in fits.values() if fit.average is not None]
    first = next(iter(fits.values())).shape.file
    widths = np.array([fit.shape.extent[:2].sum() for fit in fits.values()])
    size = float(median(widths / [average.extent[:2].sum() for average in averages]))
    if not SIZES[0] < size < SIZES[1]:
        seen = f"the crowns are {size:.2g} times as wide as average ones (median of {len(fits)})"
        raise CaseDefect("crown_size", seen, "check the unit of the export (mm)", file=first)
    better = np.stack([fit.as_it_is - fit.otherwise for fit in fits.values()])
    worst = int(_mean_of(better).argmax())
    if _mean_of(better)[worst] > 0:  # then it pays to look closer
        better += np.array([fit.at_best - fit.as_it_is for fit in fits.values()])[:, None]
        worst = int(_mean_of(better).argmax())
    if _mean_of(better)[worst] > MOUTH_CLEARLY:
        code = list(_FLIPS.values())[worst]
        many = int((better[:, worst] > 0).sum())
        seen = f"{many} of {len(fits)} crowns fit average ones better {_FLIP_NAMES[code]} than as they are"
        raise CaseDefect(code, seen, _fix_of_all(code, mouth), file=first)
    if (nothing := float(median(np.array([fit.as_it_is for fit in fits.values()])))) > FITS_NOTHING:
        off = median(np.array([fit.average.away_mm(fit.distances) for fit in fits.values() if fit.average]))
        seen = f"the meshes differ from average crowns by {off:.1f} mm (RMS, median of {len(fits)})"
        raise CaseDefect("not_crowns", seen, "export the crowns, not roots or gum", file=first)


def _same_twice(fits: Mapping[int, _Fit]) -> dict[int, ToothDefect]:
    """Find crowns that two teeth have: the one that fits its tooth worse is wrong, or both if that is not clear.

    A crown that is its own mirror image, such as one of a library, may be that of both sides.
    """
    found = {}
    for one, other in itertools.combinations(fits, 2):
        here, there = fits[one].shape.distances, fits[other].shape.distances
        if abs(here[0] - there[0]) > SAME_MM or np.abs(here - there).max() > SAME_MM or np.abs(here - there[_orders()[1]]).max() < 10 * SAME_MM:
            continue
        worse = fits[one].as_it_is - fits[other].as_it_is
        for slot, twin in ((one, other), (other, one)):
            if (worse if slot == one else -worse) > -CLEARLY:
                seen = f"the mesh is that of tooth {fits[twin].fdi}, too"
                fix = "export each tooth's own mesh"
                found[slot] = ToothDefect(
                    "same_mesh", seen, fix, file=fits[slot].shape.file, tooth=fits[slot].fdi
                )
    return found


def _misfit(fit: _Fit) -> ToothDefect | None:
    """Find what is wrong with one crown; None if it may be right."""
    assert fit.average is not None
    flips = fit.average.misfit(fit.average.mean[_orders()])
    flips[(np.array(list(_FLIPS.values())) == MIRRORED) & (flips < APART_MIRRORED)] = 0
    kinds = _other_kinds(fit.fdi)
    best = _clearly_best(fit, fit.otherwise, flips)
    if best is not None:
        code = list(_FLIPS.values())[best]
        away = fit.average.away_mm(fit.distances), fit.average.away_mm(fit.distances[_orders()[best]])
        seen = f"the crown is {away[0]:.1f} mm off an average one (RMS), {_FLIP_NAMES[code]} {away[1]:.1f} mm"
        fix = f"export the mesh with {_AXES}"
        if code == MIRRORED:
            fix = f"see whether it is the crown of tooth {antimere(fit.fdi)}, or mirrored"
        return ToothDefect(code, seen, fix, file=fit.shape.file, tooth=fit.fdi)
    misfits = np.array([float(other.misfit(fit.distances)) for _, other in kinds])
    best = _clearly_best(fit, misfits, np.array([float(other.misfit(fit.average.mean)) for _, other in kinds]))
    if best is not None:
        away = fit.average.away_mm(fit.distances), kinds[best][1].away_mm(fit.distances)
        seen = (
            f"the crown is {away[0]:.1f} mm off an average one (RMS), "
            f"{away[1]:.1f} mm off that of tooth {kinds[best][0]}"
        )
        fix = "see whether meshes are exchanged"
        return ToothDefect("other_tooth", seen, fix, file=fit.shape.file, tooth=fit.fdi)
    return None


def _clearly_best(fit: _Fit, misfits: Array, apart: Array) -> int | None:
    """Index of the least misfit (N,) if the crown is clearly better so than as it is, also if that is turned.

    apart : (N,) misfit of the tooth's average crown itself
    """
    possible = np.where(apart > APART, misfits, np.inf)
    best = int(possible.argmin())

    def better_than(as_it_is: float) -> bool:
        gain = as_it_is - float(possible[best])
        return gain > max(CLEARLY, CLEARLY_OF_APART * apart[best], (1 - CLEARLY_SHARE) * as_it_is)

    found = possible[best] < FITS and better_than(fit.as_it_is) and better_than(fit.at_best)
    return best if found else None


@functools.cache
def _other_kinds(fdi: int) -> list[tuple[int, AverageCrown]]:
    """Average crowns of other kinds of tooth (incisor, canine, premolar, molar), of both arches."""
    kinds = [10 * quadrant + number for quadrant in (1, 3) for number in range(1, 8)]
    side = fdi // 10 in (2, 3)
    named = [(number if is_upper(number) != side else antimere(number)) for number in kinds]
    found = [(number, average_crown(number)) for number in named if _kind(number) != _kind(fdi)]
    return [(number, crown) for number, crown in found if crown is not None]


def _kind(fdi: int) -> int:
    return (0, 0, 0, 1, 2, 2, 3, 3, 3)[fdi % 10]


def _fix_of_all(code: str, mouth: Mouth) -> str:
    if code == TURNED:
        arches = find_arches(mouth.pose[T1], np.flatnonzero(mouth.present[T1]))
        if not any(
            arch.normal is not None for arch in arches
        ):  # nothing has compared the poses with the arch
            return 'set source.buccal_axis: "-y" in params.yaml (if it is "-y" already: "+y")'
        return "the poses have buccal where it belongs: export the meshes in the same tooth-local frame, +y buccal"
    return f"export tooth-local meshes with {_AXES}"


def _are_most(found: list[int], shapes: Mapping[int, CrownShape]) -> bool:
    return len(found) >= FEWEST and len(found) > MOST * len(shapes)


def _mean_of(better: Array) -> Array:
    return np.clip(better, -MOST_COUNTED, MOST_COUNTED).mean(0)


def _range(values: Iterable[float]) -> str:
    """Least and most, such as "21 to 48"."""
    every = sorted(values)
    return f"{every[0]:.2g} to {every[-1]:.2g}"


@functools.cache
def _orders() -> NDArray[np.intp]:
    """Permutations (7, 98) of the distances of a crown, in the order of _FLIPS."""
    return np.stack([mirrored_directions(*signs) for signs in _FLIPS])


@functools.cache
def _turns() -> Array:
    return rigid.rotation_matrix(_TURNS)
