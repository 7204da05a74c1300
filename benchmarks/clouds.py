"""Meshes to clouds: teeth per second and evenness, against trimesh, side by side.

    python benchmarks/clouds.py                      # the demo clinic's crowns, after `make demo`
    python benchmarks/clouds.py --meshes ../cases/stl

The peer is what one writes first: for each tooth and stage `trimesh.load_mesh`, `apply_transform`,
`sample_surface_even` (and `sample_surface` where that comes short). dentalign reads a tooth once, takes the
same points for T1 and T2, and puts them in anatomical order, which the peer does not. One thread, its time
on the processor; two processes against one by the clock.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import timing
import trimesh
from scipy.spatial import cKDTree

from dentalign.geometry import rigid, sampling, stl
from dentalign.running import pool as worker_pool

POINTS, OVERSAMPLING = 256, 8
POSES = rigid.from_rotation(
    rigid.rotation_matrix(np.array([[0.1, -0.2, 0.3], [0.0, 0.1, 0.2]])),
    np.array([[20.0, -30, 5], [21, -31, 5]]),
)


def read(file: Path) -> np.ndarray:
    """Triangles (F, 3, 3) of a crown, mm."""
    return stl.read_triangles(file.read_bytes(), file=file.name, tooth=11)


def ours(file: Path) -> np.ndarray:
    """The whole of dentalign's way: clouds (2, 256, 3) at T1 and T2, ordered."""
    points = sampling.order(sampling.sample_surface(read(file), POINTS, OVERSAMPLING, 0))
    return rigid.apply(POSES, np.broadcast_to(points, (2, *points.shape)))


def peer(file: Path) -> list[np.ndarray]:
    """The same by trimesh, unordered."""
    clouds = []
    for pose in POSES:
        mesh = trimesh.load_mesh(file)
        mesh.apply_transform(pose)
        points, _ = trimesh.sample.sample_surface_even(mesh, POINTS)
        clouds.append(points if len(points) == POINTS else trimesh.sample.sample_surface(mesh, POINTS)[0])
    return clouds


def ours_reading_and_placing(files: Sequence[Path], points: np.ndarray) -> None:
    """Without sampling and ordering: each tooth's triangles, and its points at T1 and T2."""
    for file in files:
        read(file)
        rigid.apply(POSES, np.broadcast_to(points, (2, *points.shape)))


def peer_reading_and_placing(files: Sequence[Path]) -> None:
    """The same by trimesh."""
    for file in files:
        for pose in POSES:
            trimesh.load_mesh(file).apply_transform(pose)


def variation(points: np.ndarray) -> float:
    """Standard deviation over mean of the distances to the nearest other point."""
    nearest = cKDTree(points).query(points, 2)[0][:, 1]
    return float(nearest.std() / nearest.mean())


def draw_many(part: tuple[list[Path], int, int]) -> int:
    """Number of the draws that came short; crowns, doubled shells, thin plates in turn."""
    files, first, draws = part
    shapes = []
    for file in files:
        crown = read(file)
        shapes += [crown, np.concatenate([crown, crown]), np.concatenate([crown, crown * 1.02])]
    box = trimesh.creation.box((8.0, 8.0, 0.05)).triangles
    shapes += [np.asarray(box), np.asarray(trimesh.creation.box((8.0, 0.01, 0.01)).triangles)]
    short = 0
    for seed in range(first, first + draws):
        points = sampling.sample_surface(shapes[seed % len(shapes)], POINTS, OVERSAMPLING, seed)
        short += points.shape != (POINTS, 3) or not np.isfinite(points).all()
    return short


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--meshes", type=Path, default=Path("data/demo/stl"))
    parser.add_argument("--teeth", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--draws", type=int, default=100_000, help="of the test for short clouds")
    given = parser.parse_args()
    files = sorted(given.meshes.glob("*/*.stl"))
    files = files[:: max(1, len(files) // given.teeth)][: given.teeth]
    if not files:
        parser.error(f"{given.meshes}: no <case>/<FDI>.stl")
    print(timing.machine())
    print(f"{len(files)} crowns, {np.mean([len(read(f)) for f in files]):.0f} triangles on average, "
          f"{POINTS} points at T1 and T2")  # fmt: skip
    some = ours(files[0])[0]
    timed = timing.interleaved(
        {
            "trimesh, whole": lambda: [peer(file) for file in files],
            "dentalign, whole": lambda: [ours(file) for file in files],
            "trimesh, reading and placing": lambda: peer_reading_and_placing(files),
            "dentalign, reading and placing": lambda: ours_reading_and_placing(files, some),
        },
        given.rounds,
        time.process_time,
    )
    for name, result in timed.items():
        print(f"  {name:34} {1e3 * result.median_s / len(files):7.2f} ms a tooth")
    for what in ("whole", "reading and placing"):
        low, middle, high = timed[f"dentalign, {what}"].times_faster_than(timed[f"trimesh, {what}"])
        print(f"  {what}: {middle:.1f} times faster (quartiles {low:.1f} to {high:.1f})")
    _processes(files)
    print("variation of the nearest-neighbour distance (mean over crowns)")
    for name, clouds in (("dentalign", ours), ("sample_surface_even", peer)):
        print(f"  {name:20} {np.mean([variation(clouds(file)[0]) for file in files]):.3f}")
    workers = os.cpu_count() or 1
    parts = [(files[:3], first, 250) for first in range(0, given.draws, 250)]
    with worker_pool.processes(workers) as pool:
        short = sum(pool.map(draw_many, parts))
    print(f"  short clouds: {short} of {len(parts) * 250} draws from crowns, doubled shells and thin plates")


def _processes(files: list[Path]) -> None:
    many = files * 20
    seconds = {}
    for workers in (1, 2):
        with worker_pool.processes(workers) as pool:
            list(pool.map(ours, files[:4]))  # the processes are up
            start = time.perf_counter()
            list(pool.map(ours, many, chunksize=7))
            seconds[workers] = time.perf_counter() - start
    print(f"  whole, 2 processes: {seconds[1] / seconds[2]:.2f} times faster than 1")


if __name__ == "__main__":
    multiprocessing.freeze_support()
    main()
