"""Make dentalign/geometry/average_crowns.npz: mean and principal deviations of crowns by tooth.

    python -m tools.average_crowns MAKE_CASES

MAKE_CASES is the script that makes cases from the statistical shape model of real crowns (see
dentalign/geometry/average_crowns.NOTICE.md). Its crowns and those of the demo clinic count the same. As
laboratories cut crowns differently at the gum and differ in the axes of a tooth, each crown is turned a
little at random, and half of them are cut open.
"""

import argparse
import importlib.util
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dentalign.demo_clinic import patient
from dentalign.geometry import average_crowns, rigid
from dentalign.geometry.rigid import Array
from dentalign.teeth import is_upper

OUT = Path(__file__).resolve().parents[1] / "dentalign" / "geometry" / "average_crowns.npz"
PATIENTS = 150  # of the shape model, and as many of the demo clinic
TURN_DEG = 5.0  # standard deviation about each axis
SIZE = 0.04
CUT_MM = 1.5  # at most, from the crown's lowest point
DEVIATIONS = 16
POOLED = 0.3  # share of a group's covariance in that of a tooth
LEAST_MM = 0.15  # standard deviation of a distance that no principal deviation explains

Key = tuple[bool, int]  # upper arch, number of the tooth
Crowns = Iterator[tuple[int, Array]]  # FDI number, triangles (F, 3, 3)


def shape_model(make_cases: Path) -> Crowns:
    """Crowns drawn from the shape model."""
    spec = importlib.util.spec_from_file_location("make_cases", make_cases)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_cases"] = module
    spec.loader.exec_module(module)
    model = module.ShapeModel()
    for number in range(PATIENTS):
        for fdi, tooth in model.sample_shapes(np.random.default_rng([1, number])).items():
            yield fdi, tooth.vertices[tooth.faces]


def demo_clinic() -> Crowns:
    """Crowns of the demo clinic's patients."""
    for number in range(PATIENTS):
        for fdi, crown in patient.draw(np.random.default_rng([2, number]), complete=True).mouth.items():
            yield fdi, crown.vertices[crown.faces]


def described(crowns: Crowns) -> tuple[dict[Key, Array], dict[Key, Array]]:
    """Distances (N, 98) and extents (N, 3) of the crowns by tooth, all as on one side."""
    rng = np.random.default_rng(3)
    distances: dict[Key, list[Array]] = defaultdict(list)
    extents: dict[Key, list[Array]] = defaultdict(list)
    for fdi, triangles in crowns:
        side = np.array([-1.0 if fdi // 10 in (2, 4) else 1.0, 1.0, 1.0])
        turn = rigid.rotation_matrix(rng.normal(0, np.radians(TURN_DEG), 3))
        other = triangles * side @ turn.T * np.exp(rng.normal(0, SIZE))
        cut = other[..., 2].min() + CUT_MM * rng.random()
        if rng.random() < 0.5:
            other = other[(other[..., 2] > cut).all(1)]
        points = average_crowns.surface_points(other)
        distances[is_upper(fdi), fdi % 10].append(average_crowns.surface_distances(points))
        extents[is_upper(fdi), fdi % 10].append(np.ptp(other.reshape(-1, 3), axis=0))
    first, second = ({key: np.array(rows) for key, rows in found.items()} for found in (distances, extents))
    return first, second


def main(make_cases: Path) -> None:
    """Write the table."""
    sources = [described(crowns) for crowns in (shape_model(make_cases), demo_clinic())]
    mean, covariance = {}, {}
    for key in sources[0][0]:
        rows = [distances[key] for distances, _ in sources]
        apart = (rows[0].mean(0) - rows[1].mean(0)) / 2
        mean[key] = (rows[0].mean(0) + rows[1].mean(0)) / 2
        covariance[key] = (np.cov(rows[0].T) + np.cov(rows[1].T)) / 2 + np.outer(apart, apart)
    table: dict[str, list[Any]] = defaultdict(list)
    for key in sorted(mean):
        like = [covariance[other] for other in mean if group(other[1]) == group(key[1])]
        values, vectors = np.linalg.eigh((1 - POOLED) * covariance[key] + POOLED * np.mean(like, axis=0))
        kept = vectors[:, ::-1][:, :DEVIATIONS].T * np.sqrt(values[::-1][:DEVIATIONS, None])
        kept *= np.sign(kept[:, :1])  # an eigenvector's sign is arbitrary
        table["fdi"].append((10 if key[0] else 30) + key[1])
        table["extent"].append(np.mean([extents[key].mean(0) for _, extents in sources], axis=0))
        table["mean"].append(mean[key])
        table["spread"].append(kept)
        table["rest"].append(max(float(np.sqrt(values[:-DEVIATIONS].mean())), LEAST_MM))
    numbers = {name: np.array(rows, np.float16) for name, rows in table.items() if name != "fdi"}
    np.savez_compressed(OUT, fdi=np.array(table["fdi"], np.uint8), **numbers)  # type: ignore[arg-type]
    print(f"{OUT}: {len(mean)} crowns, {OUT.stat().st_size} bytes")


def group(number: int) -> int:
    """Front teeth, premolars, molars."""
    return 0 if number <= 3 else 1 if number <= 5 else 2


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("make_cases", type=Path)
    main(parser.parse_args().make_cases)
