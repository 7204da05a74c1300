"""Fetching a list of cases: what is written, what is left out, what stays in the cache."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dentalign.cases import case_document, fetch
from dentalign.cases.fetch import FetchResult
from dentalign.cases.settings import Fetch, Limits
from dentalign.errors import DentalignError, NothingUsable
from tests.support.http_server import Reply, Server

Build = Callable[..., dict[str, Any]]
Serve = Callable[[], Server]
REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("state")


def listing(tmp_path: Path, *case_ids: str) -> Path:
    path = tmp_path / "list.csv"
    path.write_text("case_id\n" + "".join(f"{case_id}\n" for case_id in case_ids))
    return path


def run(tmp_path: Path, source: str, **options: Any) -> FetchResult:
    settings: dict[str, Any] = {"concurrency": 3, "timeout_s": 2.0, "retries": 1, "backoff_s": 0.01} | options
    return fetch.fetch_cases(
        tmp_path / "list.csv",
        source,
        out=tmp_path / "json",
        cases_out=tmp_path / "cases.csv",
        left_out=tmp_path / "left_out.json",
        fetch=Fetch(**settings),
        limits=Limits(max_json_mb=0.1),
    )


def reasons(tmp_path: Path) -> dict[str, str]:
    return {
        line["case_id"]: line["code"]
        for line in json.loads((tmp_path / "left_out.json").read_text())["left_out"]
    }


def everything_under(*folders: Path) -> str:
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return "\n".join(f"{file}\n{file.read_text()}" for file in files)


def test_usable_cases_are_written_and_the_others_are_named(tmp_path: Path, document: Build) -> None:
    store = tmp_path / "store"
    store.mkdir()
    for case_id in ("a", "b", "c"):
        (store / f"{case_id}.json").write_text(json.dumps(document(case_id, PatientName="Ivan")))
    (store / "broken.json").write_text('{"CaseID": "bro')
    (store / "huge.json").write_text(json.dumps(document("huge", filler="x" * 200_000)))
    (store / "other.json").write_text(json.dumps(document("a")))
    listing(tmp_path, "c", "b", "a", "broken", "huge", "other", "gone", "../a")
    done = run(tmp_path, str(store))
    assert done == FetchResult(cases=3, unchanged=0, left_out=5)
    assert sorted(path.name for path in (tmp_path / "json").iterdir()) == ["a.json", "b.json", "c.json"]
    rows = list(csv.DictReader((tmp_path / "cases.csv").read_text().splitlines()))
    assert [row["case_id"] for row in rows] == ["a", "b", "c"]
    assert reasons(tmp_path) == {
        "broken": "not_json",
        "huge": "too_large",
        "other": "case_id_differs",
        "gone": "not_found",
        "line 9": "bad_case_id",
    }


def test_a_second_fetch_asks_and_is_not_sent_the_files_again(
    tmp_path: Path, serve: Serve, document: Build
) -> None:
    server = serve()
    for case_id in ("a", "b", "c"):
        server.put(f"{case_id}.json", document(case_id))
    listing(tmp_path, "a", "b", "c")
    run(tmp_path, server.url)
    first = everything_under(tmp_path / "json")
    server.answered.clear()
    assert run(tmp_path, server.url) == FetchResult(cases=3, unchanged=3, left_out=0)
    assert server.answered == [304] * 3
    assert everything_under(tmp_path / "json") == first

    server.put("b.json", document("b", teeth=(11, 13)))
    server.answered.clear()
    assert run(tmp_path, server.url).unchanged == 2
    assert sorted(server.answered) == [200, 304, 304]
    assert '"13"' in (tmp_path / "json" / "b.json").read_text()


def test_the_output_does_not_depend_on_the_cache(
    tmp_path: Path, serve: Serve, document: Build, pose: Build
) -> None:
    server = serve()
    given = document("a")
    given["Staging"][0]["ToothTransforms"] |= {"Ivan": pose(), "12": pose(float("nan"), "x")}
    server.put("a.json", given)
    listing(tmp_path, "a")
    run(tmp_path, server.url)
    fresh = everything_under(tmp_path / "json") + (tmp_path / "left_out.json").read_text()
    assert run(tmp_path, server.url).unchanged == 1
    assert everything_under(tmp_path / "json") + (tmp_path / "left_out.json").read_text() == fresh
    assert "unknown_tooth_key" in fresh


def test_a_damaged_cache_is_fetched_anew(tmp_path: Path, serve: Serve, state: Path, document: Build) -> None:
    server = serve()
    server.put("a.json", document("a"))
    listing(tmp_path, "a")
    run(tmp_path, server.url)
    (cached,) = (state / "fetch").rglob("a.json")
    cached.write_text(cached.read_text()[:40])
    assert run(tmp_path, server.url) == FetchResult(cases=1, unchanged=0, left_out=0)


def test_what_other_rules_let_through_is_fetched_anew(
    tmp_path: Path, serve: Serve, state: Path, document: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    server.put("a.json", document("a"))
    listing(tmp_path, "a")
    run(tmp_path, server.url)
    other = tmp_path / "case_document.py"
    other.write_text("# keeps other fields")
    monkeypatch.setattr(case_document, "__file__", str(other))
    assert run(tmp_path, server.url) == FetchResult(cases=1, unchanged=0, left_out=0)


def test_what_the_source_no_longer_has_is_not_kept_in_the_cache(
    tmp_path: Path, serve: Serve, state: Path, document: Build
) -> None:
    server = serve()
    for case_id in ("a", "b"):
        server.put(f"{case_id}.json", document(case_id))
    listing(tmp_path, "a", "b")
    run(tmp_path, server.url)
    del server.files["/a.json"]
    run(tmp_path, server.url, max_failed_share=0.5)
    assert [path.name for path in (state / "fetch").rglob("*.json")] == ["b.json"]


def test_too_many_that_cannot_be_had_stop_the_run_with_numbers_and_reasons(
    tmp_path: Path, serve: Serve, document: Build, state: Path
) -> None:
    server = serve()
    for index in range(8):
        server.put(f"c{index}.json", document(f"c{index}"))
    listing(tmp_path, *(f"c{index}" for index in range(11)))
    with pytest.raises(
        DentalignError, match=r"3 of 11 .*max_failed_share = 0\.2; first: not_found.*c8\.json"
    ):
        run(tmp_path, server.url, concurrency=1)
    assert not (tmp_path / "json").exists()
    assert len(list((state / "fetch").rglob("c*.json"))) == 8
    assert run(tmp_path, server.url, max_failed_share=0.3).unchanged == 8


def test_malformed_documents_do_not_count_as_unreachable(
    tmp_path: Path, serve: Serve, document: Build
) -> None:
    server = serve()
    server.put("a.json", document("a"))
    for case_id in ("b", "c", "d"):
        server.put(f"{case_id}.json", b"<!DOCTYPE html><html>Please log in</html>")
    listing(tmp_path, "a", "b", "c", "d")
    assert run(tmp_path, server.url, max_failed_share=0.0).left_out == 3
    assert set(reasons(tmp_path).values()) == {"not_json"}
    assert "DENTALIGN_TOKEN" in (tmp_path / "left_out.json").read_text()


def test_no_usable_case_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    listing(tmp_path, "a")
    with pytest.raises(NothingUsable, match="a: Staging"):
        run(tmp_path, str(tmp_path))


def test_personal_data_are_in_no_output_cache_or_message(
    tmp_path: Path, serve: Serve, state: Path, document: Build, capfd: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    good, bad = document("a", PatientName="Ivan Petrov", mail="ivan@clinic.org"), document("Ivan Petrov")
    good["Staging"][0]["ToothTransforms"]["11"]["rotation"]["w"] = "Ivan Petrov"
    good["Staging"][0]["ToothTransforms"]["Ivan Petrov"] = {"translation": {"x": "1987-05-12"}}
    good["Staging"][0]["Doctor"] = {"born": "1987-05-12"}
    server.put("a.json", good)
    server.put("b.json", bad)
    server.put("c.json", b'{"PatientName": "Ivan Petrov", ivan@clinic.org')
    listing(tmp_path, "a", "b", "c", "Ivan Petrov")
    run(tmp_path, server.url)
    outputs = everything_under(tmp_path / "json", state)
    outputs += (tmp_path / "cases.csv").read_text() + (tmp_path / "left_out.json").read_text()
    outputs += "".join(capfd.readouterr())
    assert "a.json" in outputs
    for text in ("Ivan", "Petrov", "clinic", "1987"):
        assert text not in outputs


def test_after_an_interruption_the_same_command_goes_on(
    tmp_path: Path, serve: Serve, state: Path, document: Build
) -> None:
    server = serve()
    for case_id in ("a", "b", "c"):
        server.put(f"{case_id}.json", document(case_id))
    server.script["/c.json"] = [
        Reply(503, headers={"Retry-After": "60"}),
        Reply(503, headers={"Retry-After": "60"}),
    ]
    listing(tmp_path, "a", "b", "c")
    (tmp_path / "params.yaml").write_text(
        f"source: {{cases: list.csv, json: '{server.url}', meshes: stl}}\n"
        "fetch: {concurrency: 3, timeout_s: 20.0, max_failed_share: 0.9}\nlimits: {}\n"
    )
    command = [sys.executable, str(REPOSITORY / "stages" / "fetch_json.py")]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while len(list((state / "fetch").rglob("[ab].json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=10)
    assert process.returncode == 130
    assert message == "interrupted: the same command goes on from here\n"
    assert not (tmp_path / "data" / "json").exists()

    server.script.clear()
    server.answered.clear()
    again = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (again.returncode, again.stderr) == (
        0,
        "fetch_json: 3 cases (2 unchanged), 0 left out -> data/json\n",
    )
    assert sorted(server.answered) == [200, 304, 304]


def test_the_stage_says_nothing_usable_by_its_exit_code(tmp_path: Path) -> None:
    listing(tmp_path, "a")
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "params.yaml").write_text(
        "source: {cases: list.csv, json: ., meshes: .}\nfetch: {}\nlimits: {}\n"
    )
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "stages" / "fetch_json.py")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.startswith("error: list.csv: no case is usable")
    assert done.stderr.count("\n") == 1
