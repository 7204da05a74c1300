"""What a CUDA graph does, on a CPU: operations are noted with their memory, and done again in the same."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dentalign.alignment.attention.recorded_loss import RecordedLoss


class Graph(TorchDispatchMode):
    """Stands for `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.done: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do an operation and note it, its arguments and its answer."""
        answer = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, answer))
        return answer

    @torch.no_grad()
    def replay(self) -> None:
        """All operations once more; answers go where they went the first time."""
        self.replays += 1
        for func, args, kwargs, answer in self.done:
            again = func(*args, **kwargs)
            for place, value in zip(tree_leaves(answer), tree_leaves(again), strict=True):
                if isinstance(place, torch.Tensor) and place.data_ptr() != value.data_ptr():
                    place.copy_(value)


class Stream:
    """Stands for `torch.cuda.Stream`."""

    def wait_stream(self, other: "Stream") -> None:
        """There is nothing to wait for."""


@contextmanager
def recorded(graph: Graph) -> Iterator[None]:
    """Stands for `torch.cuda.graph`."""
    with graph:
        yield


def use(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Have losses recorded although they are on a CPU; the records are added to what is returned."""
    made: list[Graph] = []

    def graph() -> Graph:
        made.append(Graph())
        return made[-1]

    monkeypatch.setattr(RecordedLoss, "_can_be_recorded", lambda self, tensors: torch.is_grad_enabled())
    for name, stand_in in {
        "CUDAGraph": graph,
        "graph": recorded,
        "Stream": Stream,
        "current_stream": Stream,
        "stream": lambda stream: nullcontext(),
        "get_rng_state": torch.get_rng_state,
        "set_rng_state": torch.set_rng_state,
        "get_sync_debug_mode": lambda: 0,
        "set_sync_debug_mode": lambda mode: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return made
