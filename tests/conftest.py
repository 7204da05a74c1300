"""Fixtures that several test files use."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from pipeline_project import Project, make

REALTEETH = Path(__file__).resolve().parents[2] / "shared" / "realteeth" / "make_cases.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave tests of minutes to `make test-all`; begin with the files that run the pipeline.

    They take longest, and at the end no core shall wait for another's last file.
    """
    pipeline = {item.path for item in items if "finished_project" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in pipeline)
    if not os.environ.get("DENTALIGN_LONG_TESTS"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes minutes: make test-all runs it"))


@pytest.fixture(scope="session")
def realteeth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case store of 12 cases from real crown shapes and 18 with defects: json/, stl/, defects.json."""
    if not REALTEETH.is_file():
        pytest.skip(f"{REALTEETH} is not here")
    out = tmp_path_factory.mktemp("realteeth")
    subprocess.run(
        [sys.executable, str(REALTEETH), "--cases", "12", "--seed", "11", "--defects", "--out", str(out)],
        check=True,
        capture_output=True,
    )
    return out


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small project of its own after one `dvc repro`, committed; not to be changed."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return _made_finished(tmp_path_factory.mktemp("pipeline"))
    folder = tmp_path_factory.getbasetemp().parent / "pipeline"  # of all processes of this run
    with FileLock(f"{folder}.lock"):
        if not (folder / "made").is_file():
            _made_finished(folder)
            (folder / "made").touch()
    return Project(folder / "finished")


def _made_finished(folder: Path) -> Project:
    project = make(folder / "finished")
    project.dvc("repro")
    project.commit()
    return project


@pytest.fixture
def project(finished_project: Project, tmp_path: Path) -> Project:
    """A copy of the finished project, to be changed."""
    return finished_project.copy(tmp_path / "project")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `.dentalign` of this test."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("DENTALIGN_TOKEN", raising=False)
    return tmp_path / ".dentalign"


def _pose(x: Any = 0, y: Any = 0, z: Any = 0, q: tuple[Any, ...] = (0, 0, 0, 1)) -> dict[str, Any]:
    return {"translation": {"x": x, "y": y, "z": z}, "rotation": dict(zip("xyzw", q, strict=True))}


@pytest.fixture
def pose() -> Callable[..., dict[str, Any]]:
    """Builds a pose as the planning system writes it: pose(x, y, z, q=(x, y, z, w))."""
    return _pose


@pytest.fixture
def document() -> Callable[..., dict[str, Any]]:
    """Builds a small good case: document(case_id, teeth=(...), **top-level fields)."""

    def build(
        case_id: str = "c1", teeth: tuple[int, ...] = (11, 12, 21, 36), **fields: Any
    ) -> dict[str, Any]:
        stages = [
            {"Stage": index, "ToothTransforms": {str(fdi): _pose(fdi, index) for fdi in teeth}}
            for index in range(3)
        ]
        return {"CaseID": case_id, "T2Stage": "2", "Staging": stages, **fields}

    return build


@dataclass
class Reply:
    """What the test server answers once."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    announce: int | None = None  # Content-Length, if it is to lie; -1: none, the end is the end
    delay_s: float = 0.0  # between the bytes of the body
    header_delay_s: float = 0.0  # if set, all that comes is a header, a byte at a time


@dataclass
class Server:
    """A server on loopback: scripted replies first (the last one stays), then files with ETags."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    script: dict[str, list[Reply]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, path, headers
    answered: list[int] = field(default_factory=list)

    def put(self, name: str, content: Any) -> None:
        """Serve a file: bytes as they are, anything else as JSON."""
        self.files[f"/{name}"] = content if isinstance(content, bytes) else json.dumps(content).encode()

    def reply(self, path: str, headers: dict[str, str]) -> Reply:
        if script := self.script.get(path):
            return script.pop(0) if len(script) > 1 or path in self.files else script[0]
        if path not in self.files:
            return Reply(404)
        etag = f'"{hash(self.files[path])}"'
        if headers.get("if-none-match") == etag:
            return Reply(304)
        return Reply(200, self.files[path], {"ETag": etag})


class QuietServer(ThreadingHTTPServer):
    """Does not print that a client has hung up."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet."""


@pytest.fixture
def serve() -> Iterator[Callable[[], Server]]:
    """Starts HTTP servers on loopback, as many as asked for."""
    running: list[ThreadingHTTPServer] = []

    def start() -> Server:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                headers = {key.lower(): value for key, value in self.headers.items()}
                server.requests.append((self.command, self.path, headers))
                reply = server.reply(self.path, headers)
                server.answered.append(reply.status)
                if reply.header_delay_s:
                    self._trickle_a_header(reply)
                    return
                self.send_response(reply.status)
                for key, value in reply.headers.items():
                    self.send_header(key, value)
                if reply.announce is not None:
                    self.send_header("Connection", "close")
                if reply.status != 304 and reply.announce != -1:
                    length = len(reply.body) if reply.announce is None else reply.announce
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                try:
                    self._send(reply)
                except OSError:
                    self.close_connection = True  # the client has gone

            do_HEAD = do_GET

            def _trickle_a_header(self, reply: Reply) -> None:
                with suppress(OSError):  # the client has gone
                    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000:
                        self.wfile.write(bytes([byte]))
                        self.wfile.flush()
                        stop.wait(reply.header_delay_s)
                self.close_connection = True

            def _send(self, reply: Reply) -> None:
                if self.command == "HEAD":
                    return
                pieces = [bytes([byte]) for byte in reply.body] if reply.delay_s else [reply.body]
                for piece in pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()
                    stop.wait(reply.delay_s)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        stop = threading.Event()
        stops.append(stop)
        http = QuietServer(("127.0.0.1", 0), Handler)
        running.append(http)
        server = Server(f"http://127.0.0.1:{http.server_address[1]}")
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    stops: list[threading.Event] = []
    yield start
    for stop in stops:
        stop.set()
    for http in running:
        http.shutdown()
        http.server_close()
