"""`dentalign view`: loopback only, the report's folder only, and the revision as it serves."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dentalign.errors import DentalignError
from dentalign.reports import case_report
from dentalign.reports.page import REVISION_PLACE
from dentalign.reports.report_server import ReportServer, git_revision
from dentalign.reports.scene import Scene
from tests.support.report_scenes import tooth

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A report beside a file that must not be served."""
    case_report.write(tmp_path / "out" / "index.html", Scene("c1", (("t1", "T1"),), (tooth(),)))
    (tmp_path / "out" / "pictures").mkdir()
    (tmp_path / "out" / "pictures" / "a.png").write_bytes(b"png")
    (tmp_path / "out" / "secret.key").write_text("key")
    (tmp_path / "out" / ".hidden.html").write_text("hidden")
    (tmp_path / "outside.html").write_text("outside")
    (tmp_path / "out-side").mkdir()
    (tmp_path / "out-side" / "b.html").write_text("outside")
    return tmp_path / "out"


@contextmanager
def serving(report: Path) -> Iterator[ReportServer]:
    with ReportServer(report) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server: ReportServer, path: str, host: str = "", method: str = "GET") -> tuple[int, bytes]:
    """Status and body; the path goes out as it is, without a client's tidying up."""
    port = int(server.server_address[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{port}")
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_a_report_and_what_lies_beside_it_is_served(folder: Path) -> None:
    with serving(folder) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert server.url.endswith("/index.html")
        written = (folder / "index.html").read_bytes()
        revision = server.page(REVISION_PLACE.encode())
        for path in ("/", "/index.html", "/index.html?x=1"):
            assert ask(server, path) == (200, written.replace(REVISION_PLACE.encode(), revision))
        assert ask(server, "/pictures/a.png") == (200, b"png")
        assert ask(server, "/index.html", method="HEAD") == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/../outside.html",
        "/pictures/../../outside.html",
        "/%2e%2e/outside.html",
        "/..%2foutside.html",
        "/..%5coutside.html",
        "/../out-side/b.html",
        "/pictures",
        "/.hidden.html",
        "/secret.key",
        "/link.html",
        "/linked/outside.html",
        "/none.html",
        "/a%00.html",
        "//etc/hostname.txt",
        "/" + "a" * 5000 + ".html",
    ],
)
def test_nothing_else_is_served(folder: Path, path: str) -> None:
    (folder / "link.html").symlink_to(folder.parent / "outside.html")
    (folder / "linked").symlink_to(folder.parent)
    with serving(folder) as server:
        status, body = ask(server, path)
        assert status == 404
        assert b"outside" not in body
        assert ask(server, "/index.html")[0] == 200


def test_the_absolute_path_of_a_file_outside_is_not_served(folder: Path) -> None:
    with serving(folder) as server:
        outside = (folder.parent / "outside.html").as_posix()
        for path in (outside, f"/{outside}", f"file://{outside}", f"http://127.0.0.1{outside}"):
            assert ask(server, path)[0] == 404


def test_it_listens_on_loopback_only(folder: Path) -> None:
    with ReportServer(folder) as server:
        assert server.socket.getsockname()[0] == "127.0.0.1"


def test_a_page_under_another_name_for_this_machine_is_refused(folder: Path) -> None:
    with serving(folder) as server:
        assert ask(server, "/", host="evil.example")[0] == 421
        assert ask(server, "/", host=f"localhost:{server.server_address[1]}")[0] == 200


def test_only_reading_is_possible(folder: Path) -> None:
    with serving(folder) as server:
        for method in ("POST", "PUT", "DELETE"):
            assert ask(server, "/index.html", method=method)[0] == 501


def test_a_folder_of_reports_gets_a_list_of_them(tmp_path: Path) -> None:
    scene = Scene("c1", (("t1", "T1"),), (tooth(),))
    for name in ("a & b", "<c>"):
        case_report.write(tmp_path / name / "report.html", scene)
    with serving(tmp_path) as server:
        status, body = ask(server, "/")
        assert status == 200
        assert b'<a href="/a%20%26%20b/report.html">a &amp; b/report.html</a>' in body
        assert b'<a href="/%3Cc%3E/report.html">&lt;c&gt;/report.html</a>' in body
        assert ask(server, "/%3Cc%3E/report.html")[0] == 200


def test_a_single_report_in_a_folder_opens_at_once(tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "x y.html").write_text("x")
    with ReportServer(tmp_path) as server:
        assert server.url.endswith("/case/x%20y.html")


def test_no_report_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DentalignError, match=r"none\.html: no report there; `dvc repro` makes"):
        ReportServer(tmp_path / "none.html")
    with pytest.raises(DentalignError, match="holds no HTML file"):
        ReportServer(tmp_path)
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(DentalignError, match="must be an HTML file or a folder"):
        ReportServer(tmp_path / "a.csv")


def test_a_port_that_is_taken_is_named(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DentalignError, match=f"port {port} cannot be used"):
            ReportServer(folder, port)


@pytest.fixture
def repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The report's folder in a git repository with one commit; reports are ignored, as ours are."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    (folder.parent / ".gitignore").write_text("/out/\n")
    (folder.parent / "params.yaml").write_text("a: 1\n")
    for words in (
        ["init", "-q"], ["add", ".gitignore", "params.yaml"],
        ["-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "x"],
    ):  # fmt: skip
        subprocess.run(["git", *words], cwd=folder.parent, check=True)
    return folder.parent


def test_the_revision_is_added_as_the_report_is_served_and_never_to_the_file(
    repository: Path, folder: Path
) -> None:
    before = (folder / "index.html").read_bytes()
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout[:12]
    with serving(folder) as server:
        assert f"Viewed at git revision {commit}</p>".encode() in ask(server, "/")[1]
    (repository / "params.yaml").write_text("a: 2\n")
    with serving(folder) as server:
        assert f"Viewed at git revision {commit} (modified)</p>".encode() in ask(server, "/")[1]
    assert (folder / "index.html").read_bytes() == before
    assert commit.encode() not in before


def test_without_git_or_a_commit_there_is_no_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_revision(tmp_path) == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision(tmp_path) == ""


def test_ctrl_c_ends_the_command_with_0(folder: Path) -> None:
    words = [sys.executable, "-m", "dentalign.cli", "view", str(folder / "index.html"), "--no-browser"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        words, env=environment, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == "view: ended\n"


def test_a_missing_report_ends_the_command_with_1_and_one_line(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "dentalign.cli", "view", "--no-browser"]
    done = subprocess.run(
        words,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "reports/validation/index.html: no report there" in done.stderr
