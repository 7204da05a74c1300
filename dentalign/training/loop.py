"""The one training loop: seeded by epoch, averaged weights, best by validation, resumable.

Nothing in it depends on the total number of epochs, so that a run of 20 that is continued to 500
ends exactly as a run of 500 at once.
"""

import hashlib
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from dentalign.errors import DentalignError
from dentalign.files import weights
from dentalign.files.atomic import write_bytes
from dentalign.running import profiling
from dentalign.running.locks import exclusive
from dentalign.running.progress import track
from dentalign.running.stage_code import code_digest
from dentalign.running.state_dir import state_dir
from dentalign.training import data_parallel

SAVE_EVERY_S = float(os.environ.get("DENTALIGN_SAVE_EVERY_S", "20"))

Metrics = dict[str, float]


class Task(Protocol):
    """What is trained, and on what."""

    @property
    def network(self) -> nn.Module:
        """The network, always the same one."""

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """The loss of each batch of an epoch; all randomness from the generator and torch's own.

        Of several processes each gives its share of the loss, see `data_parallel`.
        """

    def validate(self) -> Metrics:
        """Figures of the network as it stands on held-out cases; the first, the lower the better, decides."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    epochs        : at most
    patience      : stop after this many epochs without a better validation
    learning_rate : of Adam after the warm-up
    warm_up       : steps from 0 to the full rate
    decay_steps   : step (after the warm-up) at which the rate has fallen to 0.7, as 1/sqrt
    averaging     : share of the old average kept per step (exponential moving average of weights)
    weight_decay  : of AdamW
    """

    epochs: int
    patience: int
    learning_rate: float
    warm_up: int = 100
    decay_steps: int = 1_000_000
    averaging: float = 0.99
    weight_decay: float = 0.0

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 1; knows nothing of the total."""
        past = max(0, step - self.warm_up)
        return self.learning_rate * min(1.0, step / self.warm_up) / (1 + past / self.decay_steps) ** 0.5


@dataclass
class Progress:
    """Where a training stands; all of it goes into the checkpoint."""

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best: float = float("inf")
    history: list[Metrics] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """A finished training. `best_state` is the averaged state with the best validation."""

    best_epoch: int
    history: list[Metrics]
    best_state: dict[str, torch.Tensor]
    stopped_early: bool


def checkpoint_key(inputs: Sequence[str | Path], settings: dict[str, Any], code: str | Path) -> str:
    """Name of a training: hash of its input files, its parameters, torch's version and the code that runs.

    settings : leaves out what only says how far to go (epochs), so that a longer run finds the shorter
    code     : `__file__` of the module that trains; what it reaches counts (`stage_code.code_digest`)
    """
    parts = [weights.file_sha256(path) for path in inputs]
    parts += [code_digest(code), json.dumps(settings, sort_keys=True), torch.__version__]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def train(
    task: Task,
    schedule: Schedule,
    seed: int,
    checkpoint: str,
    on_epoch: Callable[[int, Metrics], None],
) -> Outcome:
    """Train until the epochs are done or patience is out; goes on from the checkpoint if there is one.

    checkpoint : name of the checkpoint below the project's state folder, such as "align/<key>"
    on_epoch   : told of every epoch in order, also of those that an earlier run has done
    A training that is profiled begins anew and leaves the checkpoint as it is.

    raises     : DentalignError where the loss is not a finite number any more;
                 KeyboardInterrupt; the next call goes on from the last save (every SAVE_EVERY_S seconds)
    """
    path = state_dir() / "checkpoints" / f"{checkpoint}.pt"
    with data_parallel.first_only(lambda: exclusive(path)):
        return _train(task, schedule, seed, path, on_epoch)


def _train(
    task: Task, schedule: Schedule, seed: int, path: Path, on_epoch: Callable[[int, Metrics], None]
) -> Outcome:
    network, first = task.network, data_parallel.is_first()
    data_parallel.prepare(network)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=schedule.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=schedule.weight_decay,
        fused=True,  # one pass over the weights instead of a dozen: a third of a step on two cores
    )
    average = [value.detach().clone() for value in network.parameters()]
    best_state = _snapshot(network)
    progress = Progress()
    saved = _read_checkpoint(path)
    if saved and _passes_through(saved["progress"]["history"], schedule):
        progress = Progress(**saved["progress"])
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        average = [a.copy_(b) for a, b in zip(average, saved["average"], strict=True)]
        best_state = saved["best_state"]
        if first:
            print(f"going on after epoch {progress.epoch}", file=sys.stderr, flush=True)
        for number, metrics in enumerate(progress.history, start=1):
            on_epoch(number, metrics)
    elif saved and first:
        print("starting over: the checkpoint is past the end of this training", file=sys.stderr, flush=True)

    def save() -> None:
        if profiling.active() or not first:
            return
        content = {
            "progress": dict(vars(progress)),
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": average,
            "best_state": best_state,
        }
        buffer = io.BytesIO()
        torch.save({**content, "sha256": weights.content_sha256(content)}, buffer)
        write_bytes(path, buffer.getvalue())

    def out_of_patience() -> bool:
        return progress.epoch - progress.best_epoch >= schedule.patience

    last_save = time.monotonic()
    profiling.step()  # the preparation, which no trace is to hold
    try:
        epochs = range(progress.epoch + 1, schedule.epochs + 1)
        for epoch in track(epochs, "training") if first else epochs:
            if out_of_patience():
                break
            loss, steps = _one_epoch(task, optimizer, average, schedule, seed, epoch, progress.step)
            if not math.isfinite(loss):
                raise DentalignError(
                    f"the training diverged in epoch {epoch}: its loss is {loss}; lower its learning_rate"
                )
            with _averaged(network, average):
                metrics = {"loss": loss, **data_parallel.of_first(task.validate)}
                decisive = _decisive(metrics)
                if decisive < progress.best:
                    progress.best, progress.best_epoch = decisive, epoch
                    best_state = _snapshot(network)
            progress.epoch, progress.step = epoch, progress.step + steps
            progress.history.append(metrics)
            on_epoch(epoch, metrics)
            if time.monotonic() - last_save > SAVE_EVERY_S:
                save()
                last_save = time.monotonic()
    except KeyboardInterrupt:
        # What is in memory may be a half-done epoch; the checkpoint on disk is whole.
        if first:
            print(f"stopped in epoch {progress.epoch + 1}", file=sys.stderr, flush=True)
        raise
    save()
    stopped_early = progress.epoch < schedule.epochs
    return Outcome(progress.best_epoch, progress.history, best_state, stopped_early)


def _decisive(metrics: Metrics) -> float:
    """The figure that says which epoch is best: the first after the loss."""
    return list(metrics.values())[1]


def _passes_through(history: list[Metrics], schedule: Schedule) -> bool:
    """Whether a training of this length and patience, begun afresh, gets as far as this history."""
    best, best_epoch = float("inf"), 0
    for epoch, metrics in enumerate(history, start=1):
        if epoch - 1 - best_epoch >= schedule.patience:
            return False
        if _decisive(metrics) < best:
            best, best_epoch = _decisive(metrics), epoch
    return len(history) <= schedule.epochs


def _one_epoch(
    task: Task,
    optimizer: torch.optim.Optimizer,
    average: list[torch.Tensor],
    schedule: Schedule,
    seed: int,
    epoch: int,
    step: int,
) -> tuple[float, int]:
    """Train one epoch; returns the mean loss and the number of steps."""
    task.network.train()
    stream = int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:7], "big")
    torch.manual_seed(stream)  # dropout
    generator = torch.Generator().manual_seed(stream)
    losses = []
    parameters: list[torch.Tensor] = list(task.network.parameters())
    for loss in task.batches(epoch, generator):
        step += 1
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        loss = data_parallel.add_up(parameters, loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        keep = min(schedule.averaging, (step - 1) / (step + 9))
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1 - keep)
        losses.append(loss.detach())
        profiling.step()
    return float(torch.stack(losses).mean()), len(losses)


class _averaged:
    """The network with its averaged weights, in eval mode, for the length of a block."""

    def __init__(self, network: nn.Module, average: list[torch.Tensor]):
        self.network, self.average = network, average

    @torch.no_grad()
    def __enter__(self) -> None:
        self.network.eval()
        self.own = [value.detach().clone() for value in self.network.parameters()]
        for value, mean in zip(self.network.parameters(), self.average, strict=True):
            value.copy_(mean)

    @torch.no_grad()
    def __exit__(self, *_: object) -> None:
        for value, own in zip(self.network.parameters(), self.own, strict=True):
            value.copy_(own)


def _snapshot(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone().cpu() for name, value in network.state_dict().items()}


def _read_checkpoint(path: Path) -> dict[str, Any] | None:
    # Of one that is profiled nothing might be left to measure. The first process decides for all.
    begun = data_parallel.is_first() and path.is_file() and not profiling.active()
    data = data_parallel.bytes_of_first(path.read_bytes() if begun else None)
    if data is None:
        return None
    try:
        saved = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if saved.pop("sha256") != weights.content_sha256(saved):
            raise ValueError("its content does not fit its sha256")
        wanted = {"progress", "network", "optimizer", "average", "best_state"}
        return saved if wanted <= saved.keys() else None
    except Exception as error:  # noqa: BLE001  damaged, whatever the way: training starts over
        if data_parallel.is_first():
            print(f"{path}: damaged checkpoint ignored ({type(error).__name__})", file=sys.stderr, flush=True)
        return None
