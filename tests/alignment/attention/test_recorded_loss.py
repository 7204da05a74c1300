"""A recorded loss is the loss, on a GPU where there is one, and on a CPU by what stands for a CUDA graph."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from dentalign.alignment.attention.recorded_loss import RecordedLoss
from tests.support import graph_on_a_cpu

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=needs_gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A device on which losses are recorded."""
    if request.param == "cpu":
        graph_on_a_cpu.use(monkeypatch)
    return str(request.param)


class Loss(nn.Module):
    """A small network with dropout, and what its answers are worth."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 64), nn.GELU(), nn.Dropout(0.5), nn.Linear(64, 2))
        self.idle = nn.Parameter(torch.ones(3))  # has no gradient, and is to stay as it is

    def forward(self, batch: tuple[torch.Tensor, torch.Tensor], counts: torch.Tensor) -> torch.Tensor:
        """Of inputs (N, 6), answers (N, 2) and which of them count (N,)."""
        error = (self.layers(batch[0]) - batch[1]).square().sum(1)
        return (error * counts).sum() / counts.sum().clamp(min=1)


class LooksAtValues(Loss):
    """Cannot be recorded: how many rows there are to work on depends on what they hold."""

    def forward(self, batch: tuple[torch.Tensor, torch.Tensor], counts: torch.Tensor) -> torch.Tensor:
        """As `Loss`, of the rows that count."""
        chosen = torch.nonzero(counts)[:, 0]
        return super().forward((batch[0][chosen], batch[1][chosen]), counts[chosen])


def batches(device: str) -> list[tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]]:
    """Two shapes in turn, as of an epoch whose last batch is smaller."""
    generator = torch.Generator().manual_seed(0)

    def batch(count: int) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
        x, y = (torch.randn(count, width, generator=generator).to(device) for width in (6, 2))
        return (x, y), (torch.rand(count, generator=generator) < 0.8).to(device)

    return [batch(count) for count in (32, 32, 5, 32, 5)]


def trained(loss: nn.Module, call: Callable[..., torch.Tensor], device: str) -> list[float]:
    """The loss of each batch while it trains, and the sum of the weights at the end."""
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(loss.parameters(), lr=0.01, fused=True)
    found = []
    for batch, counts in batches(device):
        optimizer.zero_grad(set_to_none=True)
        value = call(batch, counts)
        value.backward()
        optimizer.step()
        found.append(value.detach())
    assert torch.equal(loss.get_parameter("idle").detach().cpu(), torch.ones(3))
    weights = torch.stack([value.detach().abs().sum() for value in loss.parameters()]).sum()
    return [*map(float, found), float(weights)]


def made(kind: type[Loss], device: str) -> Loss:
    torch.manual_seed(0)
    return kind().to(device)


def test_on_a_cpu_it_is_computed_as_ever() -> None:
    plain, other = made(LooksAtValues, "cpu"), made(LooksAtValues, "cpu")
    assert trained(plain, plain, "cpu") == trained(other, RecordedLoss(other), "cpu")


def test_a_training_on_recorded_losses_is_that_on_plain_ones_dropout_included(device: str) -> None:
    plain, other = made(Loss, device), made(Loss, device)
    wanted, found = trained(plain, plain, device), trained(other, RecordedLoss(other), device)
    assert found == pytest.approx(wanted, rel=1e-6)
    assert len(set(found)) == len(found)  # each its own, not the last one's memory


def test_recording_draws_no_random_numbers(device: str) -> None:
    first, second = made(Loss, device), made(Loss, device)
    recorded = RecordedLoss(first)
    trained(first, recorded, device)
    with torch.no_grad():
        for value, other in zip(first.parameters(), second.parameters(), strict=True):
            value.copy_(other)
    assert trained(first, recorded, device) == trained(second, RecordedLoss(second), device)


@needs_gpu
def test_a_loss_that_cannot_be_recorded_is_computed_as_ever_and_says_so() -> None:
    plain, other = made(LooksAtValues, "cuda"), made(LooksAtValues, "cuda")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = trained(other, RecordedLoss(other), "cuda")
    assert found == pytest.approx(trained(plain, plain, "cuda"), rel=1e-6)
    assert any("cannot be recorded" in str(one.message) for one in said)


def test_a_loss_whose_record_has_run_again_has_no_gradients_left_to_be_mistaken_for_its_own(
    device: str,
) -> None:
    loss = made(Loss, device)
    recorded = RecordedLoss(loss)
    first = recorded(*batches(device)[0])
    recorded(*batches(device)[1])
    with pytest.raises(RuntimeError, match="asked for another batch"):
        first.backward()
