"""Check that each crown mesh is that of its tooth, and upright in tooth-local coordinates.

A model would learn from a crown that is in head coordinates, upside down, mirrored or of another tooth. The
first checks find meshes that are far from the origin or too long, and two teeth with the same mesh.
The other checks compare a crown with the average crown of its tooth (`dentalign.geometry.average_crowns`): as
it is, with its axes flipped, and with average crowns of other kinds of teeth. A crown is wrong only if it
clearly fits better flipped or as another kind, and no small rotation makes it fit as it is. A crown that fits
no average (worn, incomplete, with gum) passes.

A fault of most crowns in a mouth comes from the export and excludes the case; a fault of a single crown drops
its tooth. Third molars and primary teeth have no average crown here, so only the first checks apply to them.
"""

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
from dentalign.teeth import MIRRORED_SLOT, antimere

CODES = (
    "mesh_far_off",
    "whole_tooth",
    "crown_size",
    "crown_upside_down",
    "crown_turned",
    "crown_mirrored",
    "not_crowns",
    "same_mesh",
    "other_tooth",
)

MOST = 0.5  # of the crowns: what more have in common is of the export
FEWEST = 3  # crowns that say something about a mouth
AT_POSE_MM = 5.0  # a crown in head coordinates lies this near to where the tooth's pose has it
SIZES = 0.6, 1.7  # width and depth relative to average crowns, median over a mouth
SAME_MM = 0.01  # largest difference between the distances of one mesh under two numbers

# Misfits are squared Mahalanobis distances: most real crowns have 20 to 150 from their own average. A crown
# that is suspected fits otherwise better by all three of these,
CLEARLY = 22.0
CLEARLY_OF_MISFIT = 0.1  # of its misfit as it is
CLEARLY_OF_FLIPPED, CLEARLY_OF_KINDS = 0.15, 0.55  # of what an average crown would gain
FITS = 200.0  # and fits otherwise at all. A flipped one is CLEARLY nearer to its antimere, too.
CLEARLY_ALONE = 45.0  # in place of CLEARLY, where the antimere is missing
# Crowns that would gain less cannot be told apart; of those mirrored in x that leaves the upper molars.
APART, APART_MIRRORED, APART_KINDS = 18.0, 45.0, 38.0
APART_KINDS_BACK = 45.0  # the other way round: second upper molars vary so much that premolars are among them
MOST_COUNTED = 20.0  # of one crown, in the mean over a mouth
MOUTH_CLEARLY = 4.0  # the mean by which the crowns of a mouth fit better otherwise

TURNED, MIRRORED, UPSIDE_DOWN = "crown_turned", "crown_mirrored", "crown_upside_down"
# Signs of the axes of a wrong crown, and its reason code.
_FLIPS = (
    ((-1, -1, 1), TURNED),
    ((-1, 1, 1), MIRRORED),
    ((1, -1, 1), MIRRORED),
    ((1, -1, -1), UPSIDE_DOWN),
    ((-1, 1, -1), UPSIDE_DOWN),
    ((1, 1, -1), UPSIDE_DOWN),
    ((-1, -1, -1), UPSIDE_DOWN),
)
_SAID = {TURNED: "turned by 180 deg about z", MIRRORED: "mirrored", UPSIDE_DOWN: "upside down"}
_ORDERS = np.stack([mirrored_directions(*signs) for signs, _ in _FLIPS])  # of the distances: (7, 98)
_MIRROR_X = mirrored_directions(-1, 1, 1)
_IS_MIRRORED_IN_X = np.array([signs == (-1, 1, 1) for signs, _ in _FLIPS])
# Exporters' axes of a tooth differ, most in how far a front tooth is inclined: (12, 3, 3).
_TURNS = rigid.rotation_matrix(
    np.radians([angle * axis for angle in (-35.0, -18.0, 18.0, 35.0) for axis in np.eye(3)])
)
_AXES = "+z from root to crown tip, +y buccal, x = y cross z"


@dataclass(frozen=True)
class CrownShape:
    """Position, size and surface of a crown mesh.

    centre, extent : (3,) centre and side lengths of the bounding box, mm, as in the mesh file
    points         : (256, 3) on the surface, mm, in our tooth-local frame
    distances      : (98,) mm, from the centre of the bounding box to the surface, see `surface_distances`
    file           : path or URL, for the errors
    """

    centre: Array
    extent: Array
    points: Array
    distances: Array
    file: str


