"""Disk space for a number of cases, extrapolated from the bytes of a finished run in dvc.lock.

    python benchmarks/disk_needs.py --cases 10000

Bytes of the run are measured: DVC writes them into dvc.lock. The last column is computed: bytes a case times
cases, for what grows with the cases.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

GROWS = {  # path, or what it begins with -> what it is
    "data/json": "fetched cases",
    "data/transforms": "poses and hashes of meshes",
    "data/clouds/": "shards of clouds",
    "data/latents/": "shards of latents",
    "data/latents.h5": "all latents",
}


def outputs(*locks: Path) -> dict[str, int]:
    """Return the bytes of each output in these lock files."""
    stages: list[dict[str, Any]] = []
    for lock in locks:
        stages += yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"].values()
    return {out["path"]: int(out["size"]) for stage in stages for out in stage.get("outs", ())}


def cases_of_the_run(root: Path) -> int:
    """Count the cases in the data set of the finished run."""
    counts = json.loads((root / "metrics/validation.json").read_text(encoding="utf-8"))["counts"]
    return sum(int(counts[f"{split}_cases"]) for split in ("train", "val", "test"))


def kind_of(path: str) -> str | None:
    """Return the key of GROWS for a path, if there is one."""
    return next((key for key in GROWS if path == key or (key.endswith("/") and path.startswith(key))), None)


def table(sizes: dict[str, int], cases_of_the_run: int, cases: int) -> str:
    """Return the table as text: a line for each kind that grows, the rest, the sums; megabytes are 1e6."""
    grown = {key: sum(size for path, size in sizes.items() if kind_of(path) == key) for key in GROWS}
    fixed = sum(size for path, size in sizes.items() if kind_of(path) is None and path != "data/demo")
    lines = [f"{'':44}{'run, MB':>10}{'kB a case':>12}{f'{cases:,} cases, GB':>22}"]
    for key, size in grown.items():
        each = size / cases_of_the_run
        name = f"{key.rstrip('/')}: {GROWS[key]}"
        lines.append(f"{name:<44}{size / 1e6:>10.2f}{each / 1e3:>12.1f}{each * cases / 1e9:>22.2f}")
    lines.append(f"{'models, reports, the rest':<44}{fixed / 1e6:>10.2f}{'-':>12}{fixed / 1e9:>22.2f}")
    total = sum(grown.values())
    whole = total / cases_of_the_run * cases + fixed
    once = f"{(total + fixed) / 1e6:>10.2f}{total / cases_of_the_run / 1e3:>12.1f}{whole / 1e9:>22.2f}"
    lines.append(f"{'all outputs, one copy':<44}{once}")
    return "\n".join(lines)


def main(
    cases: Annotated[int, typer.Option(help="Cases to compute for.", min=1)] = 10_000,
    root: Annotated[Path, typer.Option(help="A repository with a finished run.")] = Path(),
) -> None:
    """Print the table."""
    used = cases_of_the_run(root)
    typer.echo(f"measured: a run of {used} cases, by dvc.lock; computed: the last column")
    typer.echo(table(outputs(root / "dvc.lock"), used, cases))


if __name__ == "__main__":
    typer.run(main)
