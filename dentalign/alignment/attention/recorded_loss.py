"""A loss whose operations a GPU is told once, not at every step.

A step of a small network is some hundred to a thousand operations of a few microseconds. To launch them one
by one takes the CPU several times as long as they take the GPU. So they are recorded for each shape of a
batch, with those of the gradients (a CUDA graph), and a step launches the record.
"""

import gc
import warnings
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils import _pytree

from dentalign.running import profiling
from dentalign.training import data_parallel

_WARM_UP = (
    3  # times that the loss is computed before it is recorded, for what its operations do the first time
)


class RecordedLoss:
    """What a loss module says of a batch; recorded where that can be done, else computed as ever.

    On a CPU, where several processes share a batch, and in a profile, which is to tell operations apart,
    nothing is recorded. Nor is a loss that looks at a value on the CPU, as for a shape that depends on it; a
    warning says so. A loss changes nothing but gradients: to be recorded it is computed some more times.
    """

    def __init__(self, loss: nn.Module):
        self._loss = loss
        self._records: dict[Any, _Record | None] = {}

    def __call__(self, *given: Any) -> torch.Tensor:
        """The loss of tensors, or of tuples of them. A next call may follow once it has its gradients."""
        tensors: list[torch.Tensor] = _pytree.tree_leaves(given)
        record = None
        if self._can_be_recorded(tensors):
            kind = [(tensor.shape, tensor.dtype) for tensor in tensors]
            key = (*kind, *(module.training for module in self._loss.modules()))
            if key not in self._records:
                self._records[key] = self._recorded(given)
            record = self._records[key]
        loss: torch.Tensor = self._loss(*given) if record is None else record(tensors)
        return loss

    def _can_be_recorded(self, tensors: list[torch.Tensor]) -> bool:
        alone = data_parallel.processes() == 1 and not profiling.active()
        return alone and torch.is_grad_enabled() and tensors[0].device.type == "cuda"

    def _recorded(self, given: tuple[Any, ...]) -> "_Record | None":
        # Recording computes the loss some times. A training that goes on from a checkpoint records in another
        # epoch than one that was never stopped, and is to draw the same dropout.
        random, mode = torch.cuda.get_rng_state(), torch.cuda.get_sync_debug_mode()
        weights = [weight for weight in self._loss.parameters() if weight.requires_grad]

        def compute() -> None:
            torch.autograd.grad(self._loss(*given), weights, allow_unused=True)

        compute()  # the first time constants may have to be brought there
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that not all such looks are found; those that matter are
                torch.cuda.set_sync_debug_mode("error")
            compute()  # a look while recording would leave torch's random numbers in disorder
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

        def compute() -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
            value = torch.func.functional_call(loss, leaves, own)
            return value.detach(), torch.autograd.grad(value, list(leaves.values()), allow_unused=True)

        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UP):
                compute()
        torch.cuda.current_stream().wait_stream(beside)
        self.graph, self.runs = torch.cuda.CUDAGraph(), 0
        gc.collect()  # what is freed while recording would end it
        with torch.cuda.graph(self.graph):
            self.value, gradients = compute()
        self.gradients = [gradient for gradient in gradients if gradient is not None]
        self.used = [gradient is not None for gradient in gradients]

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
        gradients = iter(torch._foreach_mul(ctx.record.gradients, of_the_loss))
        return None, *(next(gradients) if used else None for used in ctx.record.used)
