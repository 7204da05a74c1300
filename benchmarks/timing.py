"""Interleaved timing: each contestant runs once per round, so that a slow moment hits all of them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Timed:
    """Seconds of each round, and the ratio of each round to another's."""

    seconds: np.ndarray

    @property
    def median_s(self) -> float:
        """Median of the rounds."""
        return float(np.median(self.seconds))

    def times_faster_than(self, peer: "Timed") -> tuple[float, float, float]:
        """Return quartiles (lower, median, upper) of the peer's time by this one's, round by round."""
        low, middle, high = np.quantile(peer.seconds / self.seconds, [0.25, 0.5, 0.75])
        return float(low), float(middle), float(high)


def interleaved(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timed]:
    """Call every contestant once unmeasured, then once in each round; seconds per call.

    `clock` may be time.process_time where all is done by the processor: other programs disturb it less.
    """
    for call in contestants.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            start = clock()
            call()
            seconds[name].append(clock() - start)
    return {name: Timed(np.array(values)) for name, values in seconds.items()}


def machine() -> str:
    """Describe the machine and the versions behind a figure in one line."""
    import os
    import platform

    import torch

    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            cpu = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
