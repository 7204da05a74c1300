"""Entry of every command: exit codes, one line on stderr for a failure, Ctrl-C, --debug and --profile."""

import codecs
import io
import os
import re
import signal
import sqlite3
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import typer

from dentalign.errors import DentalignError
from dentalign.files.atomic import FULL
from dentalign.running import allocator, profiling

DEBUG_VARIABLE = "DENTALIGN_DEBUG"
EPILOG = (
    f"--debug, or {DEBUG_VARIABLE}=1, shows the traceback of a failure; "
    f"--profile, or {profiling.VARIABLE}=1, profiles the first batches or cases."
)
INTERRUPTED = "interrupted: the same command goes on from here"
INTERRUPTED_AGAIN = "interrupted again: ended at once; the same command goes on from what is on disk"

# Their messages name a file, a module or a device. Those of other exceptions may quote patients' data.
_SAFE_TO_QUOTE = (OSError, ImportError, MemoryError, RuntimeError)


def run(main: Callable[..., Any] | typer.Typer, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a typer app, or a function as one, and exit with its exit code.

    0 done; 1 failed, the cause in one line on stderr; 2 wrong usage; 3 nothing usable; 130 interrupted.
    The first Ctrl-C cleans up before the end, a second one ends the process at once. `--debug` anywhere among
    the arguments, or DENTALIGN_DEBUG=1, adds the traceback; `--profile`, or DENTALIGN_PROFILE=1, profiles the
    first steps, see `dentalign.running.profiling`.

    main      : a typer app, or a function whose parameters are the options
    arguments : words after the program's name; default: those of this process
    raises    : SystemExit, always
    """
    _open_streams()
    _run_own_code()
    allocator.keep_freed_memory()
    words = list(sys.argv[1:] if arguments is None else arguments)
    for option, variable in (("--debug", DEBUG_VARIABLE), ("--profile", profiling.VARIABLE)):
        if option in words:
            words = [word for word in words if word != option]
            os.environ[variable] = "1"
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _Interrupts())
    try:
        with _profiled():
            _app(main)(args=words)
        code: Any = 0
    except SystemExit as end:  # typer's own way out, which turns Ctrl-C into a bare 130
        code = end.code
        if code == 130:
            _say_interrupted()
    except KeyboardInterrupt:
        _say_interrupted()
        code = 130
    except DentalignError as error:
        show_traceback()
        _say(f"error: {error}")
        code = error.exit_code
    except Exception as error:  # noqa: BLE001  the last stop: nothing above may show a bare traceback
        show_traceback()
        _say(f"error: {_internal(error)}")
        code = 1
    sys.exit(_flush_streams(code))


def _open_streams() -> None:
    r"""Open closed standard streams (`2>&-`) on the null device, and let all of them print any file name.

    A file name may be bytes that are no text, or text that the stream's encoding lacks: it is printed with
    escapes (`\udcff`).
    """
    # Otherwise the next file opened, such as an output, would be number 2, and libraries print there.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  until the end
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"  # where typer prints UTF-8 by itself
            stream.reconfigure(encoding="utf-8" if ascii_only else None, errors="backslashreplace")


def _flush_streams(code: Any) -> Any:
    """Print what is left and return the exit code; what nobody reads, as behind `| head -1`, is dropped."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if code == 0 and not isinstance(error, BrokenPipeError):
                _say(f"error: {_internal(error)}")
                code = 1
    return code


def _run_own_code() -> None:
    """Restart with the modules beside the script, if Python has found others.

    DVC runs queued experiments in a copy of the repository, while the package installed in editable mode is
    that of the repository itself, whose modules may have changed since.
    """
    script = Path(sys.argv[0])
    if script.parent.name != "stages":
        return
    root = script.resolve().parents[1]
    own = root / "dentalign" / "running" / "command.py"
    if not own.is_file() or own.samefile(__file__):
        return
    before = os.environ.get("PYTHONPATH", "")
    if before.split(os.pathsep)[0] == str(root):
        return  # restarted already, and this interpreter ignores PYTHONPATH
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in (str(root), before) if path)
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class _Interrupts:
    """Handler of Ctrl-C."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.seen += 1
        if self.seen > 1:
            _say(INTERRUPTED_AGAIN)
            os._exit(130)  # does not wait for threads
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
    ours = [frame for frame in frames if re.search("dentalign|stages", frame.filename)] or frames
    where = f"{Path(ours[-1].filename).name} line {ours[-1].lineno}" if ours else "an unknown place"
    quoted = f"{type(error).__name__}: {error}"
    message = quoted if isinstance(error, _SAFE_TO_QUOTE) and str(error) else type(error).__name__
    full = isinstance(error, sqlite3.OperationalError) and "disk" in str(error)  # DVC's own files
    if full or (isinstance(error, OSError) and error.errno in FULL):
        return f"No space left on device ({quoted}); make room, then run the same command again"
    if isinstance(error, OSError):
        return message
    if isinstance(error, UnicodeEncodeError) and sys.getfilesystemencoding() != "utf-8":
        return "a path has letters that the locale lacks; set PYTHONUTF8=1, then run the same command again"
    return f"internal, {message} in {where}; run it again with --debug for the traceback"


def _profiled() -> AbstractContextManager[None]:
    if _is_set(profiling.VARIABLE) and _is_first():
        return profiling.profiled(Path(sys.argv[0]).stem)
    return nullcontext()


def _is_first() -> bool:
    """True unless torchrun has started this process as one of several, with a rank above 0."""
    return os.environ.get("RANK", "0") == "0"


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0")


def show_traceback() -> None:
    """Print the traceback of the exception being handled, if --debug is set."""
    if _is_set(DEBUG_VARIABLE):
        traceback.print_exc()


def _say_interrupted() -> None:
    if _is_first():
        _say(INTERRUPTED)


def _say(text: str) -> None:
    with suppress(OSError):  # nobody can read it
        print(" ".join(text.split()), file=sys.stderr, flush=True)
