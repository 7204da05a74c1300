"""benchmarks/disk_needs.py: bytes by dvc.lock, and those of more cases."""

from dataclasses import replace
from pathlib import Path

import disk_needs
import numpy as np
import pytest

from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout
from dentalign.mouth import Mouth
from tests.support.repository import ROOT

FULL = Layout(points=256, features=32)


def bytes_of(rows: int, folder: Path, layout: Layout) -> int:
    """Size of a file with so many mouths."""
    mouth = Mouth.empty(layout.points, split="train")
    latents = np.zeros((2, 32, layout.points, layout.features), np.float16)
    with mouth_store.create(folder / f"{rows}.h5", layout, {}) as writer:
        for number in range(rows):
            writer.append(replace(mouth, latents=latents, case_id=f"case-{number:04d}"))
    return (folder / f"{rows}.h5").stat().st_size


def test_a_case_takes_on_disk_what_the_locked_run_says(tmp_path: Path) -> None:
    each = (
        bytes_of(24, tmp_path, FULL) - bytes_of(8, tmp_path, FULL)
    ) / 16  # but for the smallest columns, which share a chunk
    sizes = disk_needs.outputs(ROOT / "dvc.lock")
    assert each == pytest.approx(sizes["data/latents.h5"] / disk_needs.cases_of_the_run(ROOT), rel=0.02)


def test_what_grows_is_multiplied_and_what_does_not_is_not() -> None:
    sizes = {"data/latents.h5": 2_000_000, "data/latents/a.h5": 1_000_000, "data/latents/b.h5": 1_000_000,
             "models/alignment.pt": 5_000_000, "data/demo": 999_000_000}  # fmt: skip
    lines = disk_needs.table(sizes, 2, 1000).splitlines()
    by_name = {line[:44].strip(): line[44:].split() for line in lines[1:]}
    assert by_name["data/latents.h5: all latents"] == ["2.00", "1000.0", "1.00"]
    assert by_name["data/latents: shards of latents"] == ["2.00", "1000.0", "1.00"]
    assert by_name["models, reports, the rest"] == ["5.00", "-", "0.01"]
    assert by_name["all outputs, one copy"] == ["9.00", "2000.0", "2.00"]
