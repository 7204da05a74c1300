"""What the solver does to proposals: overlaps and gaps by exact mesh distances, error, fixed teeth, time.

    python benchmarks/solver.py CASES [--first 0] [--count 100] [--alignment alignment.pt]

CASES is a case store (`json/<case_id>.json`, `stl/<case_id>/<FDI>.stl`) of cases with a plan. A proposal is
what the model predicts, or, without one, the true T2 with every tooth displaced and rotated at random. The
solver is run on it as it is, and once more with one to three teeth fixed, drawn at random. Depth and gap of
each pair of crowns are measured with libigl's signed distances of the vertices of either mesh to the other,
not with the distance fields that the solver uses. A line per case, and the means.
"""

import argparse
import time
from pathlib import Path

import igl
import mesh_cases
import numpy as np
from mesh_cases import MeshCase, Predicted

from dentalign.alignment import registry
from dentalign.geometry import contacts, rigid
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2
from dentalign.planning import solver
from dentalign.planning.distance_field import DistanceFields, Index
from dentalign.planning.prescription import Prescription
from dentalign.planning.solver import Planning
from dentalign.teeth import ARCHES, SLOT_COUNT

NAMES = ("overlap_mm", "contact_gap_mm", "occlusal_overlap_mm")
FARTHEST_MM = 0.5  # larger gaps count as this: they are spaces that the plan leaves open


def clearances(case: MeshCase, pose: Array, pairs: Index) -> Array:
    """Smallest signed distance of the vertices of either crown to the other, (K,) mm, up to FARTHEST_MM."""
    least = np.full(len(pairs), FARTHEST_MM)
    posed = {slot: rigid.apply(pose[slot], vertices) for slot, (vertices, _) in case.surfaces.items()}
    for standing, (_, faces) in case.surfaces.items():
        low, high = posed[standing].min(0) - FARTHEST_MM, posed[standing].max(0) + FARTHEST_MM
        number, near = [], []
        for pair, slots in enumerate(pairs.tolist()):
            if standing in slots:
                points = posed[slots[1 - slots.index(standing)]]
                near.append(points[((low < points) & (points < high)).all(1)])
                number.append(np.full(len(near[-1]), pair))
        if len(every := np.concatenate([*near, np.zeros((0, 3))])):
            kind = igl.SIGNED_DISTANCE_TYPE_PSEUDONORMAL
            distance = igl.signed_distance(every, posed[standing], faces, kind)[0]
            np.minimum.at(least, np.concatenate(number), distance)
    return least


def measured(case: MeshCase, pose: Array) -> tuple[float, float, float]:
    """Mean depth and mean gap of neighbours, and the deepest penetration of upper into lower, mm."""
    mouth = case.mouth
    pairs = contacts.neighbours(mouth.stays, mouth.stays)
    lower, upper = (slots[mouth.stays[slots]] for slots in ARCHES.values())
    across = np.stack(np.meshgrid(lower, upper, indexing="ij"), -1).reshape(-1, 2)
    found = clearances(case, pose, np.concatenate([pairs, across]))
    beside, opposite = np.split(found, [len(pairs)])
    gap, depth = np.maximum(beside, 0), np.maximum(-beside, 0)
    return float(depth.mean()), float(gap.mean()), float(-opposite.min(initial=0.0))


def shaken(rng: np.random.Generator, case: MeshCase, mm: float, deg: float) -> Array:
    """True T2 with every tooth displaced by `mm` and rotated by `deg`, root mean square."""
    turn = rigid.rotation_matrix(rng.normal(0, np.radians(deg) / 3**0.5, (SLOT_COUNT, 3)))
    true, centre = case.mouth.pose[T2], case.mouth.points.mean(1, dtype=float)
    rotation = turn @ true[:, :3, :3]
    place = rigid.apply(true, centre[:, None])[:, 0] + rng.normal(0, mm / 3**0.5, (SLOT_COUNT, 3))
    return rigid.from_rotation(rotation, place - (rotation @ centre[..., None])[..., 0])


