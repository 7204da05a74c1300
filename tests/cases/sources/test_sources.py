"""Sources of case files: a folder, a web server on loopback, an fsspec store."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from dentalign.cases.settings import Fetch
from dentalign.cases.sources.base import CaseSource, Unreachable
from dentalign.cases.sources.location import open_source
from dentalign.errors import CaseDefect, DentalignError, ParamError
from tests.support.http_server import Reply, Server

pytestmark = pytest.mark.usefixtures("state")
Serve = Callable[[], Server]
QUICK = Fetch(timeout_s=2.0, retries=3, backoff_s=0.01)
LIMIT = 10_000


def code_of(source: CaseSource, name: str = "a.json", limit: int = LIMIT) -> str:
    with pytest.raises(CaseDefect) as caught:
        source.read(name, limit)
    return caught.value.code


# --- a folder


def test_a_folder_gives_bytes_and_notices_a_change(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"one")
    source = open_source(str(tmp_path))
    first = source.read_if_changed("a.json", LIMIT, None)
    assert first is not None
    assert first.data == b"one"
    assert source.read_if_changed("a.json", LIMIT, first.validator) is None
    (tmp_path / "a.json").write_bytes(b"two!")
    second = source.read_if_changed("a.json", LIMIT, first.validator)
    assert second is not None
    assert second.data == b"two!"


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"one")
    assert open_source(f"file://{tmp_path}").read("a.json", LIMIT) == b"one"


def test_a_file_url_names_a_folder_with_letters_that_urls_escape(tmp_path: Path) -> None:
    (tmp_path / "Müller's cases (1)").mkdir()
    (tmp_path / "Müller's cases (1)" / "a.json").write_bytes(b"one")
    for path in ("M%C3%BCller%27s%20cases%20(1)", "Müller's cases (1)"):
        assert open_source(f"file://{tmp_path}/{path}").read("a.json", LIMIT) == b"one"
    assert open_source(f"file://localhost{tmp_path}/M%C3%BCller's%20cases%20(1)").is_local


DVC_OBJECT = "files/md5/0a/0123456789abcdef0123456789abcd"
ANNEX_OBJECT = ".git/annex/objects/1x/Qz/MD5E-s3--900150983cd24fb0d6963f7d28e17f72.stl"


def repository(folder: Path, stored: str) -> Path:
    """Make a repository with a folder stl/ in it, whose 11.stl is a link to an object of its store."""
    for name in ("stl", ".dvc", ".git"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    kept = folder / stored
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(b"abc")
    (folder / "stl" / "11.stl").symlink_to(kept)
    return folder / "stl"


@pytest.mark.parametrize(
    ("config", "stored"),
    [
        ("", f".dvc/cache/{DVC_OBJECT}"),
        ("", ".dvc/cache/0a/0123456789abcdef0123456789abcd"),  # as DVC 2 had it
        ("[cache]\n    dir = ../../shared\n", f"../shared/{DVC_OBJECT}"),
        ("[cache]\n    dir = {parent}/elsewhere\n", f"../elsewhere/{DVC_OBJECT}"),
        ("", f"{ANNEX_OBJECT}/MD5E-s3--900150983cd24fb0d6963f7d28e17f72.stl"),
    ],
)
def test_a_link_that_the_user_s_own_dvc_or_git_annex_made_is_followed(
    tmp_path: Path, config: str, stored: str
) -> None:
    stl = repository(tmp_path / "clinic", stored)
    (tmp_path / "clinic" / ".dvc" / "config.local").write_text(config.format(parent=tmp_path))
    with open_source(str(stl)) as source:
        assert source.read("11.stl", LIMIT) == b"abc"


@pytest.mark.parametrize(
    "stored",
    [
        ".dvc/config",
        ".dvc/cache/files/md5/notes.txt",
        ".git/config",
        f"{ANNEX_OBJECT}/secret.stl",
        f"../other/.dvc/cache/{DVC_OBJECT}",
        f"../other/{ANNEX_OBJECT}/MD5E-s3--900150983cd24fb0d6963f7d28e17f72.stl",
    ],
)
def test_a_link_to_anything_else_in_or_beside_the_repository_is_refused(tmp_path: Path, stored: str) -> None:
    with open_source(str(repository(tmp_path / "clinic", stored))) as source:
        assert code_of(source, "11.stl") == "link_out_of_folder"


@pytest.mark.parametrize("config", [b"cache = 5", b"[cache]\n    dir = a, b\n", b"[[[", b"\xff\xfe\0"])
def test_a_dvc_config_that_cannot_be_read_trusts_the_default_cache_only(
    tmp_path: Path, config: bytes
) -> None:
    stl = repository(tmp_path / "clinic", f".dvc/cache/{DVC_OBJECT}")
    (tmp_path / "clinic" / ".dvc" / "config").write_bytes(config)
    (stl / "12.stl").symlink_to("/etc/hostname")
    with open_source(str(stl)) as source:
        assert source.read("11.stl", LIMIT) == b"abc"
        assert code_of(source, "12.stl") == "link_out_of_folder"


def test_a_store_cannot_name_any_folder_as_its_cache(tmp_path: Path) -> None:
    """Who hands over a case store may put a .dvc, and links in place of objects, into it."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    stl = repository(tmp_path / "clinic", f".dvc/cache/{DVC_OBJECT}")
    (tmp_path / "clinic" / ".dvc" / "config").write_text(f"[cache]\n    dir = {tmp_path}\n")
    (stl / "12.stl").symlink_to(secret)
    (tmp_path / DVC_OBJECT).parent.mkdir(parents=True)
    (tmp_path / DVC_OBJECT).symlink_to(secret)
    (stl / "13.stl").symlink_to(tmp_path / DVC_OBJECT)
    with open_source(str(stl)) as source:
        for name in ("12.stl", "13.stl"):
            assert code_of(source, name) == "link_out_of_folder"


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_not(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_bytes(b"secret")
    folder = tmp_path / "json"
    folder.mkdir()
    (folder / "a.json").symlink_to(tmp_path / "secret.json")
    (folder / "b.json").write_bytes(b"b")
    (folder / "c.json").symlink_to(folder / "b.json")
    (folder / "loop.json").symlink_to(folder / "loop.json")
    source = open_source(str(folder))
    assert code_of(source) == "link_out_of_folder"
    assert source.read("c.json", LIMIT) == b"b"
    assert code_of(source, "loop.json") in ("unreadable", "not_found")


def test_folders_of_files_may_be_links_within_the_folder_and_never_out_of_it(tmp_path: Path) -> None:
    root, outside = tmp_path / "stl", tmp_path / "outside"
    for folder in (root / "a", outside):
        folder.mkdir(parents=True)
        for name in ("11.stl", "12.stl"):
            (folder / name).write_bytes(folder.name.encode())
    (outside / "back.stl").symlink_to(root / "a" / "11.stl")
    (root / "same").symlink_to(root / "a")
    (root / "out").symlink_to(outside)
    (root / "none").symlink_to(tmp_path / "gone")
    with open_source(str(root)) as source:
        for name in ("11.stl", "12.stl"):
            assert source.read(f"same/{name}", 99) == b"a"
            assert source.local_path(f"same/{name}") == root.resolve() / "a" / name
            with pytest.raises(CaseDefect, match="link_out_of_folder"):
                source.read(f"out/{name}", 99)
        assert source.read("out/back.stl", 99) == b"a"  # it leads back
        for name in ("none/11.stl", "a/13.stl", "b/11.stl", "a/11.stl/x"):
            with pytest.raises(Unreachable, match="not_found"):
                source.read(name, 99)
        (root / "a" / "12.stl").unlink()  # after its folder was looked up
        (root / "a" / "12.stl").symlink_to(outside / "12.stl")
        with pytest.raises(CaseDefect, match="link_out_of_folder"):
            source.read("a/12.stl", 99)


@pytest.mark.parametrize(
    "name", ["../secret.json", "/etc/passwd", "a/../../secret.json", "", "a\\..\\b", "a\0"]
)
def test_a_name_that_leaves_the_prefix_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "json").mkdir()
    (tmp_path / "secret.json").write_bytes(b"secret")
    assert code_of(open_source(str(tmp_path / "json")), name) == "unsafe_name"
    assert code_of(open_source("http://127.0.0.1:9/x", QUICK), name) == "unsafe_name"


