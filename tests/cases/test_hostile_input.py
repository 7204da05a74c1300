"""Input made to do harm: nothing hangs, fills the memory, leaves its folder, leaks the token or runs code."""

import gzip
import io
import os
import pickle  # noqa: TID251  to make the file that must not be run
import socket
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from dentalign.alignment import registry
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.autoencoder.encoder import Encoder, EncoderConfig
from dentalign.cases import case_document, case_list
from dentalign.cases.fetch import fetch_cases
from dentalign.cases.settings import Fetch, Limits
from dentalign.cases.sources.base import Unreachable
from dentalign.cases.sources.location import open_source
from dentalign.cases.sources.meshes import MeshStore
from dentalign.errors import CaseDefect, DentalignError, ToothDefect
from dentalign.files import weights
from dentalign.geometry import stl
from dentalign.training import loop
from tests.support.http_server import Reply, Server

pytestmark = pytest.mark.usefixtures("state")
Serve = Callable[[], Server]
QUICK = Fetch(timeout_s=2.0, retries=1, backoff_s=0.01)
IMPATIENT = Fetch(timeout_s=0.1, retries=1, backoff_s=0.01)  # ten times this is the deadline for a file
END_S = 20.0  # of waiting for what would never end
LIMIT = 100_000


@contextmanager
def memory_below(most_bytes: int) -> Iterator[None]:
    """Fail if Python held more than this at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most_bytes
    finally:
        tracemalloc.stop()


# --- case ids

IDS = [
    "..",
    "../x",
    "a/../../x",
    "/etc/passwd",
    "..\\x",
    "C:\\x",
    "a\0b",
    "x" * 300,
    "CON",
    "con.json",
    "NUL.json",
    "COM1",
    "AUX.",
    "NUL ",
    "name.",
    "-\u202e",
    "~root",
    "$HOME",
    "%TEMP%",
]


@pytest.mark.parametrize("case_id", IDS)
def test_a_hostile_case_id_costs_its_own_row_and_writes_nowhere(
    tmp_path: Path, document: Callable[..., Any], case_id: str
) -> None:
    work = tmp_path / "a" / "b" / "work"
    (work / "json").mkdir(parents=True)
    (work / "json" / "good.json").write_bytes(case_document.canonical(case_document.parse(GOOD, "good")))
    quoted = case_id.replace('"', '""')
    (work / "list.csv").write_text(f'case_id,patient_id\ngood,p1\n"{quoted}",p2\n', encoding="utf-8")
    before = {path for path in tmp_path.rglob("*") if work not in path.parents}
    done = fetch_cases(
        work / "list.csv",
        str(work / "json"),
        out=work / "out",
        cases_out=work / "cases.csv",
        left_out=work / "left_out.json",
        fetch=QUICK,
        limits=Limits(),
    )
    assert (done.cases, done.left_out) == (1, 1)
    assert [path.name for path in (work / "out").iterdir()] == ["good.json"]
    new = {path for path in tmp_path.rglob("*") if work not in path.parents} - before
    assert {path.relative_to(tmp_path).parts[0] for path in new} <= {".dentalign"}


@pytest.mark.parametrize(
    "case_id", [case_id for case_id in IDS if "/" not in case_id and "\0" not in case_id]
)
def test_a_hostile_file_name_in_a_store_is_named_and_not_listed(tmp_path: Path, case_id: str) -> None:
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "good.json").touch()
    with suppress(OSError):  # too long for this file system
        (tmp_path / "json" / f"{case_id}.json").touch()
    found, left_out = case_list.find(tmp_path)
    assert [case.case_id for case in found] == ["good"]
    assert len(left_out) == len(list((tmp_path / "json").iterdir())) - 1


# --- case documents

GOOD = b'{"CaseID": "good", "T2Stage": 0, "Staging": [{"ToothTransforms": {"11": {}}}]}'


def test_a_huge_json_is_refused_by_its_size_before_it_is_read(tmp_path: Path) -> None:
    with open(tmp_path / "a.json", "wb") as file:
        file.truncate(2_000_000_000)  # sparse
    with memory_below(1_000_000), pytest.raises(CaseDefect, match="too_large"):
        open_source(str(tmp_path)).read("a.json", 64_000_000)


@pytest.mark.parametrize("item", [b"{},", b"[],", b"[[[[]]]],", b'"",'])
def test_a_json_of_millions_of_values_is_refused_before_it_is_unpacked(item: bytes) -> None:
    data = b'{"Staging": [' + item * 2_100_000 + b"{}]}"
    with memory_below(len(data)), pytest.raises(CaseDefect, match="too_many_values"):
        case_document.parse(data, "a")


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"Staging":[', b'{"ToothTransforms":{"11":'])
def test_a_json_nested_a_hundred_thousand_deep_is_refused(opening: bytes) -> None:
    with pytest.raises(CaseDefect, match="nested_too_deep"):
        case_document.parse(opening * 100_000, "a")


# --- meshes


def test_an_stl_that_promises_four_billion_triangles_takes_no_memory() -> None:
    data = bytes(80) + (2**32 - 1).to_bytes(4, "little") + bytes(50 * 10)
    with memory_below(1_000_000), pytest.raises(ToothDefect, match="promises 4294967295 triangles"):
        stl.read_triangles(data, file="a/11.stl", tooth=11)


def test_a_mesh_file_of_200_gb_is_refused_by_its_size(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with open(tmp_path / "a" / "11.stl", "wb") as file:
        file.write(bytes(80) + (2**32 - 1).to_bytes(4, "little"))
        file.truncate(84 + 50 * (2**32 - 1))  # what the header promises; sparse
    with MeshStore(str(tmp_path), Limits()) as meshes, pytest.raises(ToothDefect, match="over 64 MB"):
        meshes.refresh("a", 11)


def test_a_log_in_page_is_no_mesh() -> None:
    page = b"<!DOCTYPE html><html><title>Log in</title>" + b" " * 500
    with pytest.raises(ToothDefect, match="not_a_mesh: not an STL: a web page"):
        stl.read_triangles(page, file="a/11.stl", tooth=11)


@pytest.mark.parametrize(
    ("target", "codes"),
    [
        ("/etc/passwd", {"link_out_of_folder"}),
        ("/dev/zero", {"link_out_of_folder"}),
        ("../../secret.stl", {"link_out_of_folder"}),
        ("12.stl", {"unreadable", "missing"}),  # which points back
        ("11.stl", {"unreadable", "not_found"}),
        ("../a", {"no_file"}),
        ("pipe", {"no_file"}),  # reading it would wait for ever
    ],
)
def test_a_link_in_the_mesh_store_is_followed_to_plain_files_inside_only(
    tmp_path: Path, target: str, codes: set[str]
) -> None:
    (tmp_path / "secret.stl").write_bytes(b"secret")
    folder = tmp_path / "stl" / "a"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "pipe")
    (folder / "12.stl").symlink_to("11.stl")
    (folder / "11.stl").symlink_to(target)
    with MeshStore(str(tmp_path / "stl"), Limits()) as meshes:
        for use in (meshes.refresh, meshes.mesh_path):
            with pytest.raises(ToothDefect) as caught:
                use("a", 11)
            assert caught.value.code.removeprefix("mesh_") in codes


def test_a_case_folder_that_is_a_link_out_of_the_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "11.stl").write_bytes(b"secret")
    (tmp_path / "stl").mkdir()
    (tmp_path / "stl" / "a").symlink_to(tmp_path / "elsewhere")
    with (
        MeshStore(str(tmp_path / "stl"), Limits()) as meshes,
        pytest.raises(ToothDefect, match="link_out_of_folder"),
    ):
        meshes.refresh("a", 11)


# --- servers


def packed(data: bytes, times: int = 1) -> bytes:
    for _ in range(times):
        data = gzip.compress(data, 9)
    return data


def test_gzip_from_a_server_is_unpacked_and_a_damaged_or_halved_one_is_not_taken(serve: Serve) -> None:
    server = serve()
    whole = packed(b"x" * 10_000)
    for name, body in (("a", whole), ("half", whole[:-4]), ("damaged", whole[:12] + b"\xff" + whole[13:])):
        server.script[f"/{name}"] = [Reply(200, body, {"Content-Encoding": "gzip"})]
    with open_source(server.url, QUICK) as source:
        assert source.read("a", LIMIT) == b"x" * 10_000
        for name in ("half", "damaged"):
            with pytest.raises(Unreachable, match="unreachable"):
                source.read(name, LIMIT)


@pytest.mark.parametrize(
    ("encoding", "times", "code"),
    [
        ("gzip", 1, "too_large"),
        ("gzip, gzip", 2, "http_encoding"),
        ("gzip, gzip, gzip", 3, "http_encoding"),
        ("br", 1, "http_encoding"),
        ("zstd", 1, "http_encoding"),
    ],
)
def test_a_compressed_bomb_is_stopped_at_the_limit(
    serve: Serve, encoding: str, times: int, code: str
) -> None:
    server = serve()
    bomb = packed(bytes(20_000_000), times)
    server.script["/a.json"] = [Reply(200, bomb, {"Content-Encoding": encoding})]
    with (
        memory_below(20 * LIMIT),
        open_source(server.url, QUICK) as source,
        pytest.raises(CaseDefect, match=code),
    ):
        source.read("a.json", LIMIT)


class Speaker:
    """A server that says to everyone what it is told to, piece by piece, for ever if need be."""

    def __init__(self, pieces: Callable[[], Iterator[bytes]], pause_s: float):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._end = threading.Event()
        self._pieces, self._pause_s = pieces, pause_s
        self.heard = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._speak, args=[client], daemon=True).start()

    def _speak(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            self.heard += client.recv(65536)
            for piece in self._pieces():
                client.sendall(piece)
                if self._end.wait(self._pause_s):
                    return

    def close(self) -> None:
        self._end.set()
        self._socket.close()


def for_ever(start: bytes, piece: bytes) -> Callable[[], Iterator[bytes]]:
    def speak() -> Iterator[bytes]:
        yield start
        while True:
            yield piece

    return speak


OK = b"HTTP/1.1 200 OK\r\n"
ENDLESS = {
    "silence": (for_ever(b"", b""), 0.05),
    "headers, a byte at a time": (for_ever(OK, b"x"), 0.05),
    "a header without end": (for_ever(OK + b"X: ", b"x" * 1000), 0.0),
    "headers by the thousand": (for_ever(OK, b"X: y\r\n" * 100), 0.0),
    "early hints": (for_ever(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), 0.01),
    "continue": (for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), 0.0),
    "a body without end": (for_ever(OK + b"\r\n", b"x" * 10_000), 0.0),
    "a body, a byte at a time": (for_ever(OK + b"\r\n", b"x"), 0.05),
    "a chunk's heading without end": (for_ever(OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x"), 0.05),
    "empty chunks' trailers": (for_ever(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X"), 0.05),
}


@pytest.mark.parametrize("answer", ENDLESS)
def test_an_answer_without_end_is_given_up(answer: str) -> None:
    speaker = Speaker(*ENDLESS[answer])
    codes: list[str] = []

    def read() -> None:
        with open_source(speaker.url, IMPATIENT) as source:
            try:
                source.read("a.json", LIMIT)
            except CaseDefect as defect:
                codes.append(defect.code)

    thread = threading.Thread(target=read, daemon=True)  # it would keep the tests from ending
    try:
        with memory_below(20 * LIMIT):
            thread.start()
            thread.join(END_S)
        assert not thread.is_alive()
        assert set(codes) <= {"unreachable", "too_slow", "too_large"}
        assert len(codes) == 1
    finally:
        speaker.close()


def test_one_answer_without_end_does_not_disturb_the_others(serve: Serve) -> None:
    server = serve()
    server.put("b.json", b"{}")
    server.script["/hang"] = [Reply(header_delay_s=0.02)]
    codes: list[str] = []
    # A busy machine may not get to answering b.json within a tenth of a second.
    with open_source(server.url, IMPATIENT.model_copy(update={"timeout_s": 0.4})) as source:

        def hang() -> None:
            with pytest.raises(CaseDefect) as caught:
                source.read("hang", LIMIT)
            codes.append(caught.value.code)

        thread = threading.Thread(target=hang)
        thread.start()
        while thread.is_alive():
            assert source.read("b.json", LIMIT) == b"{}"
            time.sleep(0.02)
    assert codes in (["too_slow"], ["unreachable"])  # the latter where the server was too busy to go on


def test_the_token_is_in_no_error_and_goes_to_no_other_server(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DENTALIGN_TOKEN", "s3cret-t0ken")
    server, other = serve(), serve()
    for number, location in enumerate((f"{other.url}/x", "file:///etc/passwd", "//[", "http://")):
        server.script[f"/{number}"] = [Reply(302, headers={"Location": location})]
    server.script["/4"] = [Reply(401, b"s3cret-t0ken")]
    server.script["/5"] = [Reply(500, b"s3cret-t0ken")]
    with open_source(server.url, QUICK) as source:
        for number in range(6):
            with pytest.raises(CaseDefect) as caught:
                source.read(str(number), LIMIT)
            assert "s3cret" not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
        assert "s3cret" not in repr(vars(source)["_own"].client)
    assert not other.requests


# --- weights


class Runs:
    """Unpickling it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def plain_pickle(harm: Runs) -> bytes:
    return pickle.dumps({"config": {}, "state_dict": harm})


