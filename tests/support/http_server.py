"""HTTP server on loopback with replies that a test scripts."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """One reply of the server."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    announce: int | None = None  # false Content-Length; -1: no such header
    delay_s: float = 0.0  # between the bytes of the body
    header_delay_s: float = 0.0  # if set, only an endless header comes, a byte at a time


@dataclass
class Server:
    """Server: scripted replies first (the last one repeats), then files with ETags."""

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
    """HTTP server that prints nothing when a client hangs up."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet."""


@contextmanager
def servers() -> Iterator[Callable[[], Server]]:
    """Yield a function that starts a server; all servers end with the block."""
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
