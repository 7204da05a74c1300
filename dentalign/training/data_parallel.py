"""Training by several processes: each computes its part of every batch, and the gradients are added up.

All processes draw the same random numbers, for the whole batch, and each takes its rows of them; losses are
weighed so that their sum is the loss of the whole batch. So the sum of the gradients is what one process
would have computed, but for rounding. One process, the first, reads and writes checkpoints, logs and weights,
and validates.

A process that is alone meets none of this: every function here then gives back what it was given.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from dentalign.errors import DentalignError
from dentalign.running.device import choose_device

Value = TypeVar("Value")

LONGEST_WAIT = timedelta(hours=1)  # for each other; the end of a process is noticed at once


_number, _processes = 0, 1  # which process this one is, of how many; set by `together`
_batch = (0, slice(0))  # what `own` said last: the rows of the whole batch, and which are ours


def processes() -> int:
    """How many train together."""
    return _processes


def number() -> int:
    """Which of them this one is, counted from 0."""
    return _number


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return number() == 0


def first_only(make: Callable[[], AbstractContextManager[Value]]) -> AbstractContextManager[Value | None]:
    """What `make` makes, in the first process; in the others nothing."""
    return make() if is_first() else nullcontext()


@contextmanager
def together(device: str) -> Iterator[None]:
    """Meet the other processes that `torchrun` or `launcher.launch` started, if any; take a GPU of one's own.

    raises: DentalignError where there are not as many GPUs as processes
    """
    global _number, _processes
    _number, _processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if processes() == 1:
        yield
        return
    _end_with_the_parent()
    if on_gpu := choose_device(device).type == "cuda":
        check_gpus(_on_this_machine())
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=LONGEST_WAIT)
    yield
    distributed.destroy_process_group()  # not after a failure: the others may not come


def share_of_threads(threads: int) -> int:
    """How many of the threads that this machine gives to the training this process may have."""
    return max(1, threads // _on_this_machine())


def _on_this_machine() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def check_gpus(needed: int) -> None:
    """Raise DentalignError where this machine has fewer GPUs."""
    if (found := torch.cuda.device_count()) < needed:
        raise DentalignError(
            f"{needed} processes train on this machine, which has {found} GPU{'s' * (found != 1)}: "
            "each needs its own; lower train.processes, or set train.device to cpu"
        )


def _end_with_the_parent() -> None:
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def own(count: int) -> slice:
    """The rows of a batch of so many that are this process's; none where rows are few."""
    global _batch
    rows = slice(count * number() // processes(), count * (number() + 1) // processes())
    _batch = (count, rows)
    return rows


def weighed(loss: torch.Tensor, own_weight: torch.Tensor, whole_weight: torch.Tensor) -> torch.Tensor:
    """The share of a mean over this process's rows in that over the whole batch.

    own_weight, whole_weight : () what the mean is over, such as a number of teeth: of these rows, of all
    """
    return loss if processes() == 1 else loss * (own_weight / whole_weight.clamp(min=1))


def prepare(network: nn.Module) -> None:
    """Give every process the first one's weights, and have dropout drawn for whole batches."""
    if processes() == 1:
        return
    for value in (*network.parameters(), *network.buffers()):
        _do(distributed.broadcast, value.detach(), 0)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Dropout) and not isinstance(parent, _DropoutOfTheBatch):
                setattr(parent, name, _DropoutOfTheBatch(child))


class _DropoutOfTheBatch(nn.Module):
    """The rows of this process of the mask that one process would draw for the whole batch."""

    def __init__(self, whole: nn.Dropout):
        super().__init__()
        self.whole = whole

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        count, rows = _batch
        mask: torch.Tensor = self.whole(x.new_ones(count, *x.shape[1:]))
        return x * mask[rows]


def add_up(parameters: Sequence[torch.Tensor], loss: torch.Tensor) -> torch.Tensor:
    """Make every gradient the sum of the processes' gradients; returns the sum of their losses."""
    if processes() == 1:
        return loss
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([*(part.flatten() for part in parts), loss.detach().reshape(1)])
    _do(distributed.all_reduce, flat)
    for parameter, total in zip(parameters, flat[:-1].split([part.numel() for part in parts]), strict=True):
        parameter.grad = total.view_as(parameter)
    return flat[-1]


def of_first(value: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What `value` gives in the first process, which alone computes it."""
    if processes() == 1:
        return value()
    text = bytes_of_first(json.dumps(value()).encode() if is_first() else None)
    assert text is not None
    found: dict[str, float] = json.loads(text)
    return found


def bytes_of_first(data: bytes | None) -> bytes | None:
    """The first process's bytes, or None, in all; every process must call it."""
    if processes() == 1:
        return data
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    size = torch.tensor([-1 if data is None else len(data)], device=device)
    _do(distributed.broadcast, size, 0)
    if int(size) < 0:
        return None
    sent = torch.zeros(int(size), dtype=torch.uint8, device=device)
    if is_first() and data:
        sent.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    if int(size):
        _do(distributed.broadcast, sent, 0)
    return bytes(sent.cpu().numpy())


def _do(what: Callable[..., Any], *given: Any) -> None:
    try:
        what(*given)
    except RuntimeError as error:
        raise DentalignError(
            f"training process {number()} of {processes()} has lost the others "
            f"({str(error).splitlines()[0][:100]}); the same command goes on from the last checkpoint"
        ) from error
