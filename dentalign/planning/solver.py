"""Nearest rigid poses to a proposal that obey a prescription: crowns that do not penetrate, teeth that hold.

The unknowns are a translation and a rotation of each tooth that may move, about the centroid of its crown.
The distance from the proposal is the mean squared displacement of the points of the crowns, a quadratic form.
What must be obeyed is linearised at the current poses, as rows a . y >= b: probes of a crown near another one
(`distance_field`), caps, shifts and widths of the arches. The nearest y is a quadratic programme; its dual
has one unknown per row and is solved by non-negative least squares (Lawson and Hanson 1974, chapter 23). This
is repeated from the new poses until they stay: sequential quadratic programming (Nocedal and Wright 2006,
chapter 18). Each row may be missed at a price that grows with the square of the miss, so that wishes which
contradict each other end in a compromise, not in a failure.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import nnls

from dentalign.geometry import contacts, rigid
from dentalign.geometry.rigid import Array
from dentalign.params import NotNegativeFloat, Section
from dentalign.planning.distance_field import Contacts, DistanceFields
from dentalign.planning.prescription import Prescription
from dentalign.teeth import ARCHES, SLOT_INDEX, SLOTS

TOLERANCE_MM = 0.02  # within which a limit counts as obeyed: the grids of the distance fields are as exact
TOLERANCE_DEG = 0.1

_ROUNDS = 20
_STILL_MM = 0.002  # a round that moves no tooth farther is the last one
_NEAR_MM = 0.45  # probes nearer than that to another crown are rows; more than any `contact_gap_mm`
# Crowns deeper in each other are moved apart along the line of their centroids: the surface nearest to a
# probe may be the top of the other crown.
_DEEP_MM = 0.6
_CELL_MM = 1.5  # of the probes of a pair in a cube of this size the deepest is a row
_PER_PAIR = 6  # rows of a pair and a direction
_FIRM, _SOFT = 2000.0, 100.0  # price of a squared miss, against the squared displacement of one crown

Bools = NDArray[np.bool_]
Slots = NDArray[np.intp]


class Planning(Section):
    """Section `planning` of params.yaml: what plans usually show, obeyed where a prescription does not say.

    overlap_mm          : most overlap of neighbours at T2
    occlusal_overlap_mm : most penetration of an upper and a lower tooth at T2
    contact_gap_mm      : neighbours that a proposal sets nearer than that are brought into contact; <= 0.4
    """

    overlap_mm: NotNegativeFloat = 0.1
    occlusal_overlap_mm: NotNegativeFloat = 0.25
    contact_gap_mm: Annotated[float, Field(ge=0, le=0.4)] = 0.35


@dataclass(frozen=True)
class Proposal:
    """Proposed T2 of a case, in slots.

    t1, pose     : (32, 4, 4), at T1 and as proposed, tooth-local -> head, mm
    stays        : (32,) bool, teeth that stand at T2
    held         : (32,) bool, teeth that keep their pose of T1
    fdi          : (32,) int, number of each tooth as in the file
    points       : (32, P, 3) on the crowns, tooth-local, mm
    fields       : distance fields of the teeth that stay, in slot order
    """

    t1: Array
    pose: Array
    stays: Bools
    held: Bools
    fdi: NDArray[np.integer]
    points: NDArray[np.floating]
    fields: DistanceFields

    @property
    def free(self) -> Bools:
        """Teeth that may move, (32,) bool."""
        return self.stays & ~self.held


@dataclass
class Rows:
    """Rows a . y >= b of the linearised wishes; y is the displacement (6 T,) from the reference."""

    a: list[Array]
    b: list[float]
    price: list[float]

    def add(self, a: Array, b: float, price: float) -> None:
        """Add one row."""
        self.a.append(a)
        self.b.append(b)
        self.price.append(price)


def solve(proposal: Proposal, prescription: Prescription, usual: Planning) -> Array:
    """Find the poses nearest to the proposal that obey the prescription and what plans usually show.

    returns: (32, 4, 4), exactly rigid. A tooth that need not move from its proposal keeps it to the last bit,
             a held tooth its pose at T1
    """
    return _Search(proposal, prescription, usual).solved()


class _Search:
    """The teeth of a case as blocks of six unknowns: translation, mm, and rotation vector, radians."""

    def __init__(self, proposal: Proposal, rx: Prescription, usual: Planning):
        self.given, self.rx, self.usual = proposal, rx, usual
        self.teeth = np.flatnonzero(proposal.stays)
        self.fdi = proposal.fdi[self.teeth].astype(int)
        self.free = proposal.free[self.teeth]
        self.local = proposal.points[self.teeth].astype(np.float64)
        self.centre = self.local.mean(1)
        self.t1 = proposal.t1[self.teeth]
        self.reference = reference_poses(proposal, rx)[self.teeth]
        self.start = np.where(self.free[:, None, None], self.reference, self.t1)
        r = rigid.apply(self.reference, self.local) - self._centroid(self.reference)[:, None]
        spread = np.einsum("tpi,tpj->tij", r, r) / r.shape[1]
        inertia = np.trace(spread, axis1=1, axis2=2)[:, None, None] * np.eye(3) - spread
        self.inverse = np.zeros((len(self.teeth), 6, 6))  # of the quadratic form of each tooth
        self.inverse[:, :3, :3], self.inverse[:, 3:, 3:] = (
            np.eye(3),
            np.linalg.inv(inertia + 1e-6 * np.eye(3)),
        )
        self.inverse[~self.free] = 0.0
        for row, fdi in enumerate(self.fdi.tolist()):  # a cap of 0 is no wall but a hold
            self.inverse[row, :3] *= rx.most_movement_mm(fdi) > 0
            self.inverse[row, 3:] *= rx.most_rotation_deg(fdi) > 0
        self.neighbours, self.antagonists, self.pairs = self._pairs()
        between = [
            rx.allowed_overlap_mm(self.fdi[one], self.fdi[other], usual.overlap_mm)
            for one, other in self.neighbours.tolist()
        ]
        self.allowed = np.array(between + [usual.occlusal_overlap_mm] * len(self.antagonists))
        self.touching = self._touching()

    def _centroid(self, pose: Array) -> Array:
        return rigid.apply(pose, self.centre[:, None])[:, 0]

    def _pairs(self) -> tuple[Slots, Slots, Slots]:
        """Neighbours in an arch and pairs of an upper and a lower tooth, without those of two held teeth."""
        place = {slot: row for row, slot in enumerate(self.teeth.tolist())}
        near = contacts.neighbours(self.given.stays, self.given.stays)
        neighbours = np.array([[place[a], place[b]] for a, b in near.tolist()], int).reshape(-1, 2)
        lower = np.flatnonzero(np.isin(self.teeth, ARCHES["lower"]))
        upper = np.flatnonzero(np.isin(self.teeth, ARCHES["upper"]))
        across = np.stack(np.meshgrid(lower, upper, indexing="ij"), -1).reshape(-1, 2)
        neighbours, across = (pairs[self.free[pairs].any(1)] for pairs in (neighbours, across))
        return neighbours, across, np.concatenate([neighbours, across])

    def _near(self, pose: Array, pairs: Slots, within_mm: float) -> Contacts:
        return self.given.fields.near(pose[None], pairs, within_mm)

    def _touching(self) -> Bools:
        """Pairs of neighbours that the proposal sets in contact, or nearly."""
        found = self._near(self.given.pose[self.teeth], self.neighbours, self.usual.contact_gap_mm)
        return np.isin(np.arange(len(self.neighbours)), found.pair)

    def solved(self) -> Array:
        """Poses (32, 4, 4) of the solution."""
        pose = self.start
        for _ in range(_ROUNDS):
            rows = self._rows(pose)
            here = self._displacement(pose)
            missed = [b - float((a * here).sum()) for a, b in zip(rows.a, rows.b, strict=True)]
            if not rows.b or (pose is self.start and max(missed) <= TOLERANCE_MM):
                break
            wanted = self._nearest(rows)
            step = (wanted - here) * self.free[:, None]
            arm = np.abs(step[:, :3]).max(initial=0.0) + 4 * np.abs(step[:, 3:]).max(initial=0.0)
            pose = self._posed(here + step * min(1.0, 1.0 / max(arm, 1e-9)))
            if arm < _STILL_MM:
                break
        pose = capped(pose, self.t1, self.centre, self.fdi, self.free, self.rx)
        result = np.where(self.given.stays[:, None, None], self.given.pose, np.eye(4))
        result[self.teeth] = pose
        return result

    def _displacement(self, pose: Array) -> Array:
        """Translation of the centroid and rotation vector (T, 6) from the reference."""
        shift = self._centroid(pose) - self._centroid(self.reference)
        turn = rigid.rotation_vector(pose[:, :3, :3] @ np.swapaxes(self.reference[:, :3, :3], -1, -2))
        return np.concatenate([shift, turn], 1)

    def _posed(self, displacement: Array) -> Array:
        """Poses (T, 4, 4) that are displaced so from the reference; the start itself where 0 or held."""
        rotation = rigid.rotation_matrix(displacement[:, 3:]) @ self.reference[:, :3, :3]
        centroid = self._centroid(self.reference) + displacement[:, :3]
        pose = rigid.from_rotation(rotation, centroid - (rotation @ self.centre[..., None])[..., 0])
        moved = self.free & (np.abs(displacement) > 1e-6).any(1)
        return np.where(moved[:, None, None], pose, self.start)

    def _nearest(self, rows: Rows) -> Array:
        """Solution y (T, 6) of the quadratic programme: y = Q^-1 A' x with x >= 0 from the dual."""
        a = np.array(rows.a).reshape(len(rows.b), -1, 6)
        to_y = np.einsum("tij,rtj->rti", self.inverse, a).reshape(len(a), -1)
        dual = a.reshape(len(a), -1) @ to_y.T + np.diag(1 / np.array(rows.price))
        factor = np.linalg.cholesky(dual).T
        target = np.linalg.solve(factor.T, np.array(rows.b))
        multipliers = nnls(factor, target, maxiter=30 * len(rows.b))[0]
        return (multipliers @ to_y).reshape(-1, 6)

    def _rows(self, pose: Array) -> Rows:
        rows = Rows([], [], [])
        here = self._displacement(pose)
        self._add_contacts(rows, pose, here)
        self._add_caps(rows, pose, here)
        for a, wanted, now in self._arch_wishes(pose):
            for sign in (1.0, -1.0):
                rows.add(sign * a, sign * (wanted - now + float((a * here).sum())), _FIRM)
        return rows

    def _add_contacts(self, rows: Rows, pose: Array, here: Array) -> None:
        """Rows that keep crowns apart, and those that bring neighbours into contact."""
        found = self._near(pose, self.pairs, _NEAR_MM)
        if not len(found.pair):
            return
        chosen = _spread(found)
        tooth, other, pair = found.tooth[chosen], found.other[chosen], found.pair[chosen]
        distance = found.distance_mm[chosen].astype(np.float64)
        normal = (pose[other, :3, :3] @ found.gradient[chosen, :, None].astype(np.float64))[..., 0]
        centroid = self._centroid(pose)
        least = np.zeros(len(self.pairs))
        np.minimum.at(least, pair, distance)
        apart = rigid.unit(centroid[tooth] - centroid[other])
        normal = np.where((least[pair] < -_DEEP_MM)[:, None], apart, rigid.unit(normal))
        point = rigid.apply(pose[tooth], found.point[chosen, None])[:, 0]
        a = np.zeros((len(chosen), len(self.teeth), 6))
        number = np.arange(len(chosen))
        for one, sign in ((tooth, 1.0), (other, -1.0)):
            a[number, one, :3] = sign * normal
            a[number, one, 3:] = sign * np.cross(point - centroid[one], normal)
        a *= self.free[:, None]
        bound = -self.allowed[pair] - distance + (a * here).sum((1, 2))
        rows.a += list(a)
        rows.b += bound.tolist()
        rows.price += [_FIRM] * len(chosen)
        for k in np.flatnonzero(self.touching).tolist():
            mine = np.flatnonzero(pair == k)
            if len(mine):
                nearest = mine[distance[mine].argmin()]
                rows.add(-a[nearest], float(distance[nearest] - (a[nearest] * here).sum()), _SOFT)

    def _add_caps(self, rows: Rows, pose: Array, here: Array) -> None:
        """Rows that keep each tooth within its caps: the tangent plane of the sphere around T1."""
        shift = self._centroid(pose) - self._centroid(self.t1)
        turn = rigid.rotation_vector(pose[:, :3, :3] @ np.swapaxes(self.t1[:, :3, :3], -1, -2))
        for row in np.flatnonzero(self.free).tolist():
            fdi = int(self.fdi[row])
            caps = (self.rx.most_movement_mm(fdi), np.radians(self.rx.most_rotation_deg(fdi)))
            for part, vector, cap in zip(
                (slice(0, 3), slice(3, 6)), (shift[row], turn[row]), caps, strict=True
            ):
                if np.linalg.norm(vector) > 0.8 * cap:
                    a = np.zeros_like(here)
                    a[row, part] = -rigid.unit(vector)
                    rows.add(a, float(np.linalg.norm(vector) - cap + (a * here).sum()), 10 * _FIRM)

    def _arch_wishes(self, pose: Array) -> Iterator[tuple[Array, float, float]]:
        """Coefficients (T, 6), wanted value and present value of each wish on an arch."""
        moved = self._centroid(pose) - self._centroid(self.t1)
        for wish in arch_wishes(self.teeth, self.free, self.rx):
            a = np.concatenate([wish.weights, np.zeros_like(wish.weights)], 1) * self.free[:, None]
            if a.any():
                yield a, wish.wanted, float((wish.weights * moved).sum())


