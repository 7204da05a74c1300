"""Pictures of a validation: all there, the same bytes twice."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from dentalign.errors import DentalignError
from dentalign.geometry.sampling import directions
from dentalign.validation.measurement import validate
from dentalign.validation.report.pictures import smooth_surface, write_pictures
from tests.support.report_validation import SETTINGS, small_latents, small_models


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A folder of training curves."""
    folder = tmp_path / "log" / "plots" / "metrics"
    folder.mkdir(parents=True)
    (folder / "loss.tsv").write_text("step\tloss\n1\t4.0\n2\t2.0\n3\t1.5\n")
    (folder / "val_add_mm.tsv").write_text("step\tval_add_mm\n1\t2.0\n2\t1.5\n3\t1.6\n")
    return tmp_path / "log"


def test_all_pictures_are_written_and_the_same_twice(tmp_path: Path, log: Path) -> None:
    latents = small_latents(tmp_path / "l.h5")
    found = validate(latents, *small_models(tmp_path), SETTINGS)
    for name in ("a", "b"):
        write_pictures(tmp_path / name, found, latents, log)
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {f"{name}.png" for name in ("best", "median", "worst", "accuracy", "per_slot", "loss")}
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    worst = image.imread(tmp_path / "a" / "worst.png")[..., :3]  # every tooth is 3.75 mm off: deep red
    red = (worst[..., 0] > worst[..., 1] + 0.3) & (worst[..., 0] > worst[..., 2] + 0.3)
    third = len(worst) // 3
    assert [int(red[k * third : (k + 1) * third, :1350].sum()) > 500 for k in range(3)] == [
        False,
        True,
        False,
    ]

    (log / "plots" / "metrics" / "loss.tsv").write_text("step\tsomething\n1\t2\n")
    with pytest.raises(DentalignError, match=r"loss\.tsv: not a curve with the columns step and loss"):
        write_pictures(tmp_path / "c", found, latents, log)


def test_the_smoothed_surface_is_closed_and_near_the_points() -> None:
    vertices, faces = smooth_surface(directions(64) * 4.0, 2)
    assert len(faces) == 16 * (2 * 64 - 4)
    directed = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    assert len(np.unique(directed, axis=0)) == len(directed)  # each edge once in each direction
    assert (np.unique(np.sort(directed, axis=1), axis=0, return_counts=True)[1] == 2).all()
    assert np.linalg.norm(vertices, axis=1) == pytest.approx(np.full(len(vertices), 4.0), abs=0.5)
    corners = vertices[faces]
    outward = (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) * corners[:, 0]).sum(1)
    assert (outward > 0).all()
