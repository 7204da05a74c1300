"""The training mouths of `attention` on disk are those of the store, and their means those of all at once."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dentalign.alignment.attention.examples import COLUMNS, ExamplesOnDisk
from dentalign.alignment.attention.model import teeth_of
from dentalign.alignment.attention.training import AttentionTask, _mean
from dentalign.dataset.mouth_store import MouthStore
from dentalign.geometry.sampling import mirror_permutation
from dentalign.teeth import MIRRORED_SLOT
from tests.alignment.attention.test_attention_training import store, task  # noqa: F401  fixtures

pytestmark = pytest.mark.usefixtures("state")


def test_what_is_read_is_what_the_store_holds(store: MouthStore, tmp_path: Path) -> None:  # noqa: F811
    rows = store.rows_of("train")
    on_disk = ExamplesOnDisk.read(store, rows, 8, tmp_path / "x")
    chosen = torch.tensor([5, 0, 29, 5])
    found = on_disk.at(chosen)
    columns = {name: store.column(name, rows)[chosen.numpy()] for name in COLUMNS}
    t1, t2 = (teeth_of(columns["points"], columns[f"{stage}/pose"], 8)[0] for stage in ("t1", "t2"))
    for wanted, got in ((t1, found.t1), (t2, found.t2)):
        assert torch.equal(wanted.rotation, got.rotation)
        assert torch.equal(wanted.middle, got.middle)
        assert torch.equal(t1.points, got.points)
    assert np.array_equal(found.present.numpy(), columns["t1/mask"])
    assert np.array_equal(found.stays.numpy(), columns["t1/mask"] & columns["t2/mask"])


def test_normals_point_outwards_in_a_mouth_and_in_its_mirror_image(
    store: MouthStore,  # noqa: F811
    tmp_path: Path,
) -> None:
    examples = ExamplesOnDisk.read(store, store.rows_of("train"), 8, tmp_path / "x").at(torch.arange(20))
    for mouths in (examples, examples.mirrored()):
        outwards = (mouths.normals * torch.nn.functional.normalize(mouths.t1.points, dim=-1)).sum(-1)
        assert outwards[mouths.present].min() > 0.3
        assert (mouths.normals[mouths.present].norm(dim=-1) - 1).abs().max() < 1e-5
    there = int(examples.present[0].nonzero()[0, 0])
    order = torch.from_numpy(mirror_permutation(8))
    wanted = examples.normals[0, there, order] * torch.tensor([-1.0, 1, 1])
    assert torch.equal(examples.mirrored().normals[0, MIRRORED_SLOT[there]], wanted)


def test_parts_together_are_all_of_them(store: MouthStore, tmp_path: Path) -> None:  # noqa: F811
    on_disk = ExamplesOnDisk.read(store, store.rows_of("train"), 8, tmp_path / "x")
    parts = list(on_disk.parts(torch.device("cpu")))
    whole = on_disk.at(torch.arange(len(on_disk)))
    assert torch.equal(torch.cat([part.t1.middle for _, part in parts]), whole.t1.middle)
    assert [start for start, _ in parts] == [0]


def test_a_mean_by_parts_is_the_mean_of_all_in_float64(task: AttentionTask) -> None:  # noqa: F811
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.normal(50, 1, (40, 32, 3))).float()
    masks = torch.from_numpy(rng.random((40, 32)) < 0.5)
    masks[:, 7] = False
    found = _mean((values[part], masks[part]) for part in (slice(0, 13), slice(13, 40)))
    there = masks[..., None].double()
    wanted = (values.double() * there).sum(0) / there.sum(0).clamp(min=1)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
