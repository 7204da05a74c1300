"""The server as a client sees it: answers, refusals, and nothing kept of a request."""

import io
import json
import re
import socket
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`: make test installs it")

import uvicorn

from dentalign.planning.staging import Predict
from dentalign.prediction import batch
from dentalign.prediction.files import OutputOptions
from dentalign.prediction.predictor import Predictor
from dentalign.serving.app import make_app
from dentalign.serving.limits import Refused, ServerLimits
from dentalign.serving.worker import UPLOAD, Job, Worker
from tests.support import report_browser
from tests.support.small_models import write_models, write_mouth

ZIP = {"Content-Type": "application/zip"}


@dataclass
class Served:
    """A server, its worker, its folder of temporary files, and a mouth to send."""

    url: str
    worker: Worker
    temporary: Path
    place: Path

    def post(self, content: bytes, headers: dict[str, str] = ZIP, **query: Any) -> httpx.Response:
        url = f"{self.url}/predict"
        return httpx.post(url, content=content, headers=headers, params=query, timeout=120, trust_env=False)

    def zipped(self, *folders: str) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            for folder in folders:
                for file in sorted((self.place / folder).iterdir()):
                    packed.write(file, f"{Path(folder).name}/{file.name}")
        return out.getvalue()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    place = tmp_path_factory.mktemp("served")
    write_models(place / "models")
    write_mouth(place)
    temporary, before = place / "temporary", tempfile.tempdir
    temporary.mkdir()
    tempfile.tempdir = str(temporary)
    worker = Worker("small", {"models": place / "models", "device": "cpu"}, Predict())
    try:
        with running(worker, ServerLimits(upload_mb=20)) as url:
            yield Served(url, worker, temporary, place)
    finally:
        worker.close()
        tempfile.tempdir = before


class running:
    """Run an application in a thread; gives its address."""

    def __init__(self, worker: Worker, limits: ServerLimits):
        app = make_app({worker.name: worker}, limits)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.server = uvicorn.Server(uvicorn.Config(app, http="h11", ws="none", log_level="error"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})

    def __enter__(self) -> str:
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def __exit__(self, *error: object) -> None:
        self.server.should_exit = True
        self.thread.join()


def test_a_case_gets_the_plan_that_predict_writes(served: Served, tmp_path: Path) -> None:
    answer = served.post(served.zipped("json", "stl/m1"))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    batch.predict_cases(
        served.place / "json" / "m1.json", served.place / "stl", tmp_path,
        Predictor(served.place / "models", device="cpu"), OutputOptions(looks=False),
    )  # fmt: skip
    assert found["plan"] == json.loads((tmp_path / "json" / "m1.json").read_bytes())
    assert (found["case_id"], found["models"], len(found["teeth"])) == ("m1", "small", 28)
    assert all(len(tooth["pose_t2"]) == 4 for tooth in found["teeth"] if tooth["fate"] == "predicted")


def test_crowns_alone_get_a_report_and_every_file_and_nothing_of_them_is_kept(served: Served) -> None:
    crowns = served.zipped("scan/m1")
    page = served.post(crowns, answer="report", extract=[14, 24], case_id="other")
    assert page.status_code == 200, page.text
    assert page.text.startswith("<!DOCTYPE html>") and "Extracted: 14, 24" in page.text
    answer = served.post(crowns, answer="zip", moved="stl")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        names = set(packed.namelist())
    wanted = {"answer.json", "teeth.tsv", "json/m1.json", "crowns/m1/11.stl", "moved/m1/stage-001/11.stl"}
    assert names >= wanted
    assert list(served.temporary.iterdir()) == []


def test_what_cannot_be_predicted_is_said_without_a_path_of_the_server(served: Served) -> None:
    answers = [
        served.post(b"no zip"),
        served.post(served.zipped("json", "stl/m1"), extract=[18]),
        served.post(served.zipped("scan/m1"), numbering="universal"),
        served.post(b"", answer="picture"),
        served.post(b"", case_id="../x"),
    ]
    assert [answer.status_code for answer in answers] == [422] * 5
    assert "it has 11, 12" in answers[1].text
    assert not any(str(served.temporary) in answer.text for answer in answers)
    assert served.post(b"", {"Content-Type": "text/plain"}).status_code == 415
    assert served.post(b"", ZIP | {"Host": "evil.example.org"}).status_code == 400


def test_ten_gigabytes_are_refused_by_their_promise_and_by_their_bytes(served: Served) -> None:
    start = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/zip\r\n"
    assert " 413 " in told(served, f"{start}Content-Length: {10**10}\r\n\r\n".encode())
    chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    assert " 413 " in told(served, f"{start}Transfer-Encoding: chunked\r\n\r\n".encode(), *[chunk] * 21)


def told(served: Served, *parts: bytes) -> str:
    """Send parts of a request as they are; returns the first line of the answer."""
    port = int(served.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for part in parts:
            connection.sendall(part)
        return connection.makefile("rb").readline().decode()


def test_an_upload_that_never_ends_is_given_up(served: Served) -> None:
    start = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/zip\r\n"
    with running(served.worker, ServerLimits(upload_s=0.2)) as url:
        slow = Served(url, served.worker, served.temporary, served.place)
        assert " 408 " in told(slow, start, b"Content-Length: 9\r\n\r\nPK")
    assert list(served.temporary.iterdir()) == []


def test_a_prediction_that_takes_too_long_costs_only_itself(served: Served, tmp_path: Path) -> None:
    (tmp_path / UPLOAD).write_bytes(served.zipped("json", "stl/m1"))
    with pytest.raises(Refused, match="took longer than 0 s"):
        served.worker.predict(Job(tmp_path, ServerLimits(work_s=0)))
    again = tmp_path / "again"
    again.mkdir()
    (tmp_path / UPLOAD).rename(again / UPLOAD)
    assert json.loads(served.worker.predict(Job(again, ServerLimits())).read_bytes())["case_id"] == "m1"


def test_the_page_of_the_interface_loads_nothing_from_elsewhere(served: Served) -> None:
    with httpx.Client(base_url=served.url, follow_redirects=True, trust_env=False) as client:
        page = client.get("/").text
        files = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(files) == 3
        assert all(file.startswith("/docs/") and client.get(file).status_code == 200 for file in files)
        schema = client.get("/openapi.json").json()
        assert client.get("/models").json() == ["small"]
    operation = schema["paths"]["/predict"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/zip"}
    assert set(operation["responses"]["200"]["content"]) == {
        "application/json",
        "text/html",
        "application/zip",
    }


def test_the_page_of_the_interface_shows_the_request(served: Served) -> None:
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-all does it")
    if report_browser.program() is None:
        pytest.skip("no Chromium here: make test-all installs it")
    with report_browser.browser() as browser:
        page = browser.new_page()
        page.goto(f"{served.url}/docs")
        page.get_by_text("Predict a case").click()
        page.get_by_text("FDI numbers to extract.").wait_for()


def test_the_openapi_schema_is_valid(served: Served) -> None:
    validator = pytest.importorskip("openapi_spec_validator", reason="make test-all installs it")
    validator.validate(httpx.get(f"{served.url}/openapi.json", trust_env=False).json())
