"""Parallel calls of a function for many cases, in processes of this machine or on a Dask cluster.

The results do not depend on where they are computed.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import starmap as local_starmap
from pathlib import Path
from typing import Any, Literal, TypeVar

from dentalign import params
from dentalign.params import Section
from dentalign.running import profiling

Engine = Literal["local", "dask"]
Result = TypeVar("Result")

AHEAD = 4  # calls submitted for each worker: enough to keep it busy, and memory stays bounded


class Parallel(Section):
    """Section `parallel` of params.yaml: whether cases are computed on this machine or on a cluster."""

    engine: Engine = "local"


def load_engine(path: str | Path) -> Engine:
    """Read `parallel.engine` from params.yaml; "local" if it is not set."""
    values = params.read_document(path).get("parallel", {})
    return params.parse(values, Parallel, f"{path}: parallel.").engine


def starmap(
    function: Callable[..., Result],
    calls: Iterable[tuple[Any, ...]],
    engine: Engine,
    workers: int = 1,
    *,
    gpu: bool = False,
) -> Generator[Result, None, None]:
    """Yield `function(*call)` in the order of the calls, like `itertools.starmap`, computed in parallel.

    function : must be picklable, like its arguments, unless it runs in this process
    engine   : "local" for this machine, "dask" for the cluster at DASK_SCHEDULER_ADDRESS
    workers  : processes of this machine; 0 for one per core, 1 for this process itself
    gpu      : True to use only those workers of a cluster that offer the resource GPU
    raises   : exceptions of the function; DentalignError if the cluster cannot be used
    """
    workers = workers or os.cpu_count() or 1
    if profiling.active():  # the profiler records its own process only
        engine, workers = "local", 1
    if engine == "dask":
        from dentalign.running.dask_cluster import Cluster

        with Cluster(gpu) as cluster:
            yield from _ordered(cluster.submit, function, calls, cluster.threads)
    elif workers == 1:
        yield from local_starmap(function, calls)
    else:
        with processes(workers) as pool:
            try:
                yield from _ordered(pool.submit, function, calls, workers)
            finally:  # an interruption waits only for the cases under way
                pool.shutdown(cancel_futures=True)


def starmap_threads(
    function: Callable[..., Result],
    calls: Iterable[tuple[Any, ...]],
    threads: int,
    wake: Callable[[], None],
) -> Generator[Result, None, None]:
    """Yield `function(*call)` in the order of the calls, computed by threads that mostly wait for a server.

    wake   : called if the generator is closed early, such as by Ctrl-C; must end what the threads wait for
    raises : exceptions of the function
    """
    pool = ThreadPoolExecutor(threads)
    try:
        yield from _ordered(pool.submit, function, calls, threads)
    except BaseException:
        wake()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def processes(workers: int) -> ProcessPoolExecutor:
    """Make a pool of worker processes that ignore Ctrl-C and end with their parent, even a killed one."""
    return ProcessPoolExecutor(workers, initializer=follow_the_parent)


def _ordered(
    submit: Callable[..., Any],  # returns a future with `result()`
    function: Callable[..., Result],
    calls: Iterable[tuple[Any, ...]],
    workers: int,
) -> Generator[Result, None, None]:
    futures: deque[Any] = deque()
    for call in calls:
        futures.append(submit(function, *call))
        if len(futures) >= AHEAD * workers:
            yield futures.popleft().result()
    while futures:
        yield futures.popleft().result()


def follow_the_parent() -> None:
    """Make this worker process ignore Ctrl-C and end with its parent, even a killed one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A worker waits on a pipe that its siblings hold open too: without this it would outlive a killed parent.
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
