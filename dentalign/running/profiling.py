"""Profile of a command by torch.profiler (`--profile`): a table by operator on stderr, and a Chrome trace.

Only the first steps are recorded; a step is a batch in training and in validation, elsewhere a case.
Outputs do not change. A finished training has no steps left: move its checkpoint away before profiling it.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dentalign.running.state_dir import state_dir

if TYPE_CHECKING:
    from torch.profiler import profile

VARIABLE = "DENTALIGN_PROFILE"
WARM_UP, RECORDED = 1, 8  # steps; the first one allocates and is not typical
_profile: "profile | None" = None


def active() -> bool:
    """True if this process is being profiled."""
    return _profile is not None


def step() -> None:
    """Mark the end of a step."""
    if _profile is not None:
        _profile.step()


@contextmanager
def profiled(name: str) -> Iterator[None]:
    """Profile the block, even if it fails; the trace is `.dentalign/profiles/<name>-<time>-<pid>.json`."""
    global _profile
    import torch
    from torch import profiler

    def report(recorded: "profile") -> None:
        folder = state_dir() / "profiles"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.json"
        recorded.export_chrome_trace(str(file))
        device = "device" if torch.cuda.is_available() else "cpu"
        table = recorded.key_averages().table(f"self_{device}_time_total", row_limit=15)
        print(table, file=sys.stderr)
        print(f"trace: {file}, for https://ui.perfetto.dev", file=sys.stderr, flush=True)

    schedule = profiler.schedule(wait=0, warmup=WARM_UP, active=RECORDED, repeat=1)
    # Python's calls are recorded, too, but not of a training: torch 2.13 records names of some of its calls
    # that it cannot read again (UnicodeDecodeError in key_averages).
    profile = profiler.profile(
        schedule=schedule, on_trace_ready=report, with_stack=not name.startswith("train_")
    )
    try:
        with profile as _profile:
            yield
    finally:
        _profile = None
        if profile.step_num <= WARM_UP:
            print("no profile: no batch or case was computed after the first one", file=sys.stderr)