def shape_of(triangles: Array, to_ours: Array, file: str) -> CrownShape:
    """Measure a crown mesh.

    triangles : (F, 3, 3) mm, as in the mesh file
    to_ours   : (3, 3) rotation from the exporter's tooth-local frame to ours
    raises    : ValueError where all triangles have area 0
    """
    corners = np.ascontiguousarray(triangles.reshape(-1, 9).T)  # contiguous: a tenth of the time
    low, high = corners.min(1).reshape(3, 3).min(0), corners.max(1).reshape(3, 3).max(0)
    points = surface_points(triangles) @ to_ours.T
    return CrownShape((low + high) / 2, high - low, points, surface_distances(points), file)


def wrong_crowns(mouth: Mouth, shapes: Mapping[int, CrownShape], limits: Limits) -> dict[int, ToothDefect]:
    """Find the crowns that cannot be those of their teeth.

    mouth   : only its poses at T1 and its FDI numbers are used
    shapes  : slot -> crown
    returns : slot -> defect of each wrong crown
    raises  : CaseDefect where most crowns have the same fault, or are no crowns at all
    """
    wrong = _whole_teeth(mouth, shapes, limits)
    wrong |= _far_off(mouth, {slot: shape for slot, shape in shapes.items() if slot not in wrong}, limits)
    wrong |= _same_meshes(mouth, {slot: shape for slot, shape in shapes.items() if slot not in wrong})
    fits = {}
    for slot, shape in shapes.items():
        fdi = int(mouth.fdi[slot])
        if slot not in wrong and (average := average_crown(fdi)) is not None:
            fits[slot] = _Fit(fdi, shape, average)
    _refuse_other_shapes(mouth, list(fits.values()))
    for slot, fit in fits.items():
        other = fits.get(int(MIRRORED_SLOT[slot]))
        if (defect := _flipped(fit, other) or _of_other_kind(fit)) is not None:
            wrong[slot] = defect
    return wrong


def _whole_teeth(mouth: Mouth, shapes: Mapping[int, CrownShape], limits: Limits) -> dict[int, ToothDefect]:
    """Find meshes that are too long from root to tip for a crown."""
    long = {slot: float(shape.extent[2]) for slot, shape in shapes.items()}
    found = [slot for slot in shapes if long[slot] > limits.max_crown_height_mm]
    most = f"a crown is at most {limits.max_crown_height_mm:g} mm from root to tip"
    fix = "export crowns without roots (limits.max_crown_height_mm)"
    if _are_most(found, shapes):
        seen = f"{len(found)} of {len(shapes)} meshes are {_range(long[slot] for slot in found)} mm long"
        raise CaseDefect("whole_tooth", f"{seen} along z; {most}", fix, file=shapes[found[0]].file)
    defects = {}
    for slot in found:
        seen = f"the mesh is {long[slot]:.3g} mm long along z; {most}"
        defects[slot] = _defect("whole_tooth", seen, fix, mouth, shapes, slot)
    return defects


def _far_off(mouth: Mouth, shapes: Mapping[int, CrownShape], limits: Limits) -> dict[int, ToothDefect]:
    """Find crowns that do not lie at the origin of their tooth-local frame."""
    away = {slot: float(np.linalg.norm(shape.centre)) for slot, shape in shapes.items()}
    found = [slot for slot in shapes if away[slot] > limits.max_from_origin_mm]
    by_pose = {
        slot: float(np.linalg.norm(shapes[slot].centre - mouth.pose[T1, slot, :3, 3])) for slot in found
    }
    fix = "export meshes in tooth-local coordinates, their origin at the crown (limits.max_from_origin_mm)"
    if _are_most(found, shapes):
        where = "one common frame, of a jaw or a scan"
        if median(np.array(list(by_pose.values()))) < AT_POSE_MM:
            where = f"head coordinates ({_range(by_pose.values())} mm from the positions of the teeth at T1)"
        seen = (
            f"the centres of {len(found)} of {len(shapes)} crowns lie "
            f"{_range(away[slot] for slot in found)} mm from the origins of their teeth: they are in {where}"
        )
        raise CaseDefect("mesh_far_off", seen, fix, file=shapes[found[0]].file)
    defects = {}
    for slot in found:
        where = "another frame (of a jaw or a scan?)"
        if by_pose[slot] < AT_POSE_MM:
            where = f"head coordinates ({by_pose[slot]:.1f} mm from the position of the tooth at T1)"
        seen = f"the crown's centre lies {away[slot]:.3g} mm from the tooth's origin: it is in {where}"
        defects[slot] = _defect("mesh_far_off", seen, fix, mouth, shapes, slot)
    return defects


