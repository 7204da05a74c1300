"""What the solver does to proposals: overlaps and gaps by exact mesh distances, error, fixed teeth, time.

    python benchmarks/solver.py ../plain ../hard --count 50

Each folder is a case store (`json/<case_id>.json`, `stl/<case_id>/<FDI>.stl`) of cases with a plan. A
proposal is the true T2 with every tooth displaced and rotated at random. The solver is run on it as it is,
and once more with one to three teeth fixed, drawn at random. Depth and gap of each pair of crowns are
measured with libigl's signed distances of the vertices of either mesh to the other, not with the distance
fields that the solver uses. A line per case, and the means.
"""

import argparse
import time
from pathlib import Path

import igl
import numpy as np

from dentalign.cases import case_document
from dentalign.cases.findings import Findings
from dentalign.cases.reading import read_poses
from dentalign.cases.settings import Limits
from dentalign.geometry import contacts, rigid, stl
from dentalign.geometry.mesh_file import Surface
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2, Mouth
from dentalign.planning import solver
from dentalign.planning.distance_field import DistanceFields
from dentalign.planning.prescription import Prescription
from dentalign.planning.solver import Planning, Proposal
from dentalign.teeth import ARCHES, SLOT_COUNT

NAMES = ("overlap_mm", "contact_gap_mm", "occlusal_overlap_mm")
FARTHEST_MM = 0.5  # larger gaps count as this: they are spaces that the plan leaves open
POINTS = 256


def read(folder: Path, name: str) -> tuple[Mouth, dict[int, Surface]]:
    """Read poses and crowns of a case: the mouth, and slot -> mesh."""
    document = case_document.read(folder / "json" / f"{name}.json", name)
    mouth = read_poses(document, "", "+y", Limits(), Findings(name, "benchmark"))
    crowns = {}
    for slot in np.flatnonzero(mouth.stays).tolist():
        file = folder / "stl" / name / f"{mouth.fdi[slot]}.stl"
        crowns[slot] = stl.merged(stl.read_triangles(file.read_bytes(), file=str(file), tooth=0))
    return mouth, crowns


def depth_and_gap(one: Surface, other: Surface) -> tuple[float, float]:
    """Depth of the deepest vertex of either mesh in the other, and smallest distance up to FARTHEST_MM."""
    least = FARTHEST_MM
    for (points, _), (vertices, faces) in ((one, other), (other, one)):
        low, high = vertices.min(0) - FARTHEST_MM, vertices.max(0) + FARTHEST_MM
        near = points[((low < points) & (points < high)).all(1)]
        if len(near):
            kind = igl.SIGNED_DISTANCE_TYPE_PSEUDONORMAL
            least = min(least, float(igl.signed_distance(near, vertices, faces, kind)[0].min()))
    return max(-least, 0.0), max(least, 0.0)


def measured(mouth: Mouth, crowns: dict[int, Surface], pose: Array) -> tuple[Array, Array, float]:
    """Depth and gap of each pair of neighbours, and the deepest penetration of upper into lower, mm."""
    posed = {slot: (rigid.apply(pose[slot], v), f) for slot, (v, f) in crowns.items()}
    pairs = contacts.neighbours(mouth.stays, mouth.stays).tolist()
    found = np.array([depth_and_gap(posed[a], posed[b]) for a, b in pairs]).reshape(-1, 2)
    lower, upper = ([slot for slot in slots.tolist() if slot in posed] for slots in ARCHES.values())
    across = [depth_and_gap(posed[a], posed[b])[0] for a in lower for b in upper]
    return found[:, 0], found[:, 1], max(across, default=0.0)


def shaken(rng: np.random.Generator, mouth: Mouth, points: Array, mm: float, deg: float) -> Array:
    """True T2 with every tooth displaced by `mm` and rotated by `deg`, root mean square."""
    turn = rigid.rotation_matrix(rng.normal(0, np.radians(deg) / 3**0.5, (SLOT_COUNT, 3)))
    true, centre = mouth.pose[T2], points.mean(1)
    rotation = turn @ true[:, :3, :3]
    place = rigid.apply(true, centre[:, None])[:, 0] + rng.normal(0, mm / 3**0.5, (SLOT_COUNT, 3))
    return rigid.from_rotation(rotation, place - (rotation @ centre[..., None])[..., 0])


