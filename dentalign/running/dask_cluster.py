"""Cases on the workers of a Dask cluster; a worker that is lost costs time, never a case.

Dask gives what a lost worker had to another one. What this adds: a worker whose code or libraries are not
ours does nothing, no worker logs a failure (it may hold a case id), and a cluster without workers is said.
"""

import functools
import hashlib
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from dentalign.errors import DentalignError

try:
    import dask
    from distributed import Client, KilledWorker
    from distributed.client import FutureCancelledError
except ImportError as error:
    raise DentalignError("parallel.engine is dask, which is not installed; see docs/machines.md") from error

Result = TypeVar("Result")

ADDRESS_VARIABLE = "DASK_SCHEDULER_ADDRESS"
WAIT_S = float(os.environ.get("DENTALIGN_CLUSTER_WAIT_S", "60"))  # for the scheduler, and for a first worker
LIBRARIES = ("numpy", "scipy", "fpsample", "torch")  # that decide the bytes of a result


class Cluster:
    """The cluster, connected to; raises DentalignError where it cannot be used."""

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
            raise DentalignError(f"{address}: no Dask scheduler answers ({type(error).__name__})") from None
        try:
            self.threads = self._threads(str(address))
        except BaseException:
            self._client.close()
            raise

    def _threads(self, address: str) -> int:
        """Threads of all workers at this moment; there may be more later, and fewer."""
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

    def submit(self, function: Callable[..., Result], *call: Any) -> "Submitted[Result]":
        """Have `function(*call)` done by a worker."""
        future = self._client.submit(_answer, _code(), function, call, pure=False, resources=self._resources)
        return Submitted(self._client, future)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()  # the scheduler forgets what nobody waits for any more


class Submitted(Generic[Result]):
    """A call on the cluster."""

    def __init__(self, client: Any, future: Any):
        self._client, self._future = client, future

    def result(self) -> Result:
        """Wait for it.

        raises: what the function raised; DentalignError where workers that had it died again and again, where
                the scheduler is gone, or where the worker's code is not ours
        """
        said = False
        while True:
            try:
                answer = self._future.result(timeout=WAIT_S)
                break
            except TimeoutError:
                if not said and not self._client.nthreads():
                    said = True
                    print("waiting: the cluster has no worker left", file=sys.stderr, flush=True)
            except KilledWorker:
                raise DentalignError(
                    "several workers of the cluster died over the same case; the scheduler's log says which "
                    "workers, and theirs says why (too little memory?)"
                ) from None
            except (FutureCancelledError, OSError) as error:
                raise DentalignError(f"the cluster's scheduler is gone ({type(error).__name__})") from None
        result, failure = answer
        if failure is not None:
            raise failure
        found: Result = result
        return found


def _answer(code: str, function: Callable[..., Any], call: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    """What a worker does: the result, or the failure, which it must not log."""
    if code != _code():
        return None, DentalignError(
            f"worker on {platform.node()}: its dentalign or its libraries ({', '.join(LIBRARIES)}) are not "
            "those of this machine; install the same there, and start workers again after a change of code"
        )
    try:
        return function(*call), None
    except Exception as error:  # noqa: BLE001  raised again where the call came from
        return None, error


@functools.cache
def _code() -> str:
    """A hash of what decides a result: libraries, and our modules as this process found them."""
    package = Path(__file__).parent
    parts = [version(name).split("+")[0] for name in LIBRARIES]  # torch+cpu and torch+cu128 may work together
    parts.append(platform.python_version())
    for file in sorted(package.rglob("*.py")):
        parts.append(f"{file.relative_to(package)} {hashlib.sha256(file.read_bytes()).hexdigest()}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
