"""Where cases are worked on: in this process, in processes of this machine, or on a cluster.

The answer is the same wherever it is found; nothing of this goes into an output.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

from dentalign import params
from dentalign.params import Section
from dentalign.running import profiling, worker_processes

Engine = Literal["local", "dask"]
Result = TypeVar("Result")

AHEAD = 4  # calls that are under way or done for each worker: enough to keep it busy, and memory is bounded


class Parallel(Section):
    """Where cases are worked on."""

    engine: Engine = "local"


def load_engine(path: str | Path) -> Engine:
    """`parallel.engine`; this machine where nothing is said."""
    return params.parse(params.read_document(path).get("parallel", {}), Parallel, f"{path}: parallel").engine


def in_order(
    function: Callable[..., Result],
    calls: Iterable[tuple[Any, ...]],
    engine: Engine,
    workers: int = 1,
    *,
    gpu: bool = False,
) -> Generator[Result, None, None]:
    """`function(*call)` of each call, in the order of the calls.

    function : a function or method that can be sent to another process, as can its arguments
    engine   : "local", this machine; "dask", the cluster whose scheduler DASK_SCHEDULER_ADDRESS names
    workers  : processes of this machine; 0 is one per core, 1 is this process itself
    gpu      : on a cluster, whether only workers that offer the resource GPU will do
    raises   : what the function raises; DentalignError where the cluster cannot be used
    """
    workers = workers or os.cpu_count() or 1
    if profiling.active():  # which sees its own process alone
        engine, workers = "local", 1
    if engine == "dask":
        from dentalign.running import dask_cluster

        with dask_cluster.Cluster(gpu) as cluster:
            yield from _ordered(cluster.submit, function, calls, cluster.threads)
    elif workers == 1:
        yield from (function(*call) for call in calls)
    else:
        with worker_processes.pool(workers) as pool:
            try:
                yield from _ordered(pool.submit, function, calls, workers)
            finally:  # an interruption waits for the cases under way alone
                pool.shutdown(cancel_futures=True)


def _ordered(
    submit: Callable[..., Any],  # gives a future, of `concurrent.futures` or alike
    function: Callable[..., Result],
    calls: Iterable[tuple[Any, ...]],
    workers: int,
) -> Generator[Result, None, None]:
    waiting: deque[Any] = deque()
    for call in calls:
        waiting.append(submit(function, *call))
        if len(waiting) >= AHEAD * workers:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
