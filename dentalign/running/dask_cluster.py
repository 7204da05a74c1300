"""Dask cluster for `pool`: the loss of a worker costs time, never a case.

Dask gives the calls of a lost worker to another one. This module adds three things. A worker whose source
code or libraries differ computes nothing. No worker logs an exception, as it may contain a case id. While the
cluster has no worker, a message is printed.
"""

import functools
import inspect
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Generic, Self, TypeVar

from dentalign.errors import DentalignError
from dentalign.running.stage_code import code_digest

try:
    import dask
    from distributed import Client, KilledWorker
    from distributed.client import FutureCancelledError
except ImportError as error:
    raise DentalignError("parallel.engine is dask, which is not installed; see docs/machines.md") from error

Result = TypeVar("Result")

ADDRESS_VARIABLE = "DASK_SCHEDULER_ADDRESS"
WAIT_S = float(os.environ.get("DENTALIGN_CLUSTER_WAIT_S", "60"))  # for the scheduler, and for a first worker
LIBRARIES = ("numpy", "scipy", "fpsample", "torch")  # their versions decide the bytes of a result


class Cluster:
    """Connection to the Dask cluster at DASK_SCHEDULER_ADDRESS.

    gpu     : True to use only workers that offer the resource GPU
    threads : number of threads of all usable workers at the start
    raises  : DentalignError if the scheduler cannot be reached or has no usable worker
    """

    def __init__(self, gpu: bool):
        self._resources = {"GPU": 1} if gpu else None
        address = dask.config.get("scheduler-address", None)
        if not address:
            raise DentalignError(
                f"parallel.engine is dask, but no scheduler is named: set {ADDRESS_VARIABLE}, "
                "such as tcp://the-node:8786"
            )
        try:
            self._client = Client(address, timeout=WAIT_S, set_as_default=False)
        except OSError as error:
            raise DentalignError(f"{address}: no Dask scheduler there ({type(error).__name__})") from None
        try:
            self.threads = self._count_threads(str(address))
        except BaseException:
            self._client.close()
            raise

    def _count_threads(self, address: str) -> int:
        try:
            self._client.wait_for_workers(1, timeout=WAIT_S)
        except TimeoutError:
            raise DentalignError(
                f"{address}: the cluster has no worker after {WAIT_S:g} s; start some: dask worker {address}"
            ) from None
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        able = [one for one in workers if not self._resources or one.get("resources", {}).get("GPU")]
        if not able:
            raise DentalignError(
                f"{address}: encoder.device is cuda, but no worker offers a GPU; "
                'start some with: dask worker --resources "GPU=1"'
            )
        return sum(int(one["nthreads"]) for one in able)

    def submit(self, function: Callable[..., Result], *call: Any) -> "Future[Result]":
        """Submit `function(*call)` to the workers."""
        future = self._client.submit(
            _call, _code(function), function, call, pure=False, resources=self._resources
        )
        return Future(self._client, future)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()  # and the scheduler drops the calls that nobody waits for


class Future(Generic[Result]):
    """Call submitted to the cluster."""

    def __init__(self, client: Any, future: Any):
        self._client, self._future = client, future

    def result(self) -> Result:
        """Wait for the result.

        raises: the exception of the function; DentalignError if several workers died during the call, if
                the connection to the scheduler is lost, or if the worker's source code differs
        """
        said = False
        while True:
            try:
                result, failure = self._future.result(timeout=WAIT_S)
                break
            except TimeoutError:
                if not said and not self._client.nthreads():
                    said = True
                    print("waiting: the cluster has no worker left", file=sys.stderr, flush=True)
            except KilledWorker:
                raise DentalignError(
                    "several workers of the cluster died on the same case; the scheduler's log names the "
                    "workers, and their logs the cause (too little memory?)"
                ) from None
            except (FutureCancelledError, OSError) as error:
                raise DentalignError(f"the cluster's scheduler is gone ({type(error).__name__})") from None
        if failure is not None:
            raise failure
        found: Result = result
        return found


def _call(code: str, function: Callable[..., Any], call: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    """Call the function on a worker; returns its result, or its exception, which the worker must not log."""
    if code != _code(function):
        return None, DentalignError(
            f"worker on {platform.node()}: its dentalign or its libraries ({', '.join(LIBRARIES)}) are not "
            "those of this machine; install the same there, and restart workers after a change of source code"
        )
    try:
        return function(*call), None
    except Exception as error:  # noqa: BLE001  raised again where the call came from
        return None, error


def _code(function: Callable[..., Any]) -> str:
    return _digest(inspect.getfile(function))


@functools.cache
def _digest(file: str) -> str:
    """Versions of the libraries, and digest of the code that a function's file reaches."""
    # The local part is cut off: torch+cpu and torch+cu128 may work together.
    versions = [version(name).split("+")[0] for name in LIBRARIES]
    return " ".join([platform.python_version(), *versions, code_digest(file)])