HEADING = [
    "solver s",
    "proposal add_mm",
    "solved add_mm",
    "proposal within add_mm_90",
    "solved within add_mm_90",
    *(f"{what} {name}" for what in ("true", "proposal", "solved") for name in NAMES),
    "fixed same",
    "fixed beyond",
]


def one_case(
    case: MeshCase,
    fields: DistanceFields,
    given: Predicted,
    usual: Planning,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Solve a proposal of one case, with and without fixed teeth.

    returns : figures in the order of `HEADING`, and the poses (32, 4, 4) without fixed teeth
    """
    mouth, here = case.mouth, case.mouth.stays
    pose, unknown = given.pose, given.unknown
    points = mouth.points.astype(np.float64)

    def add_mm(found: Array) -> Array:
        apart = rigid.apply(found[here], points[here]) - rigid.apply(mouth.pose[T2][here], points[here])
        return np.asarray(np.linalg.norm(apart, axis=-1).mean(-1))

    begin = time.process_time()
    after = solver.solve(case.proposal(pose, unknown, fields), Prescription(), usual)
    of_solver = time.process_time() - begin
    before, now = add_mm(pose), add_mm(after)
    bound = given.add_mm_90[here]
    kept = [float((add <= bound)[np.isfinite(bound)].mean()) for add in (before, now)]
    row = [of_solver, float(before.mean()), float(now.mean()), *kept]
    for poses in (mouth.pose[T2], pose, after):
        row += measured(case, poses)
    drawn = rng.choice(np.flatnonzero(here), int(rng.integers(1, 4)), replace=False)
    held = np.isin(np.arange(SLOT_COUNT), drawn)
    rx = Prescription(fixed=tuple(int(fdi) for fdi in mouth.fdi[drawn]))
    fixed = solver.solve(case.proposal(pose, held | unknown, fields), rx, usual)
    pairs = contacts.neighbours(here, here)
    pairs = pairs[held[pairs].any(1)]
    at_t1, at_t2 = (np.maximum(-clearances(case, poses, pairs), 0) for poses in (mouth.pose[T1], fixed))
    same = all(np.array_equal(fixed[slot], mouth.pose[T1, slot]) for slot in drawn)
    beyond = float((at_t2 - np.maximum(at_t1, usual.overlap_mm)).max(initial=0.0))
    return np.array([*row, same, beyond]), after


def summarise(rows: list[Array]) -> None:
    """Print the means of all cases."""
    print(f"\n{len(rows)} cases, means:")
    for name, value in zip(HEADING, np.nanmean(rows, 0), strict=True):
        print(f"  {name:34} {value:.3f}")
    within = (np.array(rows)[:, -1] <= 0.05).mean()
    print(f"  cases with fixed teeth within + 0.05 mm: {within:.3f}\n", flush=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--alignment", type=Path, help="model that needs no latents, such as `attention`")
    parser.add_argument("--mm", type=float, default=0.5, help="displacement of a tooth, RMS")
    parser.add_argument("--deg", type=float, default=4.0, help="rotation of a tooth, RMS")
    parser.add_argument("--overlap", type=float, default=Planning().overlap_mm)
    parser.add_argument("--occlusal", type=float, default=Planning().occlusal_overlap_mm)
    options = parser.parse_args()
    model = registry.load(options.alignment) if options.alignment else None
    usual = Planning(overlap_mm=options.overlap, occlusal_overlap_mm=options.occlusal)
    rng, rows = np.random.default_rng(options.first), []
    for case in mesh_cases.read(options.cases, options.first, options.count):
        no_bound = np.full(SLOT_COUNT, np.nan)
        given = Predicted(shaken(rng, case, options.mm, options.deg), np.isfinite(no_bound), no_bound)
        if model is not None:
            given = case.predicted(model)
        rows.append(one_case(case, case.fields(), given, usual, rng)[0])
        print(case.case_id, *(f"{value:.3f}" for value in rows[-1]), flush=True)
    summarise(rows)


if __name__ == "__main__":
    main()