def test_what_is_missing_too_large_or_no_plain_file_has_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"x" * 11)
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")  # reading one would wait for ever
    source = open_source(str(tmp_path))
    assert code_of(source, limit=10) == "too_large"
    assert code_of(source, "none.json") == "not_found"
    assert code_of(source, "folder.json") == "no_file"
    assert code_of(source, "pipe.json") == "no_file"


def test_a_folder_that_is_not_there_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(DentalignError, match="none"):
        open_source(str(tmp_path / "none"))


# --- a .url file, and what cannot be a prefix


def test_a_url_file_points_at_a_server(tmp_path: Path, serve: Serve) -> None:
    server = serve()
    server.put("json/a.json", b"{}")
    pointer = tmp_path / "json.url"
    pointer.write_text(f"\ufeff{server.url}/json\n")
    with open_source(str(pointer), QUICK) as source:
        assert source.read("a.json", LIMIT) == b"{}"
        assert source.location("a.json") == f"{server.url}/json/a.json"


@pytest.mark.parametrize("text", ["", "two\nlines\n", "/etc", "https://a/b\nhttps://c/d\n"])
def test_a_url_file_must_hold_one_url(tmp_path: Path, text: str) -> None:
    (tmp_path / "json.url").write_text(text)
    with pytest.raises(ParamError, match="one line"):
        open_source(str(tmp_path / "json.url"))


