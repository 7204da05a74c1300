"""Where the time of a command goes: two tables on stderr, and a trace of some steps for Perfetto or Chrome.

The first table is of the whole run, by Python function (cProfile). The second and the trace are of some steps
by operator (torch.profiler), so that they stay small however long the run is; a step is a batch in a training
and in a validation, elsewhere a case. Measuring changes no output. A command that is not profiled imports
neither.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dentalign.files import atomic
from dentalign.running.state_dir import state_dir

if TYPE_CHECKING:
    from torch.profiler import profile

VARIABLE = "DENTALIGN_PROFILE"
WARM_UP, TRACED = 1, 8  # steps: the first is not like the others
ROWS = 15  # of a table

_PACKAGE = Path(__file__).parent
_NOTHING: AbstractContextManager[Any] = nullcontext()
_running: "_Profile | None" = None


def active() -> bool:
    """Whether this process is being profiled."""
    return _running is not None


def leave_out() -> None:
    """Say nothing of this process, which only waits for others."""
    if _running is not None:
        _running.left_out = True


def step() -> None:
    """One step of the work is done; steps are what the trace holds some of."""
    if _running is not None:
        _running.step()


def span(name: str) -> AbstractContextManager[Any]:
    """A block that bears a name in the trace."""
    return _NOTHING if _running is None else _running.span(name)


@contextmanager
def profiled(name: str) -> Iterator[None]:
    """Measure the block, however it ends, and say where its time went.

    name : of the command; the trace is `.dentalign/profiles/<name>-<time>-<process>.json`
    """
    global _running
    import cProfile

    _running = _Profile(_trace_file(name))  # imports torch, which does not belong to the measurement
    calls, began = cProfile.Profile(), time.perf_counter()
    calls.enable()
    try:
        yield
    finally:
        calls.disable()
        running, _running = _running, None
        if not running.left_out:
            _show_functions(calls, name, time.perf_counter() - began)
        running.finish()


def _trace_file(name: str) -> Path:
    moment = time.strftime("%Y%m%d-%H%M%S")
    return state_dir() / "profiles" / f"{name}-{moment}-{os.getpid()}.json"


class _Profile:
    """The trace of some steps, under way."""

    def __init__(self, file: Path):
        import torch
        from torch import profiler

        self.file, self.steps, self.shown, self.left_out = file, 0, False, False
        kinds = [profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            kinds.append(profiler.ProfilerActivity.CUDA)
        plan = profiler.schedule(wait=0, warmup=WARM_UP, active=TRACED, repeat=1)
        self._trace: profile | None = profiler.profile(
            activities=kinds, schedule=plan, on_trace_ready=self._show, acc_events=True
        )
        self._trace.start()

    def span(self, name: str) -> AbstractContextManager[Any]:
        if self._trace is None:
            return _NOTHING
        from torch.profiler import record_function

        return record_function(name)

    def step(self) -> None:
        self.steps += 1
        if self._trace is not None:
            self._trace.step()
            if self.steps == WARM_UP + TRACED:
                self._stop()

    def _stop(self) -> None:
        if self._trace is not None:
            self._trace.stop()
            self._trace = None

    def _show(self, trace: "profile") -> None:
        traced = min(self.steps - WARM_UP, TRACED)
        if traced > 0 and not self.shown:
            self.shown = True
            _show_operators(trace, traced)
            with atomic.replacing(self.file) as part:
                trace.export_chrome_trace(str(part))
            _say(f"trace of {traced} steps: {self.file}, for https://ui.perfetto.dev")

    def finish(self) -> None:
        """End the trace; where there is none, say why."""
        self._stop()
        if not self.shown and not self.left_out:
            done = "1 step was" if self.steps == 1 else f"{self.steps} steps were"
            _say(f"no trace: {done} done, and the first {WARM_UP} cannot be traced")


def _show_functions(calls: Any, name: str, seconds: float) -> None:
    import pstats

    by_own, by_total = [], []
    for (file, line, function), (_, count, own, total, _) in pstats.Stats(calls).stats.items():  # type: ignore[attr-defined]
        where = function if file == "~" else f"{_short(file)}:{line} {function}"
        by_own.append((own, count, where))
        if Path(file).parent.is_relative_to(_PACKAGE):
            by_total.append((total, count, where))
    _say(f"\n{name}: {seconds:.2f} s; measuring makes Python itself slower than it is")
    for title, found in (
        ("functions of dentalign, with all that they call", by_total),
        ("functions of all packages, without what they call", by_own),
    ):
        most = sorted(found, reverse=True)[:ROWS]
        rows = [f"{own:9.3f} {own / seconds:6.1%} {count:10,}  {where}" for own, count, where in most]
        _say(f"{'seconds':>9} {'share':>6} {'calls':>10}  {title}", *rows)


def _show_operators(trace: "profile", steps: int) -> None:
    rows = [
        (event.self_cpu_time_total, event.self_device_time_total, event.count, event.key)
        for event in trace.key_averages()
        if not event.key.startswith("ProfilerStep")
    ]
    on_device = any(device for _, device, _, _ in rows)
    whole = sum(row[on_device] for row in rows) or 1.0
    device_column = f" {'GPU ms':>9}" if on_device else ""
    lines = [f"{'CPU ms':>9}{device_column} {'share':>6} {'calls':>8}  operator"]
    for row in sorted(rows, key=lambda row: row[on_device], reverse=True)[:ROWS]:
        cpu, device, count, key = row
        device_value = f" {device / 1000 / steps:9.3f}" if on_device else ""
        share = row[on_device] / whole
        lines.append(f"{cpu / 1000 / steps:9.3f}{device_value} {share:6.1%} {count / steps:8.1f}  {key}")
    _say(f"\n{steps} steps: milliseconds and calls a step, by operator, without what it calls", *lines)


def _short(file: str) -> str:
    """The last parts of a path: what says which file it is, without this machine's folders."""
    return "/".join(Path(file).parts[-3:])


def _say(*lines: str) -> None:
    print("\n".join(lines), file=sys.stderr, flush=True)