def _same_meshes(mouth: Mouth, shapes: Mapping[int, CrownShape]) -> dict[int, ToothDefect]:
    """Find meshes that two teeth have: the one that fits worse is wrong, or both if that is unclear."""
    defects = {}
    for slots in itertools.combinations(shapes, 2):
        here, there = (shapes[slot].distances for slot in slots)
        if abs(here[0] - there[0]) > SAME_MM or np.abs(here - there).max() > SAME_MM:
            continue
        fdis = [int(mouth.fdi[slot]) for slot in slots]
        averages = [average_crown(fdi) for fdi in fdis]
        misfits = [
            _Fit(fdi, shapes[slot], average).as_it_is
            for fdi, slot, average in zip(fdis, slots, averages, strict=True)
            if average is not None
        ]
        if len(misfits) < 2:
            misfits = [0.0, 0.0]
        for own, other in ((0, 1), (1, 0)):
            if misfits[own] > misfits[other] - CLEARLY_ALONE:
                seen, fix = f"tooth {fdis[other]} has the same mesh", "export each tooth's own mesh"
                defects[slots[own]] = _defect("same_mesh", seen, fix, mouth, shapes, slots[own])
    return defects


class _Fit:
    """Misfit of a crown to the average crown of its tooth.

    distances : (98,) as on the side of the average crowns
    as_it_is  : misfit of the crown as it is
    flipped   : (7,) the same with its axes flipped, in the order of _FLIPS
    """

    def __init__(self, fdi: int, shape: CrownShape, average: AverageCrown):
        self.fdi, self.shape, self.average = fdi, shape, average
        self.distances = self._on_one_side(shape.distances)
        self.as_it_is = float(average.misfit(self.distances))
        self.flipped = average.misfit(self.distances[_ORDERS])

    @functools.cached_property
    def at_best(self) -> float:
        """Least misfit as it is, under small rotations too."""
        turned = [self._on_one_side(surface_distances(self.shape.points @ turn.T)) for turn in _TURNS]
        return min(self.as_it_is, float(self.average.misfit(np.stack(turned)).min()))

    def clearly_best(self, misfits: Array, apart: Array, share: float) -> int | None:
        """Index of the least of other misfits (N,), if the crown clearly fits better so than as it is.

        apart : (N,) what an average crown would gain; 0 where that is too little to tell
        share : of that, which the crown must gain
        """
        possible = np.where(apart > 0, misfits, np.inf)
        best = int(possible.argmin())
        if not possible[best] < FITS:
            return None

        def is_better_than(misfit: float) -> bool:
            gain = misfit - possible[best]
            return bool(gain > max(CLEARLY, CLEARLY_OF_MISFIT * misfit, share * apart[best]))

        return best if is_better_than(self.as_it_is) and is_better_than(self.at_best) else None

    def nearer_to(self, other: "_Fit", flip: int) -> float:
        """Compare the crown with its antimere: by how much (as misfit) it is nearer to it when flipped."""
        apart = np.stack([self.distances, self.distances[_ORDERS[flip]]]) - other.distances
        as_it_is, flipped = self.average.misfit(apart + self.average.mean)
        return float(as_it_is - flipped)

    def defect(self, code: str, otherwise: str, otherwise_mm: float, fix: str) -> ToothDefect:
        """Defect of a crown that fits otherwise."""
        seen = (
            f"the crown is {self.average.away_mm(self.distances):.1f} mm (RMS) off an average {self.fdi}, "
            f"but {otherwise_mm:.1f} mm {otherwise}"
        )
        return ToothDefect(code, seen, fix, file=self.shape.file, tooth=self.fdi)

    def _on_one_side(self, distances: Array) -> Array:
        """Mirror the distances of a crown of quadrant 2 or 4, whose +x is distal."""
        return distances[_MIRROR_X] if self.fdi // 10 % 2 == 0 else distances


def _refuse_other_shapes(mouth: Mouth, fits: Sequence[_Fit]) -> None:
    """Raise CaseDefect where the crowns of a mouth are too large, too small, all flipped, or no crowns."""
    if len(fits) < FEWEST:
        return
    file, count = fits[0].shape.file, f"median of {len(fits)}"
    size = _median(fit.shape.extent[:2].sum() / fit.average.extent[:2].sum() for fit in fits)
    if not SIZES[0] < size < SIZES[1]:
        seen = f"the crowns are {size:.2g} times as wide as average crowns ({count})"
        raise CaseDefect("crown_size", seen, "check the unit of the export (mm)", file=file)
    gain = np.stack([fit.as_it_is - fit.flipped for fit in fits])
    if _counted(gain).max() > 0:  # only then it pays to try small rotations
        gain += np.array([[fit.at_best - fit.as_it_is] for fit in fits])
    best = int(_counted(gain).argmax())
    if _median(min(fit.as_it_is / 2, fit.flipped[best]) for fit in fits) > FITS:
        away = _median(fit.average.away_mm(fit.distances) for fit in fits)
        seen = f"the meshes are {away:.1f} mm (RMS) off average crowns ({count}), also with flipped axes"
        fix = "export crowns, without roots or gum, not models of a jaw"
        raise CaseDefect("not_crowns", seen, fix, file=file)
    if _counted(gain)[best] > MOUTH_CLEARLY:
        code = _FLIPS[best][1]
        many = int((gain[:, best] > 0).sum())
        seen = f"{many} of {len(fits)} crowns fit average crowns better if {_SAID[code]}"
        raise CaseDefect(code, seen, _fix_of_all(code, mouth), file=file)


