"""Collisions on the way from T1 to T2, by exact mesh distances: even motion, and the stages of `planning`.

    python benchmarks/staging.py CASES [--first 0] [--count 200] [--plan-only]

CASES has `json/<case_id>.json` with T1 and T2 and `stl/<case_id>/<FDI>.stl`. For each case the path from T1
to the T2 of its file is planned twice, evenly and by `staging.plan`, under the same limits (the defaults). At
every stage and at 5 positions between two, each vertex of a crown that is inside another counts with its
distance to that surface (`igl.signed_distance` on the meshes of the files, not the distance fields).
A pair collides where it is more than 0.05 mm deeper than at T1 and at T2. Prints a line per case and a table.
"""

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

import igl
import numpy as np
from numpy.typing import NDArray

from dentalign.cases.crowns import Sampler
from dentalign.cases.settings import Limits, Sample
from dentalign.geometry import contacts, rigid, stl
from dentalign.geometry.mesh_file import Surface
from dentalign.geometry.rigid import Array
from dentalign.mouth import Bools
from dentalign.planning import staging
from dentalign.prediction import new_case
from dentalign.teeth import ARCHES, SLOTS

CELL_MM = 0.5


class Crown:
    """Mesh of a crown, and the cells of a lattice that may reach into it: all other points are outside."""

    def __init__(self, surface: Surface):
        self.vertices, self.faces = surface
        self.origin = self.vertices.min(0)
        self.cells = np.ceil((self.vertices.max(0) - self.origin) / CELL_MM).astype(int)
        middle = np.stack(np.meshgrid(*[np.arange(n) + 0.5 for n in self.cells], indexing="ij"), -1)
        distance = self.distance(self.origin + CELL_MM * middle.reshape(-1, 3)).reshape(self.cells)
        self.reached = distance < CELL_MM * 3**0.5 / 2  # half the diagonal of a cell
        self.middle = (self.vertices.min(0) + self.vertices.max(0)) / 2
        self.radius = float(np.linalg.norm(self.vertices - self.middle, axis=1).max())

    def distance(self, points: Array) -> Array:
        """Signed distance of points (N, 3)."""
        kind = igl.SIGNED_DISTANCE_TYPE_PSEUDONORMAL
        return np.asarray(igl.signed_distance(points, self.vertices, self.faces, kind)[0])

    def may_hold(self, points: Array) -> np.ndarray:
        """False for points (..., 3) that are certainly outside."""
        cell = np.floor((points - self.origin) / CELL_MM).astype(int)
        inside = ((cell >= 0) & (cell < self.cells)).all(-1)
        inside[inside] = self.reached[tuple(cell[inside].T)]
        return inside


def depths(crowns: dict[int, Crown], poses: Array, one: int, other: int) -> Array:
    """Penetration depth of two crowns at each position (S, 32, 4, 4), mm."""
    depth = np.zeros(len(poses))
    middles = [rigid.apply(poses[:, slot], crowns[slot].middle[None])[:, 0] for slot in (one, other)]
    apart = np.linalg.norm(middles[0] - middles[1], axis=-1)
    near = np.flatnonzero(apart < crowns[one].radius + crowns[other].radius)
    for probing, standing in ((one, other), (other, one)):
        there = rigid.inverse(poses[near, standing]) @ poses[near, probing]
        points = rigid.apply(there, crowns[probing].vertices)
        inside = crowns[standing].may_hold(points)
        if inside.any():
            found = crowns[standing].distance(points[inside])
            np.maximum.at(depth, near[np.nonzero(inside)[0]], -found)
    return depth


@dataclass
class Way:
    """Excess overlap of the pairs on one path: (slot, slot) -> mm; and its steps."""

    neighbours: dict[tuple[int, int], float] = field(default_factory=dict)
    antagonists: dict[tuple[int, int], float] = field(default_factory=dict)
    over_a_limit: int = 0
    stages: int = 0


@dataclass
class Row:
    """What was measured of one case; `unsaid` counts the pairs that collide and are not announced."""

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
    for one, other in contacts.neighbours(mask, mask).tolist():
        depth = depths(crowns, positions, one, other)
        found.neighbours[one, other] = float(depth.max() - max(depth[0], depth[-1]))
    for one in np.intersect1d(slots, ARCHES["lower"]).tolist():
        for other in np.intersect1d(slots, ARCHES["upper"]).tolist():
            depth = depths(crowns, positions, one, other)
            found.antagonists[one, other] = float(depth.max() - max(depth[0], depth[-1]))
    return found


def main() -> None:
    """Measure the cases of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--plan-only", action="store_true", help="do not measure even motion")
    given = parser.parse_args()
    sampler, limits = Sampler("+y", Sample(), Limits()), staging.Predict()
    rows: list[Row] = []
    for file in sorted((given.cases / "json").glob("*.json"))[given.first : given.first + given.count]:
        case = new_case.read(file, given.cases / "stl", sampler)
        mouth = case.mouth
        surfaces = {slot: stl.merged(crown) for slot, crown in case.crowns.items() if mouth.stays[slot]}
        before, after = mouth.pose
        wall, cpu = time.perf_counter(), time.process_time()
        plan = staging.plan(before, after, mouth.stays, mouth.points, surfaces, limits)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        crowns = {slot: Crown(surface) for slot, surface in surfaces.items()}
        even = staging.evenly(before, after, mouth.stays, mouth.points, plan.even_stages)
        today = Way()
        if not given.plan_only:
            today = judge(crowns, np.concatenate([before[None], even]), mouth.stays, mouth.points, limits)
        now = judge(crowns, np.concatenate([before[None], plan.poses]), mouth.stays, mouth.points, limits)
        said = {collision.slots for collision in plan.collisions}
        every = now.neighbours | now.antagonists
        unsaid = [pair for pair, mm in every.items() if mm > staging.TOLERANCE_MM and pair not in said]
        rows.append(Row(today, now, plan, cpu, len(unsaid)))
        named = "; ".join(
            f"{SLOTS[c.slots[0]]}-{SLOTS[c.slots[1]]} stage {c.stage} {c.depth_mm:.2f} ({c.allowed_mm:.2f})"
            for c in plan.collisions
        )
        print(
            f"{case.case_id} stages {plan.even_stages} -> {now.stages}; beyond the ends, mm: "
            f"neighbours {worst(today.neighbours)} -> {worst(now.neighbours)}, "
            f"antagonists {worst(today.antagonists)} -> {worst(now.antagonists)}; "
            f"over a limit {now.over_a_limit}; unannounced {len(unsaid)}; "
            f"{cpu:.1f} s CPU, {wall:.1f} s; {named}",
            flush=True,
        )
    summarise(rows)


def worst(excess: dict[tuple[int, int], float]) -> str:
    """Largest excess overlap in words."""
    return f"{max(excess.values(), default=0.0):.3f}"


def summarise(rows: list[Row]) -> None:
    """Print the table of all cases."""

    def colliding(ways: list[Way], kind: str) -> str:
        most = np.array([max(getattr(way, kind).values(), default=0.0) for way in ways])
        return f"{100 * (most > staging.TOLERANCE_MM).mean():.1f} % (most {most.max():.2f} mm)"

    today, now = [row.today for row in rows], [row.now for row in rows]
    print(f"\n{len(rows)} cases | even motion | staging.plan\n---|---|---")
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
