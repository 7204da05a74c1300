"""Collisions on the way from T1 to T2, by exact mesh distances: even motion, and the stages of `planning`.

    python benchmarks/staging.py CASES [--first 0] [--count 200] [--alignment alignment.pt] [--plan-only]

CASES has `json/<case_id>.json` with T1 and T2 and `stl/<case_id>/<FDI>.stl`. For each case the path from T1
to the T2 of its file is planned twice, evenly and by `staging.plan`, under the same limits (the defaults).
With a model, the path to its T2 after the solver is planned, too, and `solver.py` measures that T2. At
every stage and at 5 positions between two, each vertex of a crown that is inside another counts with its
distance to that surface (`igl.signed_distance` on the meshes of the files, not the distance fields).
A pair collides where it is more than 0.05 mm deeper than at T1 and at T2. Prints lines for each case, and
tables.
"""

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

import igl
import mesh_cases
import numpy as np
import solver
from mesh_cases import MeshCase
from numpy.typing import NDArray

from dentalign.alignment import registry
from dentalign.geometry import contacts, rigid
from dentalign.geometry.mesh_file import Surface
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2, Bools
from dentalign.planning import staging
from dentalign.planning.distance_field import DistanceFields
from dentalign.planning.solver import Planning
from dentalign.teeth import ARCHES, SLOTS

CELL_MM = 0.5
COARSE = 3  # positions from one at which all vertices are looked at to the next such


class Crown:
    """Mesh of a crown, and the distance to it at the middles of the cells of a lattice."""

    def __init__(self, surface: Surface):
        self.vertices, self.faces = surface
        self.low, high = self.vertices.min(0), self.vertices.max(0)
        self.middle, self.half = (self.low + high) / 2, (high - self.low) / 2
        self.cells = np.ceil((high - self.low) / CELL_MM).astype(int)
        middle = np.stack(np.meshgrid(*[np.arange(n) + 0.5 for n in self.cells], indexing="ij"), -1)
        self.lattice = self.distance(self.low + CELL_MM * middle.reshape(-1, 3))
        self.radius = float(np.linalg.norm(self.vertices - self.middle, axis=1).max())
        self.corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
        self.corners = self.low + self.corners * (high - self.low)

    def distance(self, points: Array) -> Array:
        """Signed distance of points (N, 3)."""
        kind = igl.SIGNED_DISTANCE_TYPE_PSEUDONORMAL
        return np.asarray(igl.signed_distance(points, self.vertices, self.faces, kind)[0])

    def at_least(self, points: Array) -> Array:
        """Lower bound (...,) of the signed distance of points (..., 3)."""
        place = (points - self.low) / CELL_MM
        cell = np.clip(np.floor(place).astype(int), 0, self.cells - 1)
        index = (cell[..., 0] * self.cells[1] + cell[..., 1]) * self.cells[2] + cell[..., 2]
        return self.lattice[index] - CELL_MM * np.linalg.norm(place - cell - 0.5, axis=-1)


def excess_overlap(crowns: dict[int, Crown], poses: Array, pairs: list[tuple[int, int]]) -> Array:
    """Deepest penetration of each pair of slots on the way beyond that at the ends, mm, 0 or more.

    poses : (S, 32, 4, 4), positions; all vertices are measured but those that are certainly outside
    """
    ends, deepest = np.zeros((2, len(pairs)))
    for standing in sorted(crowns):
        number, at, points = [], [], []
        for pair, slots in enumerate(pairs):
            if standing in slots:
                probing = slots[1 - slots.index(standing)]
                position, found = inside(crowns[probing], crowns[standing], poses[:, [probing, standing]])
                number.append(np.full(len(position), pair))
                at.append(position)
                points.append(found)
        if len(every := np.concatenate([*points, np.zeros((0, 3))])):
            depth = -crowns[standing].distance(every)
            whose, place = np.concatenate(number), np.concatenate(at)
            np.maximum.at(deepest, whose, depth)
            end = (place == 0) | (place == len(poses) - 1)
            np.maximum.at(ends, whose[end], depth[end])
    return deepest - ends