@dataclass(frozen=True)
class ArchWish:
    """Wish on an arch: a sum of the translations of its teeth from T1.

    arch    : upper or lower
    what    : x, y or z for a shift; 3-3 or 6-6 for a width
    wanted  : mm
    weights : (T, 3), the sum is over weights * translation, head frame; 0 if the arch has no such teeth
    """

    arch: str
    what: str
    wanted: float
    weights: Array


def arch_wishes(teeth: Slots, free: Bools, rx: Prescription) -> Iterator[ArchWish]:
    """Shifts and widths that a prescription wants of the arches.

    teeth : (T,) int, slots of the teeth that stand at T2
    free  : (T,) bool, teeth that may move; a shift is the mean of theirs
    """
    for arch, shift in rx.arch_shift_mm.items():
        mine = np.isin(teeth, ARCHES[arch]) & free
        for axis, wanted in enumerate(shift):
            if wanted is not None:
                weights = np.zeros((len(teeth), 3))
                weights[mine, axis] = 1 / max(int(mine.sum()), 1)
                yield ArchWish(arch, "xyz"[axis], wanted, weights)
    for arch, widths in rx.arch_width_mm.items():
        left, right = (20, 10) if arch == "upper" else (30, 40)
        for name, wanted in widths.items():
            ends = [SLOT_INDEX[quadrant + int(name[0])] for quadrant in (left, right)]
            weights = np.zeros((len(teeth), 3))
            if np.isin(ends, teeth).all():
                weights[teeth == ends[0], 0], weights[teeth == ends[1], 0] = 1.0, -1.0
            yield ArchWish(arch, name, wanted, weights)