@pytest.mark.parametrize(
    "url", ["https://me:secret@host/x", "https://host/x?sig=secret", "https://host/x#secret"]
)
def test_a_url_with_a_secret_in_it_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ParamError, match="DENTALIGN_TOKEN") as caught:
        open_source(url)
    assert "secret" not in str(caught.value)


def test_an_unknown_kind_of_store_is_a_wrong_parameter() -> None:
    with pytest.raises(ParamError, match="nosuch"):
        open_source("nosuch://bucket/x")


# --- a web server


def test_a_failure_that_passes_is_tried_again(serve: Serve) -> None:
    server = serve()
    server.script["/a.json"] = [Reply(503), Reply(503), Reply(200, b"{}")]
    with open_source(server.url, QUICK) as source:
        assert source.read("a.json", LIMIT) == b"{}"
    assert server.answered == [503, 503, 200]


def test_a_failure_that_stays_is_given_up_after_the_retries(serve: Serve) -> None:
    server = serve()
    server.script["/a.json"] = [Reply(500)]
    with (
        open_source(server.url, QUICK) as source,
        pytest.raises(Unreachable, match="500 from the server, in 4 attempts"),
    ):
        source.read("a.json", LIMIT)
    assert len(server.requests) == 4


def test_the_server_says_how_long_to_wait(serve: Serve) -> None:
    server = serve()
    server.script["/a.json"] = [Reply(429, headers={"Retry-After": "1"}), Reply(200, b"{}")]
    start = time.monotonic()
    with open_source(server.url, QUICK) as source:
        assert source.read("a.json", LIMIT) == b"{}"
    assert time.monotonic() - start >= 1.0


def test_a_wait_beyond_the_deadline_is_not_waited_for(serve: Serve) -> None:
    server = serve()
    server.script["/a.json"] = [Reply(429, headers={"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"})]
    start = time.monotonic()
    with open_source(server.url, QUICK) as source:
        assert code_of(source) == "unreachable"
    assert time.monotonic() - start < 1.0


def test_a_truncated_body_is_tried_again_and_never_taken(serve: Serve) -> None:
    server = serve()
    server.script["/a.json"] = [Reply(200, b'{"a"', announce=100), Reply(200, b'{"a": 1}')]
    server.script["/b.json"] = [Reply(200, b'{"a"', announce=100)]
    with open_source(server.url, QUICK) as source:
        assert source.read("a.json", LIMIT) == b'{"a": 1}'
        assert code_of(source, "b.json") == "unreachable"


def test_a_server_that_is_not_there_is_unreachable() -> None:
    with open_source("http://127.0.0.1:9/json", QUICK) as source, pytest.raises(Unreachable):
        source.read("a.json", LIMIT)


def test_a_server_that_trickles_bytes_meets_the_deadline(serve: Serve) -> None:
    server = serve()
    server.script["/a.json"] = [Reply(200, b"x" * 1000, delay_s=0.05)]
    start = time.monotonic()
    with open_source(server.url, Fetch(timeout_s=0.1, retries=0, backoff_s=0.01)) as source:
        assert code_of(source) == "too_slow"
    assert time.monotonic() - start < 3.0


