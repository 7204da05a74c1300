"""Training loop of all networks: seeded per epoch, resumable; keeps the averaged weights of the best epoch.

Nothing in it depends on the number of epochs: a training of 20 epochs, resumed up to 500, gives exactly the
result of a training of 500.
"""

import math
import os
import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from dentalign.errors import DentalignError
from dentalign.files import weights
from dentalign.files.hashing import sha256, sha256_file, sha256_json
from dentalign.running import profiling
from dentalign.running.locks import exclusive
from dentalign.running.progress import track
from dentalign.running.stage_code import code_digest
from dentalign.running.state_dir import state_dir
from dentalign.training import data_parallel

SAVE_EVERY_S = float(os.environ.get("DENTALIGN_SAVE_EVERY_S", "20"))

Metrics = dict[str, float]


class Task(Protocol):
    """Protocol of what is trained: network, batches and validation."""

    @property
    def network(self) -> nn.Module:
        """Network that is trained; the same object in every call."""

    @abstractmethod
    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Yield the loss () of each batch of an epoch.

        Random numbers come only from `generator` and from torch's global generators. With several processes
        it yields this process's share of the loss, see `data_parallel.share`.
        """

    @abstractmethod
    def validate(self) -> Metrics:
        """Measure the network on held-out cases; the best epoch is that with the lowest first metric."""


@dataclass(frozen=True)
class Schedule:
    """Length, learning rate and averaging of a training.

    epochs        : largest number of epochs
    patience      : number of epochs without a better validation after which the training stops
    learning_rate : learning rate of AdamW after the warm-up
    warm_up       : number of steps in which the rate rises from 0 to learning_rate
    decay_steps   : number of steps after the warm-up in which the rate falls to 0.7 learning_rate, as 1/sqrt
    ema_decay     : share of the old average kept per step (exponential moving average of the weights)
    weight_decay  : weight decay of AdamW
    """

    epochs: int
    patience: int
    learning_rate: float
    warm_up: int = 100
    decay_steps: int = 1_000_000
    ema_decay: float = 0.99
    weight_decay: float = 0.0

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 1; independent of the number of epochs."""
        past = max(0, step - self.warm_up)
        return self.learning_rate * min(1.0, step / self.warm_up) / (1 + past / self.decay_steps) ** 0.5


@dataclass(frozen=True)
class Outcome:
    """Result of a finished training.

    best_epoch    : number of the epoch with the best validation, counted from 1
    history       : metrics of each epoch
    best_state    : state of the network with the averaged weights (EMA) of the best epoch
    stopped_early : True if patience ended the training
    """

    best_epoch: int
    history: list[Metrics]
    best_state: dict[str, torch.Tensor]
    stopped_early: bool

    @property
    def best(self) -> Metrics:
        """Metrics of the best epoch."""
        return self.history[self.best_epoch - 1]


def checkpoint_key(inputs: Sequence[str | Path], settings: dict[str, Any], code: str | Path) -> str:
    """Key of a training: hash of its input files, parameters and source code, and of torch's version.

    settings : parameters without epochs and patience, so that a longer training resumes a shorter one
    code     : `__file__` of the module that trains; the dentalign modules that it imports are hashed, too
               (`stage_code.code_digest`)
    """
    parts = [sha256_file(path) for path in inputs]
    return sha256_json([*parts, code_digest(code), settings, torch.__version__])[:32]


def train(
    task: Task,
    schedule: Schedule,
    seed: int,
    checkpoint: str,
    on_epoch: Callable[[int, Metrics], None] | None = None,
) -> Outcome:
    """Train until the epochs are done or patience ends; resumes from the checkpoint if there is one.

    checkpoint : name of the checkpoint below the project's state folder, such as "align/<key>"
    on_epoch   : called with number and metrics of every epoch in order, those of an earlier run included
    raises     : DentalignError where the loss is no longer finite; KeyboardInterrupt, after which the next
                 call resumes from the last save (one every SAVE_EVERY_S seconds)
    """
    path = state_dir() / "checkpoints" / f"{checkpoint}.pt"
    on_epoch = on_epoch or (lambda number, metrics: None)
    with exclusive(path) if data_parallel.rank() == 0 else nullcontext():
        data_parallel.from_rank_0(None)  # has the lock: from now on all processes read the same file
        return _train(task, schedule, seed, path, on_epoch)


