"""Training by the processes that `torchrun` starts: rank, world size and what each of them computes.

All processes draw the same random numbers for a whole batch, and each works on its own rows of it. With one
process, which needs no process group, every function here returns what it was given.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from dentalign.running.device import choose_device

LONGEST_WAIT = timedelta(hours=1)  # for each other


def rank() -> int:
    """Rank of this process, from 0; the process of rank 0 writes, logs and validates."""
    return distributed.get_rank() if _has_group() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if _has_group() else 1


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """Join the other processes of `torchrun`, if any; on GPUs each takes that of its local rank."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    on_gpu = choose_device(device).type == "cuda"
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=LONGEST_WAIT)
    yield
    distributed.destroy_process_group()  # not after a failure: the others may not come


def share_of_threads(threads: int) -> int:
    """Number of threads of this process, where `threads` are for all processes of a machine together."""
    return max(1, threads // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def rows(count: int) -> slice:
    """Rows of this process in a batch of `count`; none where the batch is smaller than the world."""
    return slice(count * rank() // world_size(), count * (rank() + 1) // world_size())


def wrap(loss: nn.Module) -> nn.Module:
    """Return the loss module such that `backward` leaves the mean of all processes' gradients."""
    return DistributedDataParallel(loss) if world_size() > 1 else loss


def share(loss: torch.Tensor, own_weight: torch.Tensor, whole_weight: torch.Tensor) -> torch.Tensor:
    """Scale a mean over this process's rows so that the mean over the processes is that over the batch.

    own_weight, whole_weight : () weight of the mean, such as a number of teeth, in these rows and in all
    """
    return loss if world_size() == 1 else loss * world_size() * own_weight / whole_weight.clamp(min=1)


def mean(value: torch.Tensor) -> torch.Tensor:
    """Return the mean over the processes."""
    if world_size() > 1:
        distributed.all_reduce(value)
        value /= world_size()
    return value


def from_rank_0(value: Any) -> Any:
    """Return what rank 0 gives; every process waits for it."""
    values = [value]
    if world_size() > 1:
        distributed.broadcast_object_list(values)
    return values[0]


def _has_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()