def reference_poses(given: Proposal, rx: Prescription) -> Array:
    """Poses (32, 4, 4) that the solution is to be nearest to: the proposal, moved as the prescription says.

    An arch is shifted as a whole, its width is changed smoothly along it, rotations are exaggerated, and what
    is beyond a cap is taken back towards T1.
    """
    pose = given.pose.copy()
    teeth = np.flatnonzero(given.stays)
    centre = given.points.astype(np.float64).mean(1)
    t1 = rigid.apply(given.t1, centre[:, None])[:, 0]
    free = given.free
    if rx.overcorrection:
        pose = np.where(free[:, None, None], _overcorrected(pose, given.t1, centre, rx.overcorrection), pose)
    here = rigid.apply(pose, centre[:, None])[:, 0]
    for wish in arch_wishes(teeth, free[teeth], rx):
        if not wish.weights.any():
            continue
        missing = wish.wanted - float((wish.weights * (here - t1)[teeth]).sum())
        mine = ARCHES[wish.arch][free[ARCHES[wish.arch]]]
        if wish.what in "xyz":
            here[mine, "xyz".index(wish.what)] += missing
        else:
            both = len(rx.arch_width_mm[wish.arch]) == 2  # type: ignore[index]
            here[mine, 0] += missing / 2 * _share_of_width(mine, wish.what, both)
    rotation = pose[:, :3, :3]
    moved = rigid.from_rotation(rotation, here - (rotation @ centre[..., None])[..., 0])
    changed = np.abs(here - rigid.apply(pose, centre[:, None])[:, 0]).max(1) > 1e-9
    pose = np.where(changed[:, None, None], moved, pose)
    return capped(pose, given.t1, centre, given.fdi, free, rx)