def torch_archive(harm: Runs) -> bytes:
    buffer = io.BytesIO()
    torch.save({"config": {}, "state_dict": harm, "progress": harm}, buffer)
    return buffer.getvalue()


def torch_script_archive(harm: Runs) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps(harm))
        archive.writestr("archive/data.pkl", pickle.dumps(harm))
        archive.writestr("archive/version", "3")
    return buffer.getvalue()


LOADERS: dict[str, Callable[[Path], Any]] = {
    "encoder": lambda path: weights.load(path, Encoder, EncoderConfig),
    "decoder": lambda path: weights.load(path, Decoder, DecoderConfig),
    "alignment": registry.load,
}


@pytest.mark.parametrize("make", [plain_pickle, torch_archive, torch_script_archive])
@pytest.mark.parametrize("loader", LOADERS)
def test_a_pickle_dressed_as_weights_is_refused_and_not_run(
    tmp_path: Path, make: Callable[[Runs], bytes], loader: str
) -> None:
    harm = tmp_path / "harm"
    (tmp_path / "w.pt").write_bytes(make(Runs(harm)))
    with pytest.raises(DentalignError, match=r"w\.pt: not a readable weights file") as caught:
        LOADERS[loader](tmp_path / "w.pt")
    assert "\n" not in str(caught.value)
    assert not harm.exists()


def test_a_pickle_dressed_as_a_checkpoint_is_ignored_and_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harm = tmp_path / "harm"
    (tmp_path / "c.pt").write_bytes(torch_archive(Runs(harm)))
    assert loop._read_checkpoint(tmp_path / "c.pt") is None
    assert "damaged checkpoint ignored" in capsys.readouterr().err
    assert not harm.exists()