def _train(
    task: Task, schedule: Schedule, seed: int, path: Path, on_epoch: Callable[[int, Metrics], None]
) -> Outcome:
    network = task.network
    optimizer = torch.optim.AdamW(
        network.parameters(),
        betas=(0.9, 0.98),
        weight_decay=schedule.weight_decay,
        fused=True,  # one pass over the weights: a third of a step on two cores
    )
    average = AveragedModel(network, multi_avg_fn=partial(_move_average, schedule.ema_decay))
    stateful: dict[str, Any] = {"network": network, "optimizer": optimizer, "average": average}
    best_state = _snapshot(network)
    history: list[Metrics] = []
    saved = _read_checkpoint(path)
    if saved and _passes_through(saved["progress"]["history"], schedule):
        history = saved["progress"]["history"]
        for name, part in stateful.items():
            part.load_state_dict(saved[name])
        best_state = saved["best_state"]
        _say(f"going on after epoch {len(history)}")
        for number, metrics in enumerate(history, start=1):
            on_epoch(number, metrics)
    elif saved:
        _say("starting over: the checkpoint is past the end of this training")

    def save() -> None:
        if data_parallel.rank() == 0:
            state = {name: part.state_dict() for name, part in stateful.items()}
            weights.write(path, {"progress": {"history": history}, "best_state": best_state, **state})

    last_save = time.monotonic()
    profiling.step()  # the preparation, which no trace is to hold
    try:
        epochs = range(len(history) + 1, schedule.epochs + 1)
        for epoch in track(epochs, "training") if data_parallel.rank() == 0 else epochs:
            if _out_of_patience(history, schedule):
                break
            loss = _one_epoch(task, optimizer, average, schedule, seed, epoch)
            if not math.isfinite(loss):
                raise DentalignError(
                    f"the training diverged in epoch {epoch}: its loss is {loss}; lower its learning_rate"
                )
            own = _snapshot(network)
            network.load_state_dict(average.module.state_dict())
            network.eval()
            found = task.validate() if data_parallel.rank() == 0 else None
            history.append({"loss": loss, **data_parallel.from_rank_0(found)})
            if _best_epoch(history) == epoch:
                best_state = _snapshot(network)
            network.load_state_dict(own)
            on_epoch(epoch, history[-1])
            if time.monotonic() - last_save > SAVE_EVERY_S:
                save()
                last_save = time.monotonic()
    except KeyboardInterrupt:
        # What is in memory may be a half-done epoch; the checkpoint on disk is whole.
        _say(f"stopped in epoch {len(history) + 1}")
        raise
    save()
    return Outcome(_best_epoch(history), history, best_state, len(history) < schedule.epochs)


def _say(text: str) -> None:
    if data_parallel.rank() == 0:
        print(text, file=sys.stderr, flush=True)


def _best_epoch(history: list[Metrics]) -> int:
    """The epoch whose first figure after the loss is lowest, the first of equals; 0 where none is finite."""
    figures = [math.inf, *(list(metrics.values())[1] for metrics in history)]
    return figures.index(min(figures))


def _out_of_patience(history: list[Metrics], schedule: Schedule) -> bool:
    return len(history) - _best_epoch(history) >= schedule.patience


def _passes_through(history: list[Metrics], schedule: Schedule) -> bool:
    """True if a fresh run with this schedule would reach the end of `history`."""
    stops = any(_out_of_patience(history[:epoch], schedule) for epoch in range(len(history)))
    return len(history) <= schedule.epochs and not stops


def _one_epoch(
    task: Task,
    optimizer: torch.optim.Optimizer,
    average: AveragedModel,
    schedule: Schedule,
    seed: int,
    epoch: int,
) -> float:
    """Train one epoch; returns the mean loss."""
    task.network.train()
    stream = int(sha256(f"{seed}/{epoch}")[:14], 16)
    torch.manual_seed(stream + data_parallel.rank())  # dropout: other units in each process
    generator = torch.Generator().manual_seed(stream)
    losses = []
    for step, loss in enumerate(task.batches(epoch, generator), start=int(average.n_averaged) + 1):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(task.network.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(task.network)
        losses.append(loss.detach())
        profiling.step()
    return float(data_parallel.mean(torch.stack(losses).mean()))


@torch.no_grad()
def _move_average(decay: float, averages: Any, values: Any, steps: torch.Tensor) -> None:
    """Exponential moving average that forgets faster in the first steps, for `AveragedModel`.

    After n steps it keeps n / (n + 10) at most, much as tf.train.ExponentialMovingAverage by `num_updates`.
    """
    new = 1 - (steps / (steps + 10)).clamp(max=decay)
    for average, value in zip(averages, values, strict=True):
        average.lerp_(value, new)


def _snapshot(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone().cpu() for name, value in network.state_dict().items()}


def _read_checkpoint(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        return weights.read(path, ("progress", "network", "optimizer", "average", "best_state"))
    except DentalignError as error:  # damaged, whatever the way: training starts over
        _say(f"damaged checkpoint ignored: {error}")
        return None
