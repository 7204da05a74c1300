"""A loss whose operations a GPU is told once, not at every step.

A step of a small network is some hundred to a thousand operations of a few microseconds. To launch them one
by one takes the CPU several times as long as they take the GPU. So they are recorded for each shape of a
batch, with those of the gradients (a CUDA graph), and a step launches the record.
"""

import warnings
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils import _pytree

from dentalign.training import data_parallel

_WARM_UP = (
    3  # times that the loss is computed before it is recorded, for what its operations do the first time
)


class RecordedLoss:
    """What a loss module says of a batch; recorded where that can be done, else computed as ever.

    On a CPU, and where several processes share a batch, nothing is recorded. Nor is a loss that looks at a
    value on the CPU, as for a shape that depends on it; a warning says so.
    """

    def __init__(self, loss: nn.Module):
        self._loss = loss
        self._records: dict[tuple[torch.Size, ...], _Record | None] = {}

    def __call__(self, *given: Any) -> torch.Tensor:
        """The loss of tensors, or of tuples of them. A next call may follow once it has its gradients."""
        tensors: list[torch.Tensor] = _pytree.tree_leaves(given)
        record = None
        if tensors[0].device.type == "cuda" and data_parallel.processes() == 1:
            shapes = tuple(tensor.shape for tensor in tensors)
            if shapes not in self._records:
                self._records[shapes] = self._recorded(given)
            record = self._records[shapes]
        loss: torch.Tensor = self._loss(*given) if record is None else record(tensors)
        return loss

    def _recorded(self, given: tuple[Any, ...]) -> "_Record | None":
        # Recording computes the loss some times. A training that goes on from a checkpoint records in another
        # epoch than one that was never stopped, and is to draw the same dropout.
        random, mode = torch.cuda.get_rng_state(), torch.cuda.get_sync_debug_mode()
        self._loss(*given)  # the first time constants may have to be brought there
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that not all such looks are found; those that matter are
                torch.cuda.set_sync_debug_mode("error")
            self._loss(*given)  # a look while recording would leave torch's random numbers in disorder
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            warnings.warn(f"the loss cannot be recorded, and is slower for it: {reason}", stacklevel=3)
            return None
        finally:
            torch.cuda.set_sync_debug_mode(mode)
            torch.cuda.set_rng_state(random)
        try:
            return _Record(self._loss, given)
        finally:
            torch.cuda.set_rng_state(random)


class _Record:
    """The operations of a loss and of its gradients, for batches of one shape."""

    def __init__(self, loss: nn.Module, given: tuple[Any, ...]):
        self.weights = {name: value for name, value in loss.named_parameters() if value.requires_grad}
        # The same memory, but leaves of their own: those of the weights belong to the training's stream.
        leaves = {name: value.detach().requires_grad_() for name, value in self.weights.items()}
        own = _pytree.tree_map(torch.clone, given)
        self.given: list[torch.Tensor] = _pytree.tree_leaves(own)

        def compute() -> tuple[torch.Tensor, list[torch.Tensor]]:
            value = torch.func.functional_call(loss, leaves, own)
            gradients = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
            return value.detach(), list(gradients)

        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UP):
                compute()
        torch.cuda.current_stream().wait_stream(beside)
        self.graph, self.runs = torch.cuda.CUDAGraph(), 0
        with torch.cuda.graph(self.graph):
            self.value, self.gradients = compute()

    def __call__(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        torch._foreach_copy_(self.given, tensors)
        loss: torch.Tensor = _Replay.apply(self, *self.weights.values())  # type: ignore[no-untyped-call]
        return loss


class _Replay(torch.autograd.Function):
    """A run of a record; it has the gradients already, so that they only wait to be asked for."""

    @staticmethod
    def forward(ctx: Any, record: _Record, *_: torch.Tensor) -> torch.Tensor:
        record.graph.replay()
        record.runs += 1
        ctx.record, ctx.run = record, record.runs
        return record.value.clone()  # the next run writes to the same place

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_the_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.run != ctx.record.runs:
            raise RuntimeError(
                "a recorded loss has no gradients any more once it was asked for another batch"
            )
        return None, *torch._foreach_mul(ctx.record.gradients, of_the_loss)
