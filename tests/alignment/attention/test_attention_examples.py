"""The training mouths of `attention`: those of the store, also in a mirror, and their means."""

import numpy as np
import pytest
import torch

from dentalign.alignment.attention import examples
from dentalign.alignment.attention.posed_teeth import PosedTeeth, from_poses
from dentalign.alignment.attention.training import _mean_pose
from dentalign.dataset.mouth_store import MouthStore
from dentalign.geometry import rotations
from dentalign.geometry.sampling import mirror_permutation
from dentalign.mouth import T1, T2
from dentalign.teeth import MIRRORED_SLOT
from tests.alignment.attention.test_attention_training import store  # noqa: F401  a fixture

pytestmark = pytest.mark.usefixtures("state")


@pytest.mark.parametrize("at_once", [4, 64])
def test_what_is_read_is_what_the_store_holds(
    store: MouthStore,  # noqa: F811
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(examples, "_AT_ONCE", at_once)
    found = examples.read(store, rows := store.rows_of("train"), 8, np.zeros(len(rows), np.int64))
    mouths = store.mouths(store.rows_of("train"))
    t1, t2 = (from_poses(mouths.points, mouths.pose[:, stage], 8)[0] for stage in (T1, T2))
    for wanted, got in ((t1, found.t1), (t2, found.t2)):
        assert torch.equal(wanted.rotation, got.rotation)
        assert torch.equal(wanted.centroid, got.centroid)
        assert torch.equal(t1.points, got.points)
    assert np.array_equal(found.present.numpy(), mouths.present[:, T1])
    assert np.array_equal(found.stays.numpy(), mouths.stays)


def test_normals_point_outwards_in_a_mouth_and_in_its_mirror_image(store: MouthStore) -> None:  # noqa: F811
    read = examples.read(store, rows := store.rows_of("train"), 8, np.zeros(len(rows), np.int64)).at(
        slice(0, 20)
    )
    for mouths in (read, read.mirrored()):
        outwards = (mouths.normals * torch.nn.functional.normalize(mouths.points, dim=-1)).sum(-1)
        assert outwards[mouths.present].min() > 0.3
        assert (mouths.normals[mouths.present].norm(dim=-1) - 1).abs().max() < 1e-5
    here = int(read.present[0].nonzero()[0, 0])
    order = torch.from_numpy(mirror_permutation(8))
    wanted = read.normals[0, here, order] * torch.tensor([-1.0, 1, 1])
    assert torch.equal(read.mirrored().normals[0, MIRRORED_SLOT[here]], wanted)


def test_the_mirror_twice_is_the_mouth(store: MouthStore) -> None:  # noqa: F811
    read = examples.read(store, rows := store.rows_of("train"), 8, np.zeros(len(rows), np.int64))
    for mine, twice in zip(read, read.mirrored().mirrored(), strict=True):
        assert torch.equal(mine, twice)


def test_the_mean_of_a_slot_is_that_of_its_teeth_and_of_their_mirror_images() -> None:
    rng = np.random.default_rng(0)
    rotation = rotations.matrix(torch.from_numpy(rng.normal(0, 0.2, (40, 32, 3))).float())
    teeth = PosedTeeth(
        torch.zeros(40, 32, 8, 3), rotation, torch.from_numpy(rng.normal(50, 1, (40, 32, 3))).float()
    )
    here = torch.from_numpy(rng.random((40, 32)) < 0.5)
    here[:, [7, MIRRORED_SLOT[7]]] = False
    centroid, mean_rotation = _mean_pose(teeth, here)
    slot, other = 3, int(MIRRORED_SLOT[3])
    flip = torch.tensor([-1.0, 1, 1])
    both = torch.cat([teeth.centroid[here[:, slot], slot], teeth.centroid[here[:, other], other] * flip])
    torch.testing.assert_close(centroid[slot], both.double().mean(0).float())
    assert (centroid[7] == 0).all()
    torch.testing.assert_close(mean_rotation @ mean_rotation.mT, torch.eye(3).expand(32, 3, 3))
    flipped = flip[:, None] * mean_rotation[MIRRORED_SLOT] * flip
    torch.testing.assert_close(mean_rotation[:7], flipped[:7])