def inside(probing: Crown, standing: Crown, poses: Array) -> tuple[np.ndarray, Array]:
    """Vertices of a crown that may be inside another one: position (N,), and point (N, 3) in its frame.

    poses : (S, 2, 4, 4), of the two crowns
    """
    there = rigid.inverse(poses[:, 1]) @ poses[:, 0]
    middle = rigid.apply(there, probing.middle[None])[:, 0]
    near = np.linalg.norm(middle - standing.middle, axis=1) < probing.radius + standing.radius
    if not near.any():
        return np.zeros(0, int), np.zeros((0, 3))
    first = max(near.argmax() - COARSE, 0)
    there = there[first : len(near) - near[::-1].argmax() + COARSE]
    coarse = np.unique(np.r_[0 : len(there) : COARSE, len(there) - 1])
    corners = rigid.apply(there[coarse], probing.corners)  # a motion carries no vertex farther than these
    step = np.linalg.norm(np.diff(corners, axis=0), axis=-1).max(initial=0.0)
    points = rigid.apply(there[coarse], probing.vertices)
    close = np.ones(points.shape[:2], bool)
    for axis in range(3):
        close &= np.abs(points[..., axis] - standing.middle[axis]) < standing.half[axis] + step
    close[close] = standing.at_least(points[close]) < step
    close = close[:-1] | close[1:] if len(coarse) > 1 else close
    position, vertex = np.nonzero(close[np.minimum(np.arange(len(there)) // COARSE, len(close) - 1)])
    points = np.einsum("nij,nj->ni", there[position, :3, :3], probing.vertices[vertex])
    points += there[position, :3, 3]
    may = standing.at_least(points) < 0
    return position[may] + first, points[may]


@dataclass
class Way:
    """Excess overlap of the pairs on one path: (slot, slot) -> mm; and its steps."""

    neighbours: dict[tuple[int, int], float] = field(default_factory=dict)
    antagonists: dict[tuple[int, int], float] = field(default_factory=dict)
    over_a_limit: int = 0
    stages: int = 0


@dataclass
class Row:
    """Figures of one path; `unsaid` counts the pairs that collide and are not announced."""

    today: Way
    now: Way
    plan: staging.StagedPlan
    seconds: float
    unsaid: int


def judge(
    crowns: dict[int, Crown], poses: Array, mask: Bools, points: NDArray[np.float32], limits: staging.Predict
) -> Way:
    """Measure a path, (K + 1, 32, 4, 4) with T1."""
    slots = np.flatnonzero(mask)
    found = Way(stages=len(poses) - 1)
    centroid = np.zeros((len(mask), 3))
    centroid[slots] = points[slots].mean(1, dtype=float)
    place = rigid.apply(poses, centroid[:, None])[:, slots, 0]
    turn = rigid.angle_deg(np.swapaxes(poses[:-1, slots, :3, :3], -1, -2) @ poses[1:, slots, :3, :3])
    round_tooth = np.isin([SLOTS[slot] % 10 for slot in slots], (3, 4, 5))
    step = np.diff(place, axis=0)
    over = np.linalg.norm(step, axis=-1) > limits.max_step_mm + 1e-6
    over |= np.abs(step[..., 2]) > limits.max_vertical_step_mm + 1e-6
    over |= turn > np.where(round_tooth, limits.max_round_tooth_step_deg, limits.max_step_deg) + 1e-5
    found.over_a_limit = int(over.sum())
    positions = staging.between(poses, centroid)
    beside = [(one, other) for one, other in contacts.neighbours(mask, mask).tolist()]
    lower, upper = (np.intersect1d(slots, ARCHES[arch]).tolist() for arch in ("lower", "upper"))
    across = [(one, other) for one in lower for other in upper]
    excess = excess_overlap(crowns, positions, beside + across).tolist()
    found.neighbours = dict(zip(beside, excess[: len(beside)], strict=True))
    found.antagonists = dict(zip(across, excess[len(beside) :], strict=True))
    return found


def main() -> None:
    """Measure the cases of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--alignment", type=Path, help="model that needs no latents, such as `attention`")
    parser.add_argument("--plan-only", action="store_true", help="do not measure even motion")
    given = parser.parse_args()
    model, limits = given.alignment and registry.load(given.alignment), staging.Predict()
    rows: dict[str, list[Row]] = {"the T2 of the file": [], "the T2 of the model": []}
    figures, rng = [], np.random.default_rng(given.first)
    for case in mesh_cases.read(given.cases, given.first, given.count):
        crowns = {slot: Crown(surface) for slot, surface in case.surfaces.items()}
        begin = time.process_time()
        fields = case.fields()
        of_fields = time.process_time() - begin
        ends: list[tuple[Array, Bools | None]] = [(case.mouth.pose[T2], None)]
        if model:
            answer = case.predicted(model)
            found, after = solver.one_case(case, fields, answer, Planning(), rng)
            figures.append(found)
            ends.append((after, answer.unknown))
        for (after, held), kind in zip(ends, rows, strict=False):
            row = one_path(case, crowns, fields, after, held, limits, not given.plan_only)
            row.seconds += of_fields
            rows[kind].append(row)
            print(case.case_id, "to", kind, in_words(row), flush=True)
        if model:
            print(case.case_id, "solver", *(f"{value:.3f}" for value in found), flush=True)
    for kind, measured in rows.items():
        if measured:
            summarise(kind, measured)
    if figures:
        solver.summarise(figures)


def one_path(
    case: MeshCase,
    crowns: dict[int, Crown],
    fields: DistanceFields,
    after: Array,
    held: Bools | None,
    limits: staging.Predict,
    evenly: bool,
) -> Row:
    """Plan and measure the way of a case to the poses `after` (32, 4, 4)."""
    mouth = case.mouth
    before, mask, points = mouth.pose[T1], mouth.stays, mouth.points
    begin = time.process_time()
    plan = staging.plan(before, after, mask, points, case.surfaces, limits, held=held, fields=fields)
    seconds = time.process_time() - begin
    today = Way()
    if evenly:
        even = staging.evenly(before, after, mask, points, plan.even_stages)
        today = judge(crowns, np.concatenate([before[None], even]), mask, points, limits)
    now = judge(crowns, np.concatenate([before[None], plan.poses]), mask, points, limits)
    said = {collision.slots for collision in plan.collisions}
    every = now.neighbours | now.antagonists
    unsaid = [pair for pair, mm in every.items() if mm > staging.TOLERANCE_MM and pair not in said]
    return Row(today, now, plan, seconds, len(unsaid))


def in_words(row: Row) -> str:
    """Figures of one path."""
    named = "; ".join(
        f"{SLOTS[c.slots[0]]}-{SLOTS[c.slots[1]]} stage {c.stage} {c.depth_mm:.2f} ({c.allowed_mm:.2f})"
        for c in row.plan.collisions
    )
    return (
        f"stages {row.plan.even_stages} -> {row.now.stages}; beyond the ends, mm: "
        f"neighbours {worst(row.today.neighbours)} -> {worst(row.now.neighbours)}, "
        f"antagonists {worst(row.today.antagonists)} -> {worst(row.now.antagonists)}; "
        f"over a limit {row.now.over_a_limit}; unannounced {row.unsaid}; {row.seconds:.1f} s CPU; {named}"
    )


def worst(excess: dict[tuple[int, int], float]) -> str:
    """Largest excess overlap in words."""
    return f"{max(excess.values(), default=0.0):.3f}"


def summarise(kind: str, rows: list[Row]) -> None:
    """Print the table of all cases."""

    def colliding(ways: list[Way], kind: str) -> str:
        most = np.array([max(getattr(way, kind).values(), default=0.0) for way in ways])
        return f"{100 * (most > staging.TOLERANCE_MM).mean():.1f} % (most {most.max():.2f} mm)"

    today, now = [row.today for row in rows], [row.now for row in rows]
    print(f"\n{len(rows)} cases, to {kind} | even motion | staging.plan\n---|---|---")
    for kind in ("neighbours", "antagonists"):
        print(f"{kind} collide | {colliding(today, kind)} | {colliding(now, kind)}")
    print(f"cases announced | - | {sum(bool(row.plan.collisions) for row in rows)}")
    print(f"collisions not announced | all | {sum(row.unsaid for row in rows)}")
    print(f"steps over a limit | {sum(w.over_a_limit for w in today)} | {sum(w.over_a_limit for w in now)}")
    ratio = np.array([row.now.stages / row.plan.even_stages for row in rows])
    seconds = np.array([row.seconds for row in rows])
    for name, values in (("stages over even motion", ratio), ("seconds of one core a case", seconds)):
        mean, high = values.mean(), np.quantile(values, 0.95)
        print(f"{name}: mean; 95 %; most | - | {mean:.2f}; {high:.2f}; {values.max():.2f}")


if __name__ == "__main__":
    main()
