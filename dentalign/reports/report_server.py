"""A report served to a browser on this machine: loopback only, and nothing but the report's folder."""

import functools
import html
import mimetypes
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from dentalign.errors import DentalignError
from dentalign.reports.page import REVISION_PLACE, plain

HOST = "127.0.0.1"
SERVED = (".html", ".png", ".svg", ".csv", ".json", ".glb", ".stl", ".txt", ".md")

_MOST_LINKS = 1_000


class ReportServer(ThreadingHTTPServer):
    """Serves one report; `url` is where it opens. Close it with `server_close`, or use it in a `with`.

    report : an HTML file, or a folder with HTML files; a folder without `index.html` gets a list of them
    port   : 0 takes a free one
    raises : DentalignError where there is no report, or the port is taken
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, report: str | Path, port: int = 0):
        self.root, self.start = _root_and_start(Path(report))
        self.revision = git_revision(self.root)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise DentalignError(
                f"port {port} cannot be used ({error}); leave --port away for a free one"
            ) from None
        self.url = f"http://{HOST}:{self.server_address[1]}/{quote(self.start)}"

    def file_of(self, path: str) -> Path | None:
        """The file a URL's path names; None unless it lies in the folder and is of a kind that is served."""
        parts = [part for part in unquote(path, errors="surrogateescape").split("/") if part not in ("", ".")]
        if any(part.startswith(".") or "\\" in part or "\0" in part for part in parts):
            return None
        try:
            file = self.root.joinpath(*parts).resolve()  # a link that leads out of the folder is not followed
            inside = file.is_relative_to(self.root) and file.is_file()
        except (OSError, ValueError):
            return None
        return file if inside and file.suffix.lower() in SERVED else None

    def page(self, content: bytes) -> bytes:
        """An HTML page with the git revision in its place; the file itself must not hold it."""
        said = (
            f'<p class="revision">Viewed at git revision {html.escape(self.revision)}</p>'
            if self.revision
            else ""
        )
        return content.replace(REVISION_PLACE.encode(), said.encode(), 1)

    def listing(self) -> bytes:
        """A page with a link to each report below the folder."""
        found = _reports(self.root)
        links = "".join(
            f'<li><a href="/{quote(name, errors="surrogateescape")}">{html.escape(plain(name))}</a></li>'
            for name in found[:_MOST_LINKS]
        )
        more = f"<p>and {len(found) - _MOST_LINKS} more</p>" if len(found) > _MOST_LINKS else ""
        head = '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Reports</title><h1>Reports</h1>'
        return f"{head}{REVISION_PLACE}<ul>{links}</ul>{more}</html>".encode()


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer
    server_version = "dentalign"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        """A file of the report, the list of reports, or 404."""
        port = self.server.server_address[1]
        if self.headers.get("Host") not in {f"{host}:{port}" for host in (HOST, "localhost")}:
            # A page from elsewhere whose name was made to point at this machine (DNS rebinding).
            self.send_error(421, "Ask for this server by its own address")
            return
        path = urlsplit(self.path).path
        file = self.server.file_of("index.html" if path == "/" else path)
        try:
            content = None if file is None else file.read_bytes()
        except OSError:
            content = None
        if content is None and path == "/" and not self.server.start:
            content, kind = self.server.listing(), "text/html"
        elif content is None or file is None:
            self.send_error(404)
            return
        else:
            # Browsers show plain text; Markdown under its own name some would rather save.
            guessed = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            kind = "text/plain" if file.suffix.lower() == ".md" else guessed
        self._answer(self.server.page(content) if kind == "text/html" else content, kind)

    do_HEAD = do_GET

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Quiet: the terminal shows the address, not every request."""


def git_revision(folder: str | Path) -> str:
    """The commit checked out around a folder, 12 digits, and "(modified)" where tracked files differ from it.

    Empty where there is no git, no repository or no commit.
    """
    git = functools.partial(
        subprocess.run,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=20,
    )
    try:
        commit = git(["git", "rev-parse", "--short=12", "HEAD"])
        changed = git(["git", "--no-optional-locks", "status", "--porcelain", "--untracked-files=no"])
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if commit.returncode:
        return ""
    return commit.stdout.strip() + (" (modified)" if changed.stdout.strip() else "")


def _root_and_start(report: Path) -> tuple[Path, str]:
    """The folder that is served and the page that opens, "" for the list of pages."""
    path = report.resolve()
    if path.is_file() and path.suffix.lower() == ".html":
        return path.parent, path.name
    if not path.is_dir():
        mend = (
            "it must be an HTML file or a folder"
            if path.exists()
            else "`dvc repro` makes the validation report"
        )
        raise DentalignError(f"{report}: no report there; {mend}")
    if (path / "index.html").is_file():
        return path, "index.html"
    found = _reports(path)
    if not found:
        raise DentalignError(f"{report}: holds no HTML file; `dvc repro` makes the validation report")
    return path, found[0] if len(found) == 1 else ""


def _reports(folder: Path) -> list[str]:
    names = (file.relative_to(folder).as_posix() for file in folder.rglob("*.html") if file.is_file())
    return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))
