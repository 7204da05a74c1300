"""Web server as a source of case files: time-outs, retries, and a token that goes to no other host.

The retries are our own code: with tenacity, and an event that ends a wait, it is eight lines longer;
httpx-retries neither retries a body that was cut short nor ends a wait when the source is closed.
"""

import email.utils
import os
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import httpx

from dentalign.cases.settings import Fetch
from dentalign.cases.sources.base import CaseSource, Content, Unreachable, check_size, safe_name
from dentalign.errors import ParamError

TOKEN_VARIABLE = "DENTALIGN_TOKEN"
MAX_REDIRECTS = 5
# One file with all its retries may take this many time-outs: a server that trickles bytes never times out.
DEADLINE_IN_TIMEOUTS = 10
_LATE_S = 0.5  # after the deadline, which the body keeps by itself: only headers that never end get this far


class _TryAgain(Exception):
    """Failure that may pass; `wait_s` is the wait that the server requested, if it did."""

    def __init__(self, reason: str, wait_s: float | None = None):
        self.reason, self.wait_s = reason, wait_s
        super().__init__(reason)


class HttpSource(CaseSource):
    """Files under an http(s) prefix; DENTALIGN_TOKEN, if it is set, is sent as bearer token."""

    def __init__(self, prefix: str, fetch: Fetch):
        try:
            self._origin = httpx.URL(prefix)
        except httpx.InvalidURL as error:
            raise ParamError(f"the source's URL is not valid: {error}") from None
        if self._origin.userinfo or self._origin.query or self._origin.fragment or not self._origin.host:
            raise ParamError(
                f"{self._origin.host or 'URL'}: a prefix is https://server/folder, "
                f"with no password, '?' or '#'; put a token into the environment variable {TOKEN_VARIABLE}"
            )
        self.prefix = prefix
        self._fetch = fetch
        self._closed = threading.Event()
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        if not token.isascii() or any(character.isspace() for character in token):
            raise ParamError(f"{TOKEN_VARIABLE} contains characters that no token has")
        self._headers = {"Accept-Encoding": "gzip"}  # the one that _decoded can bound
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._ssl = httpx.create_ssl_context()
        # One client a thread: to end a request that never ends, its client is closed under it.
        self._own = threading.local()
        self._clients: set[httpx.Client] = set()
        self._lock = threading.Lock()

    def read_if_changed(self, name: str, limit: int, known: str | None) -> Content | None:
        url = httpx.URL(f"{self.prefix.rstrip('/')}/{quote(safe_name(name))}")
        deadline = time.monotonic() + DEADLINE_IN_TIMEOUTS * self._fetch.timeout_s
        for attempt in range(self._fetch.retries + 1):
            try:
                return self._attempt(url, limit, known, deadline)
            except _TryAgain as failure:
                reason = failure.reason
                wait = self._fetch.backoff_s * 2**attempt if failure.wait_s is None else failure.wait_s
            late = time.monotonic() + wait > deadline
            if attempt == self._fetch.retries or late or self._closed.wait(wait):
                break
        raise Unreachable(
            "unreachable", f"{reason}, in {attempt + 1} attempts", "try again later", file=str(url)
        )

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.close()

    def _client(self) -> httpx.Client:
        client: httpx.Client | None = getattr(self._own, "client", None)
        if client is None or client.is_closed:
            client = httpx.Client(
                headers=self._headers, timeout=self._fetch.timeout_s, verify=self._ssl, follow_redirects=False
            )
            with self._lock:
                self._clients = {known for known in self._clients if not known.is_closed} | {client}
            self._own.client = client
        return client

    def _attempt(self, url: httpx.URL, limit: int, known: str | None, deadline: float) -> Content | None:
        target = url
        for _ in range(MAX_REDIRECTS + 1):
            with self._request(target, known, deadline) as response:
                if not response.has_redirect_location:
                    return self._answer(response, url, limit, known, deadline)
                target = self._redirected(response, target, url)
        raise Unreachable(
            "redirects", f"more than {MAX_REDIRECTS} redirects", "check the server", file=str(url)
        )

    @contextmanager
    def _request(self, url: httpx.URL, known: str | None, deadline: float) -> Iterator[httpx.Response]:
        condition = dict([known.split(": ", 1)]) if known and known.startswith("If-") else {}
        client = self._client()
        # Time-outs are per read, and headers are read out of our sight.
        guard = threading.Timer(max(0.0, deadline - time.monotonic()) + _LATE_S, client.close)
        guard.daemon = True
        guard.start()
        try:
            if self._closed.is_set():
                raise _TryAgain("interrupted")
            with client.stream("GET", url, headers=condition) as response:
                yield response
        except (httpx.TransportError, httpx.DecodingError) as error:
            if client.is_closed and not self._closed.is_set():  # by the guard
                raise _too_slow(str(url)) from error
            raise _TryAgain(f"{type(error).__name__} of the connection") from error
        except RuntimeError as error:  # what a closed client raises
            if not client.is_closed:
                raise
            if not self._closed.is_set():
                raise _too_slow(str(url)) from error
            raise _TryAgain("interrupted") from error
        finally:
            guard.cancel()

    def _redirected(self, response: httpx.Response, at: httpx.URL, asked: httpx.URL) -> httpx.URL:
        try:
            target = at.join(response.headers["location"])
        except httpx.InvalidURL:
            raise Unreachable(
                "redirects", "a redirect to an invalid URL", "check the server", file=str(asked)
            ) from None
        if _place(target) != _place(self._origin):  # the token is for this server, and no file:// is
            fix = "if that server is the right one, name it in params.yaml"
            raise Unreachable("redirect_elsewhere", "a redirect to another server", fix, file=str(asked))
        return target

    def _answer(
        self, response: httpx.Response, url: httpx.URL, limit: int, known: str | None, deadline: float
    ) -> Content | None:
        status, file = response.status_code, str(url)
        if status == 304 and known:
            return None
        if status == 429 or status >= 500:
            raise _TryAgain(f"HTTP status {status} from the server", _retry_after(response))
        if status in (404, 410):
            raise Unreachable(
                "not_found",
                f"HTTP status {status} from the server",
                "add the file, or remove the case from the list",
                file=file,
            )
        if status in (401, 403):
            fix = f"set the environment variable {TOKEN_VARIABLE} to a valid token"
            raise Unreachable("refused", f"HTTP status {status} from the server", fix, file=file)
        if status != 200:
            raise Unreachable(
                "http_status", f"HTTP status {status} from the server", "check the server", file=file
            )
        return Content(self._body(response, limit, deadline, file), _validator(response))

    def _body(self, response: httpx.Response, limit: int, deadline: float, file: str) -> bytes:
        announced = response.headers.get("content-length", "")
        if announced.isdigit():
            check_size(int(announced), limit, file)
        data = bytearray()
        for chunk in _decoded(response, limit + 1, file):
            data += chunk
            check_size(len(data), limit, file)
            if time.monotonic() > deadline:
                raise _too_slow(file)
            if self._closed.is_set():
                raise _TryAgain("interrupted")
        return bytes(data)