def test_a_body_over_the_limit_is_not_read_to_its_end(serve: Serve) -> None:
    server = serve()
    server.put("a.json", b"x" * 100_000)
    server.script["/b.json"] = [Reply(200, b"x" * 100_000, announce=-1)]
    with open_source(server.url, QUICK) as source:
        assert code_of(source) == "too_large"
        assert code_of(source, "b.json") == "too_large"
    assert server.answered == [200, 200]


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "not_found"), (410, "not_found"), (401, "refused"), (403, "refused"), (204, "http_status")],
)
def test_an_answer_that_will_not_change_is_not_asked_for_again(serve: Serve, status: int, code: str) -> None:
    server = serve()
    server.script["/a.json"] = [Reply(status)]
    with open_source(server.url, QUICK) as source:
        assert code_of(source) == code
    assert len(server.requests) == 1


def test_an_unchanged_file_is_not_sent_again(serve: Serve) -> None:
    server = serve()
    server.put("a.json", b"one")
    with open_source(server.url, QUICK) as source:
        first = source.read_if_changed("a.json", LIMIT, None)
        assert first is not None
        assert source.read_if_changed("a.json", LIMIT, first.validator) is None
        server.put("a.json", b"two")
        second = source.read_if_changed("a.json", LIMIT, first.validator)
    assert second is not None
    assert second.data == b"two"
    assert server.answered == [200, 304, 200]


def test_last_modified_serves_where_there_is_no_etag(serve: Serve) -> None:
    server = serve()
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    server.script["/a.json"] = [Reply(200, b"{}", {"Last-Modified": date}), Reply(304)]
    with open_source(server.url, QUICK) as source:
        first = source.read_if_changed("a.json", LIMIT, None)
        assert first is not None
        assert source.read_if_changed("a.json", LIMIT, first.validator) is None
    assert server.requests[1][2]["if-modified-since"] == date


def test_the_token_is_sent_and_follows_a_redirect_on_the_same_server(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DENTALIGN_TOKEN", "s3cret")
    server = serve()
    server.put("new/a.json", b"{}")
    server.script["/a.json"] = [Reply(302, headers={"Location": "/new/a.json"})]
    with open_source(server.url, QUICK) as source:
        assert source.read("a.json", LIMIT) == b"{}"
    assert [headers["authorization"] for _, _, headers in server.requests] == ["Bearer s3cret"] * 2


@pytest.mark.parametrize("kind", ["another port", "another name", "file", "protocol-relative"])
def test_a_redirect_elsewhere_is_refused_and_nobody_else_sees_the_token(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("DENTALIGN_TOKEN", "s3cret")
    server, other = serve(), serve()
    other.put("a.json", b"{}")
    targets = {
        "another port": f"{other.url}/a.json",
        "another name": server.url.replace("127.0.0.1", "localhost") + "/b.json",
        "file": "file:///etc/passwd",
        "protocol-relative": f"//{other.url.removeprefix('http://')}/a.json",
    }
    server.script["/a.json"] = [Reply(302, headers={"Location": targets[kind]})]
    with open_source(server.url, QUICK) as source:
        assert code_of(source) == "redirect_elsewhere"
    assert other.requests == []
    assert len(server.requests) == 1


def test_redirects_in_a_circle_end(serve: Serve) -> None:
    server = serve()
    server.script["/a.json"] = [Reply(302, headers={"Location": "/a.json"})]
    with open_source(server.url, QUICK) as source:
        assert code_of(source) == "redirects"
    assert len(server.requests) == 6


# --- fsspec


def test_a_store_of_fsspec_is_read_and_a_change_is_noticed() -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/bucket/json/a.json", b"one")
    with open_source("memory://bucket/json") as source:
        first = source.read_if_changed("a.json", LIMIT, None)
        assert first is not None
        assert first.data == b"one"
        assert source.read_if_changed("a.json", LIMIT, first.validator) is None
        store.pipe("/bucket/json/a.json", b"two")
        second = source.read_if_changed("a.json", LIMIT, first.validator)
        assert second is not None
        assert second.data == b"two"
        assert code_of(source, limit=2) == "too_large"
        assert code_of(source, "none.json") == "not_found"
