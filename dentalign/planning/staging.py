"""Treatment stages from T1 to T2 within the limits of an aligner, on which no tooth passes through another.

Every step between two stages keeps to the limits of `Predict`. Between T1 and T2 a pair of crowns may overlap
by what it overlaps at the deeper of the two, and by `TOLERANCE_MM` more. The paths start as even motion.
Where crowns overlap more, the stages around that moment are moved apart, as rigid bodies in position based
dynamics (Mueller et al. 2007, doi:10.1016/j.jvcir.2007.01.005). The correction is spread over the stages
before and after, and the steps are brought back within the limits, until no overlap is left. So a tooth
waits, goes ahead, or goes round another.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dentalign.geometry import contacts, rigid
from dentalign.geometry.mesh_file import Surface
from dentalign.geometry.rigid import Array
from dentalign.params import PositiveFloat, Section
from dentalign.planning.distance_field import DistanceFields, Index
from dentalign.teeth import ARCHES, SLOTS

TOLERANCE_MM = 0.05
POSITIONS_BETWEEN = 5  # at which the overlap is checked between two stages
MOST_STAGES = 1.5  # times those of even motion

_AIM_MM = 0.015  # overlap beyond the ends that the search leaves, below the tolerance
_SETTLED_MM = 0.01  # of the search: what is left beyond `_AIM_MM` when it ends
_LEVER_MM2 = 9.0  # radius of gyration of a crown, squared: what a rotation weighs against a translation
# Number of stages as a multiple of even motion's, most rounds, and True to lead deep pairs round each other.
_SEARCHES = ((1.0, 0, False), (1.2, 30, False), (MOST_STAGES, 30, True))
_DEEP_MM = 0.5  # overlap from which a tooth is led round another
_SCREEN = 5  # rounds between two looks at all pairs
_MOST_MEASURED = 24  # positions of a pair that are measured by exact distances, besides the ends
_NEAR_THE_ENDS = 3  # stages from T1 and T2 within which a pair gets used to being allowed less
_STUCK = 0.6  # a search ends if a look finds more than that share of the least overlap before
_NEARLY_MM = 0.12  # pairs that lack more than that to overlap too much are left out between two such looks


class Predict(Section):
    """Section `predict` of params.yaml.

    max_step_mm              : largest movement of a crown's centroid from one treatment stage to the next
    max_vertical_step_mm     : largest part of it along the head's z axis (intrusion, extrusion)
    max_step_deg             : largest rotation of a tooth from one treatment stage to the next
    max_round_tooth_step_deg : the same for canines and premolars, whose round crowns an aligner grips badly
    look_above_mm            : expected error above which a tooth is on the review list
    look_overlap_mm          : overlap with a neighbour above which a tooth is on the review list
    look_occlusal_mm         : the same with a tooth of the other arch
    look_apex_mm             : travel of a root apex above which a tooth is on the review list
    """

    max_step_mm: PositiveFloat = 0.25
    max_vertical_step_mm: PositiveFloat = 0.1
    max_step_deg: PositiveFloat = 2.0
    max_round_tooth_step_deg: PositiveFloat = 1.5
    look_above_mm: PositiveFloat = 1.0
    look_overlap_mm: PositiveFloat = 0.5
    look_occlusal_mm: PositiveFloat = 0.5
    look_apex_mm: PositiveFloat = 6.0


@dataclass(frozen=True, order=True)
class Collision:
    """Two crowns that overlap more on the way than the tolerance allows.

    slots      : of the two teeth
    stage      : number of the stage at whose step the overlap is deepest, from 1
    depth_mm   : the deepest overlap on the way
    allowed_mm : the overlap at T1 or T2, whichever is deeper
    """

    slots: tuple[int, int]
    stage: int
    depth_mm: float
    allowed_mm: float


@dataclass(frozen=True)
class StagedPlan:
    """Poses of the stages after T1, and what could not be avoided.

    poses       : (K, 32, 4, 4), tooth-local -> head, mm; the last is exactly T2; identity in empty slots
    even_stages : number of stages that even motion would take within the same limits
    collisions  : the pairs that overlap too much on the way, empty for a plan that can be made
    neighbours  : (N, 2) int, slots of the teeth that are neighbours in an arch
    gap_mm      : (K + 1, N), gap between them at T1 and the stages, at most 0.5; negative for an overlap
    """

    poses: Array
    even_stages: int
    collisions: tuple[Collision, ...]
    neighbours: Index
    gap_mm: Array


@dataclass(frozen=True)
class Path:
    """Centroids and rotations at the stages 0 .. K of T teeth; a rotation vector is relative to T1.

    The step between two rotations is at most as long as that between their vectors.
    """

    centre: Array  # (K + 1, T, 3) head, mm
    turn: Array  # (K + 1, T, 3) radians


class _Teeth:
    """Teeth of one plan: ends, limits, crowns, and the pairs that can meet."""

    def __init__(self, before: Array, after: Array, slots: Index, centroid: Array, fields: DistanceFields,
                 limits: Predict, held: NDArray[np.bool_]):  # fmt: skip
        self.before, self.after, self.slots, self.fields = before, after, slots, fields
        self.local = centroid
        self.start = rigid.apply(before, centroid[:, None])[:, 0]
        self.end = rigid.apply(after, centroid[:, None])[:, 0]
        self.turn = rigid.rotation_vector(np.swapaxes(before[:, :3, :3], -1, -2) @ after[:, :3, :3])
        kinds = np.array([SLOTS[slot] % 10 for slot in slots])
        degrees = np.where(np.isin(kinds, (3, 4, 5)), limits.max_round_tooth_step_deg, limits.max_step_deg)
        self.step_mm, self.vertical_mm = limits.max_step_mm, limits.max_vertical_step_mm
        self.step_rad = np.radians(np.minimum(degrees, limits.max_step_deg))
        self.free = (~held).astype(float)
        arch = np.isin(slots, ARCHES["upper"])
        one, other = np.triu_indices(len(slots), 1)
        self.pairs = np.stack([one, other], 1)[(arch[one] != arch[other]) | (other - one <= 2)]
        ends = fields.clearance_mm(np.stack([before, after]), self.pairs)
        self.allowed = np.maximum(0.0, -ends).max(0)
        self.less = np.zeros(len(self.pairs))  # that the search allows to a pair away from the ends

    def allow_less(self, collisions: "tuple[Collision, ...]") -> None:
        """Let the search allow less to pairs that collide by exact distances, but not by the fields."""
        for collision in collisions:
            pair = np.searchsorted(self.slots, collision.slots)
            found = (np.sort(self.pairs, 1) == np.sort(pair)).all(1)
            self.less[found] += collision.depth_mm - collision.allowed_mm

    def even_stages(self) -> int:
        """Number of stages of even motion."""
        moved = self.end - self.start
        shares = [
            np.linalg.norm(moved, axis=1) / self.step_mm,
            np.abs(moved[:, 2]) / self.vertical_mm,
            np.linalg.norm(self.turn, axis=1) / self.step_rad,
        ]
        return max(1, int(np.ceil(np.max(shares, initial=0.0) - 1e-9)))  # rounding must not cost a stage

    def even(self, stages: int) -> Path:
        """Even motion in K stages."""
        share = np.linspace(0, 1, stages + 1)[:, None, None]
        return Path(self.start + share * (self.end - self.start), share * self.turn)

    def poses(self, path: Path) -> Array:
        """Poses (S, T, 4, 4) on a path."""
        rotation = self.before[:, :3, :3] @ rigid.rotation_matrix(path.turn)
        return rigid.from_rotation(rotation, path.centre - (rotation @ self.local[..., None])[..., 0])

    def within_limits(self, path: Path, share: float = 1.0, rounds: int = 60) -> Path:
        """Move the stages as little as need be until the steps are within the limits times `share`."""
        centre, turn = path.centre.copy(), path.turn.copy()
        for _ in range(rounds):
            worst = 0.0
            for first in (0, 1):
                worst = max(worst, self._shorten(centre, turn, first, share))
            if worst < 1e-3:
                break
        return Path(centre, turn)

    def written(self, path: Path) -> Array:
        """Poses (K, T, 4, 4) of the stages, all steps within the limits; the last is exactly T2."""
        path = self.within_limits(path, 0.985, 300)
        even = self.even(len(path.centre) - 1)
        share = 1.0
        while share > 0 and self._longest(path) > 1 - 1e-7:  # a mixture with even motion has shorter steps
            share -= 0.02
            path = Path(
                even.centre + share * (path.centre - even.centre), even.turn + share * (path.turn - even.turn)
            )
        poses = self.poses(path)[1:]
        poses[:, self.free == 0] = self.before[self.free == 0]
        poses[-1] = self.after
        return poses

    def _longest(self, path: Path) -> float:
        """Longest step, as a share of its limit."""
        step, turn = np.diff(path.centre, axis=0), np.diff(path.turn, axis=0)
        shares = (
            np.linalg.norm(step, axis=-1) / self.step_mm,
            np.abs(step[..., 2]) / self.vertical_mm,
            np.linalg.norm(turn, axis=-1) / self.step_rad,
        )
        return float(np.max(shares))

    def _shorten(self, centre: Array, turn: Array, first: int, share: float) -> float:
        """Shorten every second step to the limits; the ends stay. Returns the largest excess, a share."""
        last = len(centre) - 1
        a = np.arange(first, last, 2)
        weight = np.stack([np.where(a == 0, 0.0, 1.0), np.where(a + 1 == last, 0.0, 1.0)])
        weight = (weight / np.maximum(weight.sum(0), 1))[:, :, None, None]
        worst = 0.0
        for values, columns, limit in (
            (centre, slice(2, 3), self.vertical_mm),
            (centre, slice(0, 3), self.step_mm),
            (turn, slice(0, 3), self.step_rad),
        ):
            step = values[a + 1, :, columns] - values[a, :, columns]
            length = np.linalg.norm(step, axis=-1)
            over = length / (np.asarray(limit) * share)
            worst = max(worst, float(over.max(initial=0.0)) - 1)
            cut = step * np.maximum(0.0, 1 - 1 / np.maximum(over, 1e-12))[..., None]
            values[a, :, columns] += weight[0] * cut
            values[a + 1, :, columns] -= weight[1] * cut
        return worst


def plan(
    before: Array,
    after: Array,
    mask: NDArray[np.bool_],
    points: NDArray[np.floating],
    crowns: Mapping[int, Surface],
    limits: Predict,
    *,
    held: NDArray[np.bool_] | None = None,
    fields: DistanceFields | None = None,
) -> StagedPlan:
    """Plan the stages from T1 to T2.

    Even motion is kept where it is free of collisions. Else the search has up to `MOST_STAGES` times as many
    stages. If it finds no way, the path with the least overlap is returned, with its collisions. These are
    measured on the returned poses, with exact distances to the meshes.

    before, after : (32, 4, 4), at T1 and T2, tooth-local -> head, mm
    mask          : (32,) bool, teeth that stand at T2
    points        : (32, P, 3) on the crowns, tooth-local, mm; their mean is the centroid
    crowns        : slot -> vertices (V, 3), tooth-local, mm, and faces (F, 3), for all teeth of `mask`
    limits        : largest step from one stage to the next
    held          : (32,) bool, teeth that must not move on the way either, their pose at T2 is that of T1
    fields        : distance fields of the teeth of `mask` in slot order, if there are some already
    """
    slots = np.flatnonzero(mask)
    poses = np.tile(np.eye(4), (1, len(mask), 1, 1))
    beside = contacts.neighbours(mask, mask)
    if not len(slots):
        return StagedPlan(poses, 1, (), beside, np.zeros((2, 0)))
    surfaces = [crowns[slot] for slot in slots.tolist()]
    fixed = np.zeros(len(slots), np.bool_) if held is None else held[slots]
    centroid = points[slots].astype(np.float64).mean(1)
    teeth = _Teeth(
        before[slots], after[slots], slots, centroid, fields or DistanceFields(surfaces), limits, fixed
    )
    even = teeth.even_stages()
    least, every = np.inf, np.zeros(0)
    collisions: tuple[Collision, ...] | None = None
    path = teeth.even(even)
    for factor, rounds, around in _SEARCHES:
        path, overlap = _relax(teeth, _resampled(path, int(factor * even)), rounds, around)
        if overlap > least:
            continue
        least, every = overlap, np.concatenate([before[None, slots], teeth.written(path)])
        collisions = None if overlap else _collisions(teeth, every)
        if rounds and collisions:
            teeth.allow_less(collisions)
            path, overlap = _relax(teeth, path, rounds)
            again = np.concatenate([before[None, slots], teeth.written(path)])
            if len(fewer := _collisions(teeth, again)) < len(collisions):
                every, collisions = again, fewer
            break
        if collisions == ():
            break
    if collisions is None:
        collisions = _collisions(teeth, every)
    poses = np.tile(np.eye(4), (len(every) - 1, len(mask), 1, 1))
    poses[:, slots] = every[1:]
    gaps = teeth.fields.clearance_mm(every, np.searchsorted(slots, beside), 0.5)
    return StagedPlan(poses, even, collisions, beside, gaps)


def evenly(
    before: Array, after: Array, mask: NDArray[np.bool_], points: NDArray[np.floating], stages: int
) -> Array:
    """Poses (K, 32, 4, 4) of even motion in K stages, whatever the limits; arguments as for `plan`."""
    slots = np.flatnonzero(mask)
    poses = np.tile(np.eye(4), (stages, len(mask), 1, 1))
    centroid = points[slots].astype(np.float64).mean(1)
    poses[:, slots] = between(np.stack([before, after])[:, slots], centroid, stages - 1)[1:]
    poses[-1, slots] = after[slots]
    return poses


def _collisions(teeth: _Teeth, poses: Array) -> tuple[Collision, ...]:
    """Pairs that overlap too much at the stages (K + 1, T, 4, 4) or between them, by exact distances."""
    positions, part = between(poses, teeth.local), POSITIONS_BETWEEN + 1
    coarse = np.arange(0, len(positions), part // 2)
    overlap = -teeth.fields.clearance_mm(positions[coarse], teeth.pairs, 0.15 - teeth.allowed)
    close = overlap > teeth.allowed - 0.15
    near = np.zeros((len(positions), len(teeth.pairs)), np.bool_)
    for step in range(len(coarse) - 1):
        near[coarse[step] : coarse[step + 1] + 1] = close[step] | close[step + 1]
    place, pair_near = np.nonzero(near)
    depth = -teeth.fields.clearance_mm(positions, teeth.pairs, -0.9 * teeth.allowed, (place, pair_near))
    excess = depth - teeth.allowed
    found = []
    shallow = 0.07 * teeth.allowed  # by so much, or 0.02 mm, the fields may be too shallow
    for pair in np.flatnonzero(excess.max(0) + shallow > TOLERANCE_MM / 5).tolist():
        one, other = teeth.pairs[pair].tolist()
        deepest = np.flatnonzero(excess[:, pair] > excess[:, pair].max() - 0.03 - shallow[pair])
        apart = len(deepest) // _MOST_MEASURED + 1  # a tooth that waits has many alike
        at = np.r_[0, len(positions) - 1, excess[:, pair].argmax(), deepest[::apart]]
        deep = teeth.fields.exact_depth_mm(positions[at], one, other)
        beside = np.clip(at[deep.argmax()] + np.arange(-apart, apart + 1), 0, len(positions) - 1)
        at = np.r_[at, beside]
        deep = np.r_[deep, teeth.fields.exact_depth_mm(positions[beside], one, other)]
        allowed, worst = float(deep[:2].max()), int(deep.argmax())
        if deep[worst] > allowed + TOLERANCE_MM - 0.001:  # rounding must not hide one
            numbers = int(teeth.slots[one]), int(teeth.slots[other])
            found.append(Collision(numbers, int(np.ceil(at[worst] / part)), float(deep[worst]), allowed))
    return tuple(sorted(found))


def _resampled(path: Path, stages: int) -> Path:
    """The same way in another number of stages."""
    place = np.linspace(0, len(path.centre) - 1, stages + 1)
    before = np.minimum(place.astype(int), len(path.centre) - 2)
    share = (place - before)[:, None, None]

    def at(values: Array) -> Array:
        return (1 - share) * values[before] + share * values[before + 1]

    return Path(at(path.centre), at(path.turn))


def halves(path: Path) -> Path:
    """Path with a position in the middle of every step, (2 K + 1 positions)."""

    def doubled(values: Array) -> Array:
        out = np.empty((2 * len(values) - 1, *values.shape[1:]))
        out[::2], out[1::2] = values, (values[1:] + values[:-1]) / 2
        return out

    return Path(doubled(path.centre), doubled(path.turn))


def between(poses: Array, centroid: Array, count: int = POSITIONS_BETWEEN) -> Array:
    """Positions at the stages and at `count` places between each two, (S, T, 4, 4).

    Between two stages a centroid moves on a straight line and a tooth rotates about one axis, both evenly.

    poses    : (K + 1, T, 4, 4), T1 and the stages
    centroid : (T, 3), tooth-local, mm
    """
    share = np.arange(count + 1)[:, None, None] / (count + 1)
    middle = rigid.apply(poses, centroid[:, None])[..., 0, :]
    turn = rigid.rotation_vector(np.swapaxes(poses[:-1, :, :3, :3], -1, -2) @ poses[1:, :, :3, :3])
    rotation = poses[:-1, None, :, :3, :3] @ rigid.rotation_matrix(share * turn[:, None])
    place = middle[:-1, None] + share * (middle[1:] - middle[:-1])[:, None]
    found = rigid.from_rotation(rotation, place - (rotation @ centroid[..., None])[..., 0])
    return np.concatenate([found.reshape(-1, *poses.shape[1:]), poses[-1:]])


def _relax(teeth: _Teeth, path: Path, rounds: int, around: bool = False) -> tuple[Path, float]:
    """Move the stages apart where crowns overlap too much.

    around  : True to lead deep pairs past each other, where pushing them back would keep them apart for ever
    returns : the best path, and the sum of its overlaps beyond those allowed, mm; 0 if all are small enough
    """
    stages = len(path.centre) - 1
    position = np.arange(2 * stages + 1)
    away = np.clip(np.minimum(position, position[::-1]) / (2 * _NEAR_THE_ENDS), 0, 1)
    aim = teeth.allowed + _AIM_MM - away[:, None] * teeth.less
    spread = _spread(stages)
    best, best_excess = path, np.inf
    rows: tuple[Index, Index] = (np.zeros(0, np.intp), np.zeros(0, np.intp))
    for number in range(rounds + 1):
        place = halves(path)
        poses = teeth.poses(place)
        if number % _SCREEN == 0:
            clearance = teeth.fields.clearance_mm(poses, teeth.pairs, _NEARLY_MM - aim.min(0))
            over = np.maximum(0, -clearance - aim)
            excess = over[1:-1].max(initial=0.0)
            total = over[1:-1].sum()
            if excess <= _SETTLED_MM:
                return path, 0.0
            stuck = number >= (4 if around else 2) * _SCREEN and total > _STUCK * best_excess
            if total < best_excess:
                best, best_excess = path, float(total)
            if stuck:
                break
            pose, pair = np.nonzero(-clearance > aim - _NEARLY_MM)
            rows = (pose, pair)
        if number < rounds:
            path = _pushed(teeth, path, poses, rows, aim, spread, around)
            path = teeth.within_limits(path, 0.98, 12)
    return best, best_excess


def _aside(teeth: _Teeth, pair: Index, normal: Array, excess: Array) -> Array:
    """Directions (C, 3) that lead a pair past each other, to the same side at all its contacts."""
    moved = teeth.end - teeth.start
    way = rigid.unit(moved[teeth.pairs[:, 0]] - moved[teeth.pairs[:, 1]])
    across = normal - (normal * way[pair]).sum(1, keepdims=True) * way[pair]
    side = np.zeros(way.shape)
    np.add.at(side, pair, excess[:, None] * across)
    level = np.cross(way, [0.0, 0.0, 1.0]) + 1e-6  # where the contacts tell no side
    side = np.where(np.linalg.norm(side, axis=1, keepdims=True) > 0.05, side, level)
    return np.asarray(rigid.unit(across + rigid.unit(side)[pair]))


def _spread(stages: int) -> Array:
    """Matrix (K + 1, K + 1) that spreads a correction at one stage to those before and after; ends stay."""
    inner = max(stages - 1, 0)
    laplace = 2 * np.eye(inner) - np.eye(inner, k=1) - np.eye(inner, k=-1)
    kernel = np.linalg.inv(np.eye(inner) + 3.0 * laplace)
    full = np.zeros((stages + 1, stages + 1))
    full[1:-1, 1:-1] = 1.6 * kernel
    return full


def _pushed(
    teeth: _Teeth,
    path: Path,
    poses: Array,
    rows: tuple[Index, Index],
    aim: Array,
    spread: Array,
    around: bool,
) -> Path:
    """Path on which the pairs of `rows` are pushed apart once, where they overlap more than `aim`."""
    stages, pairs = len(path.centre), teeth.pairs
    found = teeth.fields.near(poses, pairs, -aim.min(0), rows)
    weight = -found.distance_mm.astype(float) - aim[found.pose, found.pair]
    keep = weight > 0
    if not keep.any():
        return path
    weight = weight[keep]
    pose, pair, tooth, other = found.pose[keep], found.pair[keep], found.tooth[keep], found.other[keep]
    normal = (poses[pose, other, :3, :3] @ found.gradient[keep].astype(float)[..., None])[..., 0]
    point = (poses[pose, tooth, :3, :3] @ found.point[keep].astype(float)[..., None])[..., 0]
    point += poses[pose, tooth, :3, 3]
    sign = np.where(tooth == pairs[pair, 0], 1.0, -1.0)
    # One contact for each pair at each position.
    key, at = np.unique(pose * len(pairs) + pair, return_inverse=True)
    pose, pair = np.divmod(key, len(pairs))
    total = np.bincount(at, weight)

    def mean(values: Array) -> Array:
        return np.stack([np.bincount(at, weight * values[:, k]) for k in range(3)], 1) / total[:, None]

    normal, point = mean(sign[:, None] * normal), mean(point)
    excess = np.zeros(len(key))
    np.maximum.at(excess, at, weight)
    ends = pairs[pair]
    place = halves(path).centre
    line = place[pose, ends[:, 0]] - place[pose, ends[:, 1]]
    weak = np.linalg.norm(normal, axis=1) < 0.2
    normal = rigid.unit(np.where(weak[:, None], line, normal))
    if around:
        normal = np.where((excess > _DEEP_MM)[:, None], _aside(teeth, pair, normal, excess), normal)
    arm = point[:, None] - place[pose[:, None], ends]  # (C, 2, 3)
    lever = np.cross(arm, normal[:, None])
    free = teeth.free[ends]
    give = free * (1 + (lever**2).sum(-1) / _LEVER_MM2)
    amount = excess / np.maximum(give.sum(1), 1e-9)
    side = np.array([1.0, -1.0])[:, None]
    push = (amount[:, None] * free)[..., None] * side
    move, spin = push * normal[:, None], push * lever / _LEVER_MM2
    # To the stages: a position between two stages pushes both.
    moved, turned = np.zeros((2, stages, len(teeth.slots), 3))
    count = np.zeros((stages, len(pairs)))
    for stage in (pose // 2, (pose + 1) // 2):
        np.add.at(count, (stage, pair), 0.5)
    for stage in (pose // 2, (pose + 1) // 2):
        share = (0.5 / np.maximum(count[stage, pair], 1e-9))[:, None, None]
        np.add.at(moved, (stage[:, None], ends), share * move)
        np.add.at(turned, (stage[:, None], ends), share * spin)
    moved[0] = moved[-1] = turned[0] = turned[-1] = 0
    now = teeth.before[:, :3, :3] @ rigid.rotation_matrix(path.turn)
    then = rigid.rotation_matrix(turned) @ now
    change = rigid.rotation_vector(np.swapaxes(teeth.before[:, :3, :3], -1, -2) @ then) - path.turn
    return Path(
        path.centre + np.einsum("kl,ltc->ktc", spread, moved),
        path.turn + np.einsum("kl,ltc->ktc", spread, change),
    )