def _decoded(response: httpx.Response, most: int, file: str) -> Iterator[bytes]:
    """Yield the body, gzip unpacked, never more than `most` bytes at once.

    httpx unpacks whatever a server names, several times over if it says so, and without a bound: a
    thousandfold each time.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        yield from response.iter_raw()
        return
    if encoding not in ("gzip", "x-gzip"):
        raise Unreachable(
            "http_encoding", "a content encoding that was not requested", "check the server", file=file
        )
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
    for packed in response.iter_raw():
        try:
            yield unpack.decompress(packed, most)
        except zlib.error as error:
            raise _TryAgain("damaged gzip") from error
    if not unpack.eof:
        raise _TryAgain("an incomplete response")


def _too_slow(file: str) -> Unreachable:
    fix = "raise fetch.timeout_s, or check the network"
    seen = f"the file took over {DEADLINE_IN_TIMEOUTS} times fetch.timeout_s"
    return Unreachable("too_slow", seen, fix, file=file)


def _place(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _validator(response: httpx.Response) -> str | None:
    """Return the header of a request for the file if it has changed since, by its ETag, else by its date."""
    for name, condition in (("etag", "If-None-Match"), ("last-modified", "If-Modified-Since")):
        if value := response.headers.get(name):
            return f"{condition}: {value}"
    return None


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that the server asks to wait, given as number or date (RFC 9110, 10.2.3)."""
    value = str(response.headers.get("retry-after", "")).strip()
    if value.isdecimal() and len(value) < 9:
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
