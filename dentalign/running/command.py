"""How every command ends: the exit code, and one line on stderr that says why."""

import os
import signal
import sqlite3
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import typer

from dentalign.errors import DentalignError
from dentalign.files.atomic import FULL
from dentalign.running import allocator, profiling

# Before torch is imported: its threads look out for each other a while, then sleep. By default (libgomp) they
# look out thirty times as long, and where other programs have the cores that they need, the work of all slows
# down: with two such programs on two cores a training step took four times as long, an encoding twice. Alone,
# this costs an encoding a fifth; to sleep at once (OMP_WAIT_POLICY=PASSIVE) costs it two thirds.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
allocator.keep_freed_memory()

DEBUG_VARIABLE = "DENTALIGN_DEBUG"
PART_VARIABLE = "DENTALIGN_PART"  # of a process whose parent speaks for it when it is interrupted
EPILOG = (
    f"--debug, or {DEBUG_VARIABLE}=1, shows the traceback of a failure; "
    f"--profile, or {profiling.VARIABLE}=1, where the time goes."
)
INTERRUPTED = "interrupted: the same command goes on from here"
INTERRUPTED_AGAIN = "interrupted again: ended at once; the same command goes on from what is on disk"

# Their messages name a file, a module or a device. Those of other exceptions may quote the data itself.
_TELLING = (OSError, ImportError, MemoryError, RuntimeError)


def run(main: Callable[..., Any] | typer.Typer, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a typer app, or a function as one, and leave the process with the right exit code.

    0 done; 1 failed, the cause in one line on stderr; 2 wrong usage; 3 nothing usable; 130 interrupted.
    The first Ctrl-C lets what is under way be left in order, a second one ends the process at once.
    `--debug` anywhere among the arguments, or DENTALIGN_DEBUG=1, adds the traceback; `--profile`, or
    DENTALIGN_PROFILE=1, says where the time went, see `dentalign.running.profiling`.

    main      : a typer app, or a function whose parameters are the options
    arguments : words after the program's name; default: those of this process
    raises    : SystemExit, always
    """
    _run_own_code()
    words = list(sys.argv[1:] if arguments is None else arguments)
    for option, variable in (("--debug", DEBUG_VARIABLE), ("--profile", profiling.VARIABLE)):
        if option in words:
            words = [word for word in words if word != option]
            os.environ[variable] = "1"
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _Interrupts())
    try:
        with _measured():
            _app(main)(args=words)
    except SystemExit as end:  # typer's own way out, which turns Ctrl-C into a bare 130
        if end.code == 130:
            _say_interrupted()
        raise
    except KeyboardInterrupt:
        _say_interrupted()
        sys.exit(130)
    except DentalignError as error:
        show_traceback()
        _say(f"error: {error}")
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001  the last stop: nothing above may show a bare traceback
        show_traceback()
        _say(f"error: {_internal(error)}")
        sys.exit(1)
    sys.exit(0)


def _run_own_code() -> None:
    """Begin anew with the modules that lie beside the script, where Python has found others.

    DVC runs queued experiments in a copy of the repository, while what is installed for editing is the
    repository itself: its modules may have changed since.
    """
    script = Path(sys.argv[0])
    if script.parent.name != "stages":
        return
    root = script.resolve().parents[1]
    its_own = root / "dentalign" / "running" / "command.py"
    if not its_own.is_file() or its_own.samefile(__file__):
        return
    before = os.environ.get("PYTHONPATH", "")
    if before.split(os.pathsep)[0] == str(root):
        return  # an interpreter that does not look there
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in (str(root), before) if path)
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class _Interrupts:
    """The handler of Ctrl-C."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.seen += 1
        if self.seen > 1:
            _say(INTERRUPTED_AGAIN)
            os._exit(130)  # without waiting for threads
        raise KeyboardInterrupt


def _app(main: Callable[..., Any] | typer.Typer) -> typer.Typer:
    if isinstance(main, typer.Typer):
        main.info.epilog = EPILOG
        app = main
    else:
        app = typer.Typer(add_completion=False)
        app.command(epilog=EPILOG)(main)
    app.pretty_exceptions_enable = False
    return app


def _internal(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        frame for frame in frames if "dentalign" in frame.filename or "stages" in frame.filename
    ] or frames
    where = f"{Path(ours[-1].filename).name} line {ours[-1].lineno}" if ours else "an unknown place"
    if isinstance(error, _TELLING) and str(error):
        message = f"{type(error).__name__}: {error}"
    else:
        message = type(error).__name__
    full = isinstance(error, sqlite3.OperationalError) and "disk" in str(error)  # DVC's own files
    if full or (isinstance(error, OSError) and error.errno in FULL):
        what = f"{type(error).__name__}: {error}"
        return f"No space left on device ({what}); make room, then the same command goes on"
    if isinstance(error, OSError):
        return message
    return f"internal, {message} in {where}; once more with --debug shows where it comes from"


def _measured() -> AbstractContextManager[None]:
    if not _is_set(profiling.VARIABLE) or os.environ.get("RANK", "0") != "0":  # of several, the first
        return nullcontext()
    return profiling.profiled(Path(sys.argv[0]).stem)


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0")


def show_traceback() -> None:
    """Print the traceback of the exception being handled, if --debug asks for it."""
    if _is_set(DEBUG_VARIABLE):
        traceback.print_exc()


def _say_interrupted() -> None:
    if not _is_set(PART_VARIABLE):
        _say(INTERRUPTED)


def _say(text: str) -> None:
    print(" ".join(text.split()), file=sys.stderr, flush=True)