def _share_of_width(slots: Slots, width: str, both: bool) -> Array:
    """Share of a change of width for the teeth in `slots`, with the sign of the patient's side.

    It grows evenly from the midline to the tooth of the width, and stays the same beyond. If canines and
    molars have wishes of their own, that of the one is 0 at the other.
    """
    fdi = np.array(SLOTS)[slots]
    at_3, at_6 = (1.0, 0.0 if both else 1.0) if width == "3-3" else (0.0 if both else 0.5, 1.0)
    share = np.interp(fdi % 10, [0, 3, 6], [0.0, at_3, at_6])
    return np.where(np.isin(fdi // 10, (2, 3)), share, -share)


def _overcorrected(pose: Array, t1: Array, centre: Array, percent: float) -> Array:
    """Poses with the part of each rotation from T1 about the tooth's long axis exaggerated."""
    turn = rigid.rotation_vector(np.swapaxes(t1[:, :3, :3], -1, -2) @ pose[:, :3, :3])
    turn[:, 2] *= 1 + percent / 100
    rotation = t1[:, :3, :3] @ rigid.rotation_matrix(turn)
    there = rigid.apply(pose, centre[:, None])[:, 0]
    return rigid.from_rotation(rotation, there - (rotation @ centre[..., None])[..., 0])


def capped(
    pose: Array, t1: Array, centre: Array, fdi: NDArray[np.integer], free: Bools, rx: Prescription
) -> Array:
    """Poses (T, 4, 4) with movements and rotations from T1 cut off at the caps of the prescription.

    centre : (T, 3), centroids of the crowns, tooth-local, mm
    free   : (T,) bool, teeth that may move; others are returned as they are
    """
    result = pose.copy()
    for row in np.flatnonzero(free).tolist():
        most_mm = rx.most_movement_mm(int(fdi[row]))
        most_rad = np.radians(rx.most_rotation_deg(int(fdi[row])))
        turn = rigid.rotation_vector(t1[row, :3, :3].T @ pose[row, :3, :3])
        before, after = (rigid.apply(p[row], centre[row][None])[0] for p in (t1, pose))
        shift = after - before
        length, angle = float(np.linalg.norm(shift)), float(np.linalg.norm(turn))
        if length <= most_mm and angle <= most_rad:
            continue
        rotation = pose[row, :3, :3]
        if angle > most_rad:
            rotation = t1[row, :3, :3] @ rigid.rotation_matrix(turn * (most_rad / angle))
        place = before + shift * min(1.0, most_mm / max(length, 1e-12))
        result[row] = rigid.from_rotation(rotation, place - rotation @ centre[row])
    return result


def _spread(found: Contacts) -> Slots:
    """Choose the deepest probe in each cube of a pair's contact, at most `_PER_PAIR` per direction."""
    order = np.argsort(found.distance_mm, kind="stable")
    cell = np.floor(found.point[order] / _CELL_MM).astype(np.int64) + 64
    side = (found.pair[order] * 2 + (found.tooth[order] > found.other[order])).astype(np.int64)
    key = ((side * 128 + cell[:, 0]) * 128 + cell[:, 1]) * 128 + cell[:, 2]
    _, first = np.unique(key, return_index=True)
    first = np.sort(first)  # by distance
    rank = np.zeros(len(first), int)
    by_side = np.argsort(side[first], kind="stable")
    sides = side[first][by_side]
    begin = np.searchsorted(sides, sides)
    rank[by_side] = np.arange(len(sides)) - begin
    return order[first[rank < _PER_PAIR]]
