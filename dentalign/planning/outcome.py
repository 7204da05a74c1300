"""Comparison of the wishes of a prescription with what a plan does."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from dentalign.files import csv_table
from dentalign.geometry import contacts, rigid
from dentalign.geometry.rigid import Array
from dentalign.planning.prescription import Prescription, contact
from dentalign.planning.solver import TOLERANCE_DEG, TOLERANCE_MM, Planning, Proposal, arch_wishes
from dentalign.teeth import ARCHES

COLUMNS = ("wish", "wanted", "done", "unit", "met", "missed_by")


@dataclass(frozen=True)
class Wish:
    """One wish and what was done about it.

    wish      : key of the prescription, and teeth, contact or arch; "(usual)" for what plans usually show
    wanted    : value; for a cap and an allowed overlap the most that is allowed
    done      : value in the plan
    unit      : mm, deg or %
    met       : "yes" or "no"
    missed_by : by how much, 0 if met
    """

    wish: str
    wanted: float
    done: float
    unit: str
    met: str
    missed_by: float


def compare(given: Proposal, pose: Array, rx: Prescription, usual: Planning) -> tuple[Wish, ...]:
    """Compare a plan with a prescription: a row per wish; what plans usually show counts as two wishes.

    pose: (32, 4, 4), the plan, tooth-local -> head, mm
    """
    return (*_teeth(given, pose, rx), *_contacts(given, pose, rx, usual), *_arches(given, pose, rx))


def csv_text(wishes: Sequence[Wish]) -> str:
    """Format the wishes as a CSV table with the columns `COLUMNS`."""
    rows = [[f"{v:.4f}" if isinstance(v, float) else v for v in astuple(wish)] for wish in wishes]
    return csv_table.text(COLUMNS, rows)


def in_words(given: Proposal, pose: Array, wishes: Sequence[Wish]) -> tuple[str, ...]:
    """Make sentences for a report: how far the plan is from the proposal, and each wish that is not met."""
    points = given.points[given.stays].astype(np.float64)
    before, after = (rigid.apply(poses[given.stays], points) for poses in (given.pose, pose))
    far = np.linalg.norm(after - before, axis=-1).mean(1)
    most = f"most {far.max():.2f} mm (tooth {given.fdi[given.stays][far.argmax()]})"
    how_far = (
        f"The solver moved teeth by {far.mean():.2f} mm on average from the network's answer, {most}."
        if far.any()
        else "The network's answer obeys the prescription and stands as it is."
    )
    return how_far, *(
        f"Not met: {w.wish}, wanted {w.wanted:.2f} {w.unit}, done {w.done:.2f} {w.unit}, missed by "
        f"{w.missed_by:.2f} {w.unit}; this is the nearest plan."
        for w in wishes
        if w.met == "no"
    )


def _most(wish: str, wanted: float, done: float, unit: str = "mm") -> Wish:
    """Wish for at most so much."""
    missed = max(done - wanted, 0.0)
    met = missed <= (TOLERANCE_DEG if unit == "deg" else TOLERANCE_MM)
    return Wish(wish, float(wanted), float(done), unit, "yes" if met else "no", 0.0 if met else float(missed))


def _exactly(wish: str, wanted: float, done: float, unit: str = "mm") -> Wish:
    missed = abs(done - wanted)
    met = missed <= (1.0 if unit == "%" else TOLERANCE_MM)
    return Wish(wish, float(wanted), float(done), unit, "yes" if met else "no", 0.0 if met else float(missed))


def _teeth(given: Proposal, pose: Array, rx: Prescription) -> Iterator[Wish]:
    teeth = np.flatnonzero(given.stays)
    fdi = given.fdi[teeth].astype(int).tolist()
    points = given.points[teeth].astype(np.float64)
    centre = points.mean(1, keepdims=True)
    before, after = given.t1[teeth], pose[teeth]
    moved = np.linalg.norm((rigid.apply(after, centre) - rigid.apply(before, centre))[:, 0], axis=1)
    turned = rigid.angle_deg(np.swapaxes(before[:, :3, :3], -1, -2) @ after[:, :3, :3])
    for tooth in rx.extract:
        yield _most(f"extract {tooth}", 0, float(tooth in fdi), "teeth left")
    surface = np.linalg.norm(rigid.apply(after, points) - rigid.apply(before, points), axis=-1).max(1)
    for tooth, far in zip(fdi, surface.tolist(), strict=True):
        if tooth in rx.fixed:
            yield _exactly(f"fixed {tooth}", 0, far)
    if rx.only:
        others = [not rx.may_move(tooth) for tooth in fdi]
        yield _exactly("only: movement of the other teeth", 0, surface[others].max(initial=0.0))
    for name, limit, done, unit in (
        ("max_movement_mm", rx.max_movement_mm, moved, "mm"),
        ("max_rotation_deg", rx.max_rotation_deg, turned, "deg"),
    ):
        if isinstance(limit, dict):
            for tooth, value in zip(fdi, done.tolist(), strict=True):
                if tooth in limit:
                    yield _most(f"{name} {tooth}", limit[tooth], value, unit)
        elif limit is not None:
            yield _most(f"{name} all (most: {fdi[int(done.argmax())]})", limit, done.max(), unit)
    if rx.overcorrection:
        wanted, done = (
            np.abs(
                rigid.rotation_vector(np.swapaxes(before[:, :3, :3], -1, -2) @ p[teeth, :3, :3])[:, 2]
            ).sum()
            for p in (given.pose, pose)
        )
        yield _exactly("overcorrection", rx.overcorrection, 100 * (done / max(wanted, 1e-9) - 1), "%")


def overlaps(given: Proposal, pose: Array) -> tuple[NDArray[np.intp], Array, float]:
    """Measure how deep crowns are in each other at one set of poses.

    returns: pairs of slots (K, 2) of neighbours, their penetration depth (K,), mm, and the deepest
             penetration of an upper and a lower tooth, mm
    """
    teeth = np.flatnonzero(given.stays)
    neighbours = contacts.neighbours(given.stays, given.stays)
    lower, upper = (slots[given.stays[slots]] for slots in ARCHES.values())
    across = np.stack(np.meshgrid(lower, upper, indexing="ij"), -1).reshape(-1, 2)
    both = np.searchsorted(teeth, np.concatenate([neighbours, across]))
    depth = given.fields.depth_mm(pose[None, teeth], both)[0]
    return neighbours, depth[: len(neighbours)], float(depth[len(neighbours) :].max(initial=0.0))


def _contacts(given: Proposal, pose: Array, rx: Prescription, usual: Planning) -> Iterator[Wish]:
    pairs, depth, occlusal = overlaps(given, pose)
    named = {contact(*map(int, given.fdi[pair])): float(mm) for pair, mm in zip(pairs, depth, strict=True)}
    of_contacts = rx.ipr_mm if isinstance(rx.ipr_mm, dict) else {}
    for pair, limit in of_contacts.items():
        if pair in named:
            yield _most("ipr_mm {}-{}".format(*pair), limit, named[pair])
    if others := {pair: mm for pair, mm in named.items() if pair not in of_contacts}:
        worst = max(others, key=lambda pair: others[pair])
        name = "overlap_mm (usual)" if rx.ipr_mm is None else "ipr_mm, the other contacts"
        limit = rx.allowed_overlap_mm(*worst, usual.overlap_mm)
        yield _most("{} (most: {}-{})".format(name, *worst), limit, others[worst])
    yield _most("occlusal_overlap_mm (usual)", usual.occlusal_overlap_mm, occlusal)


def _arches(given: Proposal, pose: Array, rx: Prescription) -> Iterator[Wish]:
    teeth = np.flatnonzero(given.stays)
    centre = given.points[teeth].astype(np.float64).mean(1, keepdims=True)
    moved = (rigid.apply(pose[teeth], centre) - rigid.apply(given.t1[teeth], centre))[:, 0]
    for wish in arch_wishes(teeth, given.free[teeth], rx):
        key = "arch_shift_mm" if wish.what in "xyz" else "arch_width_mm"
        lacking = "" if wish.weights.any() else ", no such teeth"
        done = float((wish.weights * moved).sum())
        yield _exactly(f"{key} {wish.arch} {wish.what}{lacking}", wish.wanted, done)
