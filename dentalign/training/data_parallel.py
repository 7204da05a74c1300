"""Data-parallel training in the processes that `torchrun` starts.

All processes draw the same random numbers for a whole batch, and each computes its own rows of the batch.
With a single process there is no process group, and the functions here change nothing.
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

LONGEST_WAIT = timedelta(hours=1)  # of a process for the other ones


def rank() -> int:
    """Rank of this process, from 0; only rank 0 writes, logs and validates."""
    return distributed.get_rank() if _has_group() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if _has_group() else 1


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """Join the process group of `torchrun`, if there is one; on GPUs, use the GPU of the local rank."""
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
    """Number of threads of this process, if all processes of a machine together have `threads`."""
    return max(1, threads // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def rows(count: int) -> slice:
    """Rows of this process in a batch of `count` rows; may be empty with more processes than rows."""
    return slice(count * rank() // world_size(), count * (rank() + 1) // world_size())


def wrap(loss: nn.Module) -> nn.Module:
    """Wrap a loss module so that `backward` averages the gradients over all processes."""
    return DistributedDataParallel(loss) if world_size() > 1 else loss


def share(loss: torch.Tensor, own_weight: torch.Tensor, whole_weight: torch.Tensor) -> torch.Tensor:
    """Scale this process's loss so that the mean over the processes is the loss of the whole batch.

    loss         : () weighted mean over this process's rows
    own_weight   : () sum of the weights in this process's rows, such as their number of teeth
    whole_weight : () sum of the weights in the whole batch
    """
    return loss if world_size() == 1 else loss * world_size() * own_weight / whole_weight.clamp(min=1)


def mean(value: torch.Tensor) -> torch.Tensor:
    """Average a tensor over the processes."""
    if world_size() > 1:
        distributed.all_reduce(value)
        value /= world_size()
    return value


def from_rank_0(value: Any) -> Any:
    """Return the value that rank 0 passes; every process waits for it."""
    values = [value]
    if world_size() > 1:
        distributed.broadcast_object_list(values)
    return values[0]


def _has_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()
