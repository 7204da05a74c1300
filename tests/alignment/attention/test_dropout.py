"""Our dropout does what torch's does, with cheaper random numbers."""

import pytest
import torch
from torch import nn

from dentalign.alignment.attention.dropout import Dropout
from dentalign.training import data_parallel


def drawn(share: float, *shape: int, seed: int = 0) -> torch.Tensor:
    """What becomes of ones."""
    torch.manual_seed(seed)
    found: torch.Tensor = Dropout(share)(torch.ones(shape))
    return found


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_the_share_is_left_out_and_the_mean_stays(share: float) -> None:
    count = 400_000
    found = drawn(share, count)
    deviation = (share * (1 - share) / count) ** 0.5
    assert float((found == 0).float().mean()) == pytest.approx(share, abs=5 * deviation)
    kept = found[found != 0]
    assert (kept == kept[0]).all()
    assert float(kept[0]) == pytest.approx(1 / (1 - share), rel=1e-3)


@pytest.mark.parametrize("place", range(4))
def test_each_of_four_units_that_share_a_draw_is_left_out_as_often(place: int) -> None:
    found = drawn(0.25, 100_000, 4)
    assert float((found[:, place] == 0).float().mean()) == pytest.approx(0.25, abs=0.007)
    for other in range(place):
        both = ((found[:, place] == 0) & (found[:, other] == 0)).float().mean()
        assert float(both) == pytest.approx(0.25**2, abs=0.004)


def test_the_same_seed_gives_the_same_units_and_another_seed_others() -> None:
    assert torch.equal(drawn(0.3, 5, 7), drawn(0.3, 5, 7))
    assert not torch.equal(drawn(0.3, 50, 7), drawn(0.3, 50, 7, seed=1))


def test_the_number_of_threads_changes_nothing() -> None:
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(drawn(0.1, 64, 32, 384))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_what_is_left_out_gets_no_gradient_and_the_rest_grows_like_the_answer() -> None:
    torch.manual_seed(0)
    x = torch.randn(9, 11, requires_grad=True)
    found = Dropout(0.4)(x)
    found.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(found.detach(), x.detach() * x.grad)
    assert (x.grad == 0).any()


@pytest.mark.parametrize("dropout", [Dropout(0.5).eval(), Dropout(0.0), Dropout(1e-9)])
def test_nothing_is_drawn_where_nothing_is_left_out(dropout: Dropout) -> None:
    x, before = torch.randn(7), torch.get_rng_state()
    assert dropout(x) is x
    assert torch.equal(torch.get_rng_state(), before)


def test_a_share_of_nearly_all_leaves_finite_numbers() -> None:
    assert torch.isfinite(drawn(1 - 1e-9, 100_000)).all()


def test_shapes_of_any_size_and_half_precision() -> None:
    for shape in ((0,), (1,), (3, 5), (2, 3, 4, 5)):
        assert drawn(0.2, *shape).shape == shape
    assert Dropout(0.2)(torch.ones(8, dtype=torch.float16)).dtype == torch.float16


def test_it_takes_the_place_of_torchs_in_a_network() -> None:
    assert isinstance(Dropout(0.1), nn.Dropout)
    assert not list(Dropout(0.1).state_dict())


@pytest.mark.parametrize("kind", [Dropout, nn.Dropout])
@pytest.mark.parametrize("count", [5, 1])  # of one row a process gets none
def test_two_processes_together_leave_out_what_one_does(
    kind: type[nn.Dropout], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(count, 40)
    torch.manual_seed(0)
    wanted = kind(0.3)(x)
    monkeypatch.setattr(data_parallel, "_processes", 2)
    monkeypatch.setattr(data_parallel, "_do", lambda *_: None)
    parts = []
    for number in range(2):
        monkeypatch.setattr(data_parallel, "_number", number)
        network = nn.Sequential(kind(0.3))
        data_parallel.prepare(network)
        data_parallel.prepare(network)  # nothing is left to do
        torch.manual_seed(0)
        parts.append(network(x[data_parallel.own(count)]))
    torch.testing.assert_close(torch.cat(parts), wanted)
    assert (wanted == 0).any()