def _flipped(fit: _Fit, other: _Fit | None) -> ToothDefect | None:
    """Find out if a crown is turned, mirrored or upside down.

    other : its antimere, which shares what is peculiar to the patient
    """
    apart = fit.average.misfit(fit.average.mean[_ORDERS])
    told = apart > np.where(_IS_MIRRORED_IN_X, APART_MIRRORED, APART)
    best = fit.clearly_best(fit.flipped, np.where(told, apart, 0.0), CLEARLY_OF_FLIPPED)
    if best is None:
        return None
    if other is not None and fit.nearer_to(other, best) < CLEARLY:
        return None
    if other is None and fit.as_it_is - fit.flipped[best] < CLEARLY_ALONE:
        return None
    code = _FLIPS[best][1]
    fix = f"export the mesh with {_AXES}"
    if code == MIRRORED:
        fix = f"check whether it is the crown of tooth {antimere(fit.fdi)}; {fix}"
    return fit.defect(code, f"if {_SAID[code]}", fit.average.away_mm(fit.distances[_ORDERS[best]]), fix)


def _of_other_kind(fit: _Fit) -> ToothDefect | None:
    """Find out if a crown is that of a tooth of another kind."""
    kinds = _other_kinds(fit.fdi)
    misfits = np.array([kind.average.misfit(fit.distances) for kind in kinds])
    best = fit.clearly_best(misfits, np.array([kind.apart for kind in kinds]), CLEARLY_OF_KINDS)
    if best is None:
        return None
    away = kinds[best].average.away_mm(fit.distances)
    fix = "check whether meshes or numbers are exchanged"
    return fit.defect("other_tooth", f"off a {kinds[best].fdi}", away, fix)


class _OtherKind(NamedTuple):
    """Average crown of a tooth of another kind, and its misfit to this tooth's average crown."""

    fdi: int
    average: AverageCrown
    apart: float


@functools.cache
def _other_kinds(fdi: int) -> list[_OtherKind]:
    """Find the other kinds of teeth, of both arches, that can be told from this one; numbers of its side."""
    own, found = average_crown(fdi), []
    assert own is not None
    for quadrant, number in itertools.product((1, 3), range(1, 8)):
        other = 10 * quadrant + number
        average = average_crown(other)
        if average is None or _kind(number) == _kind(fdi):
            continue
        apart, back = float(own.misfit(average.mean)), float(average.misfit(own.mean))
        if apart > APART_KINDS and back > APART_KINDS_BACK:
            same_side = (fdi // 10 in (1, 4)) == (quadrant == 1)
            found.append(_OtherKind(other if same_side else antimere(other), average, apart))
    return found


def _kind(fdi: int) -> str:
    """Kind of tooth: incisor, canine, premolar or molar, by its initial."""
    return "iicppmmm"[fdi % 10 - 1]


def _fix_of_all(code: str, mouth: Mouth) -> str:
    if code != TURNED:
        return f"export tooth-local meshes with {_AXES}"
    arches = find_arches(mouth.pose[T1], np.flatnonzero(mouth.present[T1]))
    if any(arch.normal is not None for arch in arches):  # the frame check has seen that the poses are right
        return "the poses have the right buccal axis: export the meshes in the same frame, +y buccal"
    return 'set source.buccal_axis: "-y" in params.yaml (if it is "-y" already: "+y")'


def _defect(
    code: str, seen: str, fix: str, mouth: Mouth, shapes: Mapping[int, CrownShape], slot: int
) -> ToothDefect:
    return ToothDefect(code, seen, fix, file=shapes[slot].file, tooth=int(mouth.fdi[slot]))


def _are_most(found: Sequence[int], shapes: Mapping[int, CrownShape]) -> bool:
    return len(found) >= FEWEST and len(found) > MOST * len(shapes)


def _counted(gain: Array) -> NDArray[np.float64]:
    """Mean over the crowns of what flips gain (N, 7), no crown counting too much."""
    return np.asarray(gain.clip(-MOST_COUNTED, MOST_COUNTED).mean(0))


def _median(values: Iterable[float]) -> float:
    return float(median(np.array(list(values))))


def _range(values: Iterable[float]) -> str:
    """Least and most, such as "21 to 48"."""
    every = sorted(values)
    return f"{every[0]:.2g} to {every[-1]:.2g}"
