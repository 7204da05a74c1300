"""The training loop: what it keeps, when it stops, and that going on gives what one run gives."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from dentalign.errors import DentalignError
from dentalign.training import loop
from dentalign.training.loop import Metrics, Outcome, Schedule


class Line:
    """Fits y = 2 x with dropout; `figures` stands in for its validation where given."""

    def __init__(self, figures: list[float] | None = None):
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.figures = figures
        self.validated = 0

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
        for _ in range(3):
            x = torch.randn(16, 1, generator=generator)
            yield (self.network(x) - 2 * x).square().mean()

    @torch.no_grad()
    def validate(self) -> Metrics:
        assert not self.network.training
        self.validated += 1
        x = torch.linspace(-1, 1, 9)[:, None]
        found = float((self.network(x) - 2 * x).square().mean())
        return {"val": found if self.figures is None else self.figures[self.validated - 1]}


def run(epochs: int, name: str, patience: int = 1000, figures: list[float] | None = None) -> Outcome:
    schedule = Schedule(epochs, patience, 0.01, warm_up=4, decay_steps=20)
    return loop.train(Line(figures), schedule, 0, name, lambda *_: None)


def same(a: Outcome, b: Outcome) -> bool:
    states = all(torch.equal(a.best_state[name], b.best_state[name]) for name in a.best_state)
    ends = (a.best_epoch, a.stopped_early) == (b.best_epoch, b.stopped_early)
    return states and a.history == b.history and ends


@pytest.mark.parametrize(("first", "then"), [(2, 7), (7, 2), (4, 4)])
def test_a_run_that_follows_another_ends_as_one_run(state: Path, first: int, then: int) -> None:
    run(first, "two")
    assert same(run(then, "two"), run(then, "one"))


@pytest.mark.parametrize(("first", "then"), [(2, 4), (5, 2)])
def test_another_patience_ends_as_one_run(state: Path, first: int, then: int) -> None:
    figures = [9.0, 8, 8.5, 8.6, 8.7, 7, 7.5, 7.6, 7.7, 7.8, 7.9, 6]
    run(len(figures), "two", first, figures)
    done = len(torch.load(state / "checkpoints" / "two.pt", weights_only=True)["progress"]["history"])
    going_on = figures[done:] if then > first else figures
    assert same(run(len(figures), "two", then, going_on), run(len(figures), "one", then, figures))


def test_each_epoch_and_each_seed_draws_anew(state: Path) -> None:
    class Drawing(Line):
        def batches(self, epoch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
            drawn.append((float(torch.rand((), generator=generator)), float(torch.rand(()))))
            yield from super().batches(epoch, generator)

    drawn: list[tuple[float, float]] = []
    for seed in (0, 1):
        loop.train(Drawing(), Schedule(3, 9, 0.01), seed, f"x{seed}", lambda *_: None)
    assert len(set(drawn)) == 6


def test_the_rate_knows_nothing_of_the_total() -> None:
    short, long = Schedule(2, 5, 0.1, decay_steps=50), Schedule(2000, 5, 0.1, decay_steps=50)
    assert [short.rate(step) for step in range(1, 400)] == [long.rate(step) for step in range(1, 400)]


def test_the_rate_warms_up_and_then_falls_as_one_over_the_root() -> None:
    schedule = Schedule(1, 1, 0.1, warm_up=10, decay_steps=50)
    assert schedule.rate(1) == pytest.approx(0.01)
    assert schedule.rate(10) == pytest.approx(0.1)
    assert schedule.rate(60) == pytest.approx(0.1 / math.sqrt(2))


def test_the_state_with_the_best_validation_is_kept(state: Path) -> None:
    outcome = run(6, "long", figures=[5.0, 4, 1, 2, 3, 4])
    assert outcome.best_epoch == 3
    assert not outcome.stopped_early
    short = run(3, "short", figures=[5.0, 4, 1])
    assert all(torch.equal(outcome.best_state[name], short.best_state[name]) for name in short.best_state)


def test_the_training_stops_when_patience_is_out(state: Path) -> None:
    outcome = run(100, "x", patience=3, figures=[5.0, 4, 4, 4, 4, 0])
    assert (len(outcome.history), outcome.best_epoch, outcome.stopped_early) == (5, 2, True)


def test_the_log_is_told_every_epoch_again(state: Path) -> None:
    run(2, "x")
    told: list[int] = []
    schedule = Schedule(4, 9, 0.01, warm_up=4, decay_steps=20)
    loop.train(Line(), schedule, 0, "x", lambda epoch, _: told.append(epoch))
    assert told == [1, 2, 3, 4]


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_ignored(
    state: Path, damage: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    run(2, "x")
    file = state / "checkpoints" / "x.pt"
    file.write_bytes(file.read_bytes()[:-200] if damage is None else damage)
    outcome = run(3, "x")
    assert "damaged checkpoint ignored" in capsys.readouterr().err
    assert same(outcome, run(3, "one"))


def test_a_training_that_diverges_says_so_and_leaves_no_weights(state: Path) -> None:
    class Diverging(Line):
        def batches(self, epoch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
            for loss in super().batches(epoch, generator):
                yield loss * (math.nan if epoch == 2 else 1)

    told: list[int] = []
    with pytest.raises(DentalignError, match="diverged in epoch 2: its loss is nan; lower its learning_rate"):
        loop.train(Diverging(), Schedule(5, 1000, 0.01), 0, "d", lambda epoch, _: told.append(epoch))
    assert told == [1]


def test_a_checkpoint_holds_no_code(state: Path) -> None:
    run(1, "x")
    assert {"progress", "network", "optimizer"} <= torch.load(
        state / "checkpoints" / "x.pt", weights_only=True
    ).keys()


def test_the_average_of_the_weights_is_validated_and_kept(state: Path) -> None:
    class Constant:
        """Its weight is pulled up by a constant gradient."""

        def __init__(self) -> None:
            self.network = nn.Linear(1, 1, bias=False)
            nn.init.zeros_(self.network.weight)
            self.steps: list[float] = []

        def batches(self, epoch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
            for _ in range(5):
                yield -self.network.weight.sum()
                self.steps.append(float(self.network.weight.detach()))

        def validate(self) -> Metrics:
            return {"val": -float(self.network.weight.detach())}

    task = Constant()
    outcome = loop.train(task, Schedule(2, 9, 0.1, warm_up=1, ema_decay=0.5), 0, "x", lambda *_: None)
    expected = 0.0
    for number, weight in enumerate(task.steps, start=1):
        keep = min(0.5, (number - 1) / (number + 9))
        expected = keep * expected + (1 - keep) * weight
    assert outcome.history[-1]["val"] == pytest.approx(-expected, rel=1e-5)
    assert float(outcome.best_state["weight"]) == pytest.approx(expected, rel=1e-5)


def test_the_key_changes_with_inputs_and_settings_and_not_with_names(tmp_path: Path) -> None:
    a, b, c = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    a.write_bytes(b"1")
    b.write_bytes(b"1")
    c.write_bytes(b"2")
    key = loop.checkpoint_key([a], {"x": 1}, loop.__file__)
    assert key == loop.checkpoint_key([b], {"x": 1}, loop.__file__)
    assert key != loop.checkpoint_key([c], {"x": 1}, loop.__file__)
    assert key != loop.checkpoint_key([a], {"x": 2}, loop.__file__)


def test_ctrl_c_leaves_the_checkpoint_whole(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0)

    def stop(epoch: int, metrics: Metrics) -> None:
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.train(Line(), Schedule(9, 99, 0.01, warm_up=4, decay_steps=20), 0, "x", stop)
    saved = torch.load(state / "checkpoints" / "x.pt", weights_only=True)
    assert len(saved["progress"]["history"]) == 2
    assert same(run(5, "x"), run(5, "one"))