def one_case(folder: Path, name: str, options: argparse.Namespace, rng: np.random.Generator) -> Array:
    """Figures of one case, in the order of the heading that `main` prints."""
    mouth, crowns = read(folder, name)
    slots = np.array(sorted(crowns))
    begin = time.process_time()
    fields = DistanceFields([crowns[slot] for slot in slots.tolist()])
    of_fields = time.process_time() - begin
    points = np.zeros((SLOT_COUNT, POINTS, 3))
    for slot in slots.tolist():
        vertices = crowns[slot][0]
        points[slot] = vertices[np.linspace(0, len(vertices) - 1, POINTS).astype(int)]
    usual = Planning(overlap_mm=options.overlap, occlusal_overlap_mm=options.occlusal)
    pose = shaken(rng, mouth, points, options.mm, options.deg)
    here = mouth.stays

    def add_mm(found: Array) -> float:
        apart = rigid.apply(found[here], points[here]) - rigid.apply(mouth.pose[T2][here], points[here])
        return float(np.linalg.norm(apart, axis=-1).mean())

    def solved(prescription: Prescription, held: np.ndarray) -> Array:
        given = Proposal(mouth.pose[T1], pose, here, held, mouth.fdi, points, fields)
        return solver.solve(given, prescription, usual)

    begin = time.process_time()
    after = solved(Prescription(), np.zeros(SLOT_COUNT, bool))
    of_solver = time.process_time() - begin
    row = [of_fields, of_solver, add_mm(pose), add_mm(after)]
    for poses in (mouth.pose[T2], pose, after):
        depth, gap, across = measured(mouth, crowns, poses)
        row += [float(depth.mean()), float(gap.mean()), across]
    drawn = rng.choice(slots, int(rng.integers(1, 4)), replace=False)
    held = np.isin(np.arange(SLOT_COUNT), drawn)
    fixed = solved(Prescription(fixed=tuple(int(fdi) for fdi in mouth.fdi[drawn])), held)
    pairs = contacts.neighbours(here, here)
    beside = held[pairs].any(1)
    at_t1, now = (measured(mouth, crowns, poses)[0][beside] for poses in (mouth.pose[T1], fixed))
    same = all(np.array_equal(fixed[slot], mouth.pose[T1, slot]) for slot in drawn)
    return np.array([*row, same, float((now - np.maximum(at_t1, usual.overlap_mm)).max(initial=0.0))])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=50, help="cases per folder")
    parser.add_argument("--mm", type=float, default=0.5, help="displacement of a tooth, RMS")
    parser.add_argument("--deg", type=float, default=4.0, help="rotation of a tooth, RMS")
    parser.add_argument("--overlap", type=float, default=Planning().overlap_mm)
    parser.add_argument("--occlusal", type=float, default=Planning().occlusal_overlap_mm)
    options = parser.parse_args()
    sets = [f"{what} {name}" for what in ("true", "proposal", "solved") for name in NAMES]
    heading = [
        "fields s",
        "solver s",
        "proposal add_mm",
        "solved add_mm",
        *sets,
        "fixed same",
        "fixed beyond",
    ]
    for folder in options.folders:
        rng, rows = np.random.default_rng(0), []
        for file in sorted((folder / "json").glob("*.json"))[: options.count]:
            rows.append(one_case(folder, file.stem, options, rng))
            print(file.stem, *(f"{value:.3f}" for value in rows[-1]), flush=True)
        print(f"\n{folder}, {len(rows)} cases, means:")
        for name, value in zip(heading, np.mean(rows, 0), strict=True):
            print(f"  {name:34} {value:.3f}")
        beyond = np.array(rows)[:, -1]
        print(f"  cases with fixed teeth within + 0.05 mm: {(beyond <= 0.05).mean():.3f}\n", flush=True)


if __name__ == "__main__":
    main()
