"""Exit codes of commands and their one line on stderr; the command `dentalign list`."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dentalign import __version__
from dentalign.cli import app
from dentalign.errors import DentalignError, NothingUsable, ParamError
from dentalign.running import command

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run without tracebacks, and restore what commands change in their process."""
    monkeypatch.setenv(command.DEBUG_VARIABLE, "0")
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def end(main: Any, *arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        command.run(main, arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def fail_with(error: BaseException) -> Any:
    def main() -> None:
        raise error

    return main


def test_a_command_that_does_its_work_ends_with_0() -> None:
    assert end(lambda: None) == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DentalignError("a\nb"), 1),
        (ParamError("a b"), 2),
        (NothingUsable("a b"), 3),
    ],
)
def test_our_errors_end_with_their_code_and_one_line(
    error: DentalignError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end(fail_with(error)) == code
    assert capsys.readouterr().err == "error: a b\n"


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(fail_with(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted: the same command goes on from here\n"


def test_an_internal_failure_is_one_line_that_does_not_quote_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(fail_with(ValueError("could not convert: 'Ivan Petrov'"))) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: internal, ValueError in ")
    assert text.count("\n") == 1
    assert "Ivan" not in text


def test_a_failure_of_the_system_says_which(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(fail_with(OSError(13, "Permission denied", "/data/x"))) == 1
    assert capsys.readouterr().err == "error: PermissionError: [Errno 13] Permission denied: '/data/x'\n"


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device", "/data/x"), sqlite3.OperationalError("disk I/O error")]
)
def test_a_full_disk_is_said_whoever_noticed(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert end(fail_with(error)) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: No space left on device (")
    assert text.endswith("; make room, then run the same command again\n")
    assert text.count("\n") == 1


@pytest.mark.parametrize("way", ["option", "variable"])
def test_a_traceback_is_shown_only_on_request(
    way: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main = fail_with(DentalignError("a b"))
    assert end(main) == 1
    assert "Traceback" not in capsys.readouterr().err
    if way == "variable":
        monkeypatch.setenv(command.DEBUG_VARIABLE, "1")
    assert end(main, *(["--debug"] if way == "option" else [])) == 1
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert text.endswith("error: a b\n")


SCRIPT = """
import sys
import typer
from dentalign.running import command

def main():
    for number in range(int(sys.argv[1])):
        print(f"{number} Иван \\udcff")
    typer.echo("Иван \\udcff")
    typer.echo("Иван \\udcff", err=True)
    open("out", "w").write("mine")  # takes the lowest free file number

command.run(main, [])
"""


def in_a_shell(redirected: str, folder: Path, *words: str, **environment: str) -> tuple[int, str]:
    """Run SCRIPT with redirections; its exit code, and all that was printed."""
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    line = f'"$PYTHON" script.py {" ".join(words)} {redirected}; exit "${{PIPESTATUS[0]}}"'
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    own = {"PYTHON": sys.executable, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=plain | own | environment, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.returncode, done.stdout.decode("utf-8")


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_with_closed_streams_a_command_does_its_work(closed: str, tmp_path: Path) -> None:
    code, said = in_a_shell(closed, tmp_path, "3")
    assert code == 0
    assert set(said.split()) <= {"0", "1", "2", "Иван", "\\udcff"}
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("lines", [3, 100_000])
def test_a_disk_that_is_full_of_what_is_printed_is_said_once(lines: int, tmp_path: Path) -> None:
    code, said = in_a_shell("2>&1 >/dev/full", tmp_path, str(lines))
    assert code == 1
    assert [line for line in said.splitlines() if "error" in line] == [
        "error: No space left on device (OSError: [Errno 28] No space left on device); make room, "
        "then run the same command again"
    ]
    assert "Traceback" not in said


@pytest.mark.parametrize(("lines", "codes"), [(3, {0}), (100_000, {0, 1})])
def test_a_reader_that_has_seen_enough_is_no_failure_to_be_told(
    lines: int, codes: set[int], tmp_path: Path
) -> None:
    code, said = in_a_shell("| head -1", tmp_path, str(lines))
    assert code in codes
    assert set(said.splitlines()) <= {"0 Иван \\udcff", "Иван \\udcff"}


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_any_file_name_can_be_printed_whatever_the_locale(
    environment: dict[str, str], tmp_path: Path
) -> None:
    code, said = in_a_shell("", tmp_path, "1", **environment)
    assert (code, set(said.splitlines())) == (0, {"0 Иван \\udcff", "Иван \\udcff"})


def test_a_path_that_the_locale_cannot_spell_is_said_with_the_way_out(tmp_path: Path) -> None:
    sections = "source: {cases: Иван, json: j, meshes: m}\nfetch: {}\nlimits: {}\n"
    (tmp_path / "params.yaml").write_text(sections, encoding="utf-8")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "stages" / "fetch_json.py")],
        cwd=tmp_path, env=os.environ | locale | {"PYTHONPATH": str(REPOSITORY)},
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "set PYTHONUTF8=1, then run the same command again" in done.stderr


def test_wrong_usage_ends_with_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert end(lambda: None, "--no-such-option") == 2
    assert end(app, "list") == 2
    assert end(app, "list", str(tmp_path / "none")) == 2
    assert end(app, "no-such-command") == 2


def test_the_version_and_the_help_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(app, "--version") == 0
    assert capsys.readouterr().out.startswith(f"dentalign {__version__}\ntorch ")
    assert end(app, "--help") == 0
    assert "list" in capsys.readouterr().out


def test_the_shell_can_complete_a_subcommand() -> None:
    script = shutil.which("dentalign", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("dentalign is not installed beside this Python")
    asked = {"_DENTALIGN_COMPLETE": "complete_bash", "COMP_WORDS": "dentalign pred", "COMP_CWORD": "1"}
    done = subprocess.run([script], check=True, capture_output=True, text=True, env=os.environ | asked)
    assert done.stdout.split() == ["predict"]


def test_the_package_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dentalign", "--version"], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith(f"dentalign {__version__}\n")


@pytest.mark.parametrize("stage", ["fetch_json", "rigid_transforms"])
def test_a_stage_script_has_help_and_a_wrong_parameter_is_wrong_usage(stage: str, tmp_path: Path) -> None:
    script = [sys.executable, str(REPOSITORY / "stages" / f"{stage}.py")]
    options: dict[str, Any] = {
        "cwd": tmp_path,
        "env": os.environ | {"PYTHONPATH": str(REPOSITORY)},
        "capture_output": True,
        "text": True,
        "check": False,
    }
    assert "--params" in subprocess.run([*script, "--help"], **options).stdout
    (tmp_path / "params.yaml").write_text("source: {cases: 5}\n")
    done = subprocess.run(script, **options)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "params.yaml" in done.stderr


def test_importing_the_command_is_light() -> None:
    heavy = "numpy scipy torch httpx fsspec pydantic h5py"
    code = f"import dentalign.cli, sys; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("given", "then"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_torch_s_threads_soon_sleep_while_they_wait_unless_the_user_says_otherwise(
    given: dict[str, str], then: str | None
) -> None:
    own = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in own} | given
    before = "assert 'torch' not in sys.modules"  # which reads it once, as it is imported
    code = f"import dentalign, os, sys; {before}; print(os.environ.get('GOMP_SPINCOUNT'))"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == f"{then}\n"


def test_list_writes_the_cases_and_names_what_it_skips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "json").mkdir()
    for index in range(30):
        (tmp_path / "json" / f"c{index:02}.json").write_text("{}")
    (tmp_path / "json" / "notes.txt").write_text("")
    out, drawn = tmp_path / "cases.csv", tmp_path / "ae.csv"
    assert (
        end(
            app,
            "list",
            str(tmp_path),
            "--out",
            str(out),
            "--autoencoder",
            "4",
            "--autoencoder-out",
            str(drawn),
        )
        == 0
    )
    assert out.read_text().splitlines() == ["case_id", *(f"c{index:02}" for index in range(30))]
    assert len(drawn.read_text().splitlines()) == 5
    said = capsys.readouterr().err
    assert "notes.txt" in said
    assert "30 cases, 1 skipped" in said


def test_list_of_a_list_with_patients_draws_by_their_split(tmp_path: Path) -> None:
    source, drawn = tmp_path / "own.csv", tmp_path / "ae.csv"
    source.write_text("case_id,patient_id\na,p0\nb,p13\nc,p1\n")  # train, val, test
    words = ["--out", str(tmp_path / "o.csv"), "--autoencoder", "3", "--autoencoder-out", str(drawn)]
    assert end(app, "list", str(source), *words) == 0
    assert drawn.read_text() == "case_id,patient_id\na,p0\n"


def test_list_of_an_empty_store_ends_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "json").mkdir()
    assert end(app, "list", str(tmp_path), "--out", str(tmp_path / "o.csv")) == 3
    assert not (tmp_path / "o.csv").exists()


def test_a_script_runs_the_modules_of_its_own_repository_whatever_is_installed(tmp_path: Path) -> None:
    """DVC runs a queued experiment in such a copy."""
    for folder in ("stages", "dentalign"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    with open(tmp_path / "dentalign" / "errors.py", "a", encoding="utf-8") as file:
        file.write("print('the copy itself')\n")
    script = [sys.executable, str(tmp_path / "stages" / "fetch_json.py"), "--help"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "the copy itself" in done.stdout
    assert "Usage: fetch_json.py" in done.stdout
