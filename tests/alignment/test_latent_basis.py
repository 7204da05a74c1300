"""The linear code of the latents, against numpy's singular value decomposition."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from dentalign.alignment.fc.latent_basis import LatentBasis
from dentalign.teeth import SLOT_COUNT

POINTS, FEATURES, STATES = 5, 4, 30
WIDTH = POINTS * FEATURES


def states(seed: int = 0) -> np.ndarray:
    """Latents (N, 32, P, F) with a few strong directions per slot; float16 holds them exactly."""
    rng = np.random.default_rng(seed)
    strong = rng.normal(size=(SLOT_COUNT, 3, WIDTH))
    scores = rng.normal(size=(STATES, SLOT_COUNT, 3)) * [8, 4, 2]
    x = np.einsum("nsk,skw->nsw", scores, strong) + 0.01 * rng.normal(size=(STATES, SLOT_COUNT, WIDTH)) + 3
    return x.reshape(STATES, SLOT_COUNT, POINTS, FEATURES).astype(np.float16).astype(np.float32)


def masks() -> np.ndarray:
    """Slot 0 is never there, slot 1 once, slot 2 twice, the others in most states."""
    made = np.random.default_rng(1).random((STATES, SLOT_COUNT)) < 0.8
    made[:, :3] = False
    made[4, 1] = made[3:5, 2] = True
    return made


def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield from zip(states(), masks(), strict=True)


def test_the_code_is_the_leading_principal_components() -> None:
    basis = LatentBasis.fit(pairs(), 3)
    for slot in range(3, SLOT_COUNT):
        x = states()[masks()[:, slot], slot].reshape(-1, WIDTH).astype(np.float64)
        _, singular, directions = np.linalg.svd(x - x.mean(0), full_matrices=False)
        np.testing.assert_allclose(basis.mean[slot], x.mean(0), atol=2e-2)
        np.testing.assert_allclose(basis.spread[slot], singular[:3] / np.sqrt(len(x)), rtol=2e-3)
        overlap = np.abs(directions[:3] @ basis.basis[slot].double().numpy())
        np.testing.assert_allclose(overlap, np.eye(3), atol=5e-3)


def test_columns_are_orthonormal_and_zero_where_a_slot_was_seen_too_rarely() -> None:
    basis = LatentBasis.fit(pairs(), 3)
    gram = torch.einsum("skd,ske->sde", basis.basis, basis.basis)
    for slot, rank in ((0, 0), (1, 0), (2, 1), (3, 3), (31, 3)):
        wanted = torch.diag(torch.tensor([1.0] * rank + [0.0] * (3 - rank)))
        torch.testing.assert_close(gram[slot], wanted, atol=3e-3, rtol=0)
    assert all(torch.isfinite(part).all() for part in (basis.mean, basis.basis, basis.spread))


def test_the_same_states_give_the_same_code_and_the_sign_is_settled() -> None:
    first, again = LatentBasis.fit(pairs(), 3), LatentBasis.fit(pairs(), 3)
    assert torch.equal(first.basis, again.basis)
    columns = first.basis[5]
    largest = columns[columns.abs().argmax(0), torch.arange(3)]
    assert (largest > 0).all()


def test_encode_finds_the_change_that_add_makes() -> None:
    basis = LatentBasis.fit(pairs(), 3)
    latents = torch.from_numpy(states(7)[:2])
    change = torch.randn(2, SLOT_COUNT, 3, generator=torch.Generator().manual_seed(0))
    change[:, :3] = 0
    moved = basis.encode(basis.add(latents, change)) - basis.encode(latents)
    torch.testing.assert_close(moved, change, atol=2e-2, rtol=0)
    assert torch.equal(basis.add(latents, torch.zeros_like(change)), latents)


def test_what_lies_outside_of_the_code_stays() -> None:
    basis = LatentBasis.fit(pairs(), 3)
    latents = torch.from_numpy(states(7)[:1])
    change = torch.ones(1, SLOT_COUNT, 3)
    moved = (basis.add(latents, change) - latents).flatten(2)
    inside = torch.einsum("skd,nsd->nsk", basis.basis, change)  # nothing beside the code's directions
    torch.testing.assert_close(moved, inside, atol=1e-4, rtol=0)


@pytest.mark.parametrize("components", [1, 3, 29, 40])
def test_any_number_of_components_is_had(components: int) -> None:
    basis = LatentBasis.fit(pairs(), components)
    assert basis.components == components
    assert basis.basis.shape == (SLOT_COUNT, WIDTH, components)
    assert torch.isfinite(basis.basis).all()
