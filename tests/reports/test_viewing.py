"""`dentalign view`: opens the file, and exports a copy that says its git revision."""

import os
import subprocess
import webbrowser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dentalign import cli
from dentalign.errors import DentalignError
from dentalign.reports import page, viewing
from dentalign.reports.scene import Scene
from tests.support.report_scenes import tooth


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A report and what lies beside it, as DVC leaves it: read-only, some of it links to its cache."""
    out = tmp_path / "project" / "out"
    page.write_case(out / "index.html", Scene("c1", (("t1", "T1"),), (tooth(),)))
    (out / "pictures").mkdir()
    (tmp_path / "cached").write_bytes(b"png")
    (out / "pictures" / "a.png").symlink_to(tmp_path / "cached")
    (out / ".hidden.html").write_text("hidden")
    (out / "index.html").chmod(0o444)
    return out


@pytest.fixture
def commit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
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
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder.parent, capture_output=True, text=True, check=True
    ).stdout[:12]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that were given to the browser."""
    addresses: list[str] = []

    def opens(address: str) -> bool:
        addresses.append(address)
        return True

    monkeypatch.setattr(webbrowser, "open", opens)
    return addresses


def view(*words: str | Path) -> str:
    """Standard output of `dentalign view`."""
    done = CliRunner().invoke(cli.app, ["view", *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_report_s_file_is_opened_and_printed(folder: Path, opened: list[str]) -> None:
    assert view(folder / "index.html") == f"{folder / 'index.html'}\n"
    assert opened == [(folder / "index.html").as_uri()]


def test_without_a_browser_the_path_is_only_printed(folder: Path, opened: list[str]) -> None:
    assert view(folder, "--no-browser") == f"{folder / 'index.html'}\n"
    assert opened == []


def test_a_folder_opens_at_its_index_or_its_only_page_or_as_a_list(tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "x y.html").write_text("x")
    assert viewing.page_of(tmp_path) == tmp_path / "case" / "x y.html"
    (tmp_path / "z.html").write_text("z")
    assert viewing.page_of(tmp_path) == tmp_path
    (tmp_path / "index.html").write_text("index")
    assert viewing.page_of(tmp_path) == tmp_path / "index.html"


def test_no_report_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DentalignError, match=r"none\.html: no report there; `dvc repro` makes"):
        viewing.page_of(tmp_path / "none.html")
    with pytest.raises(DentalignError, match="holds no HTML file"):
        viewing.page_of(tmp_path)
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(DentalignError, match="name an HTML file or a folder"):
        viewing.page_of(tmp_path / "a.csv")


def test_an_export_is_the_whole_report_with_its_revision_and_the_original_stays_as_it_is(
    folder: Path, commit: str, tmp_path: Path, opened: list[str]
) -> None:
    before = (folder / "index.html").read_bytes()
    assert view(folder / "index.html", "--export", tmp_path / "copy") == f"{tmp_path / 'copy/index.html'}\n"
    files = {path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*.*")}
    assert files == {"index.html", "pictures/a.png"}
    assert not (tmp_path / "copy" / "pictures" / "a.png").is_symlink()
    copy = (tmp_path / "copy" / "index.html").read_bytes()
    note = f'<p class="revision">Exported at git revision {commit}</p>'.encode()
    assert copy == before.replace(page.REVISION_PLACE.encode(), note)
    assert (folder / "index.html").read_bytes() == before
    assert commit.encode() not in before
    assert opened == []


def test_an_export_says_that_the_tree_was_modified(folder: Path, commit: str, tmp_path: Path) -> None:
    (folder.parent / "params.yaml").write_text("a: 2\n")
    copy = viewing.export(folder, tmp_path / "copy").read_text("utf-8")
    assert f"Exported at git revision {commit} (modified)</p>" in copy


def test_the_report_of_one_patient_is_exported_without_the_others(folder: Path, tmp_path: Path) -> None:
    (folder / "1623.html").write_text("a patient")
    assert viewing.export(folder / "1623.html", tmp_path / "copy") == tmp_path / "copy" / "1623.html"
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["1623.html"]


def test_an_export_replaces_nothing_and_is_not_made_inside_the_report(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "mine.txt").write_text("mine")
    for out in (tmp_path / "copy", folder / "copy"):
        with pytest.raises(DentalignError, match="exists, or is inside the report: name a new folder"):
            viewing.export(folder, out)
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["mine.txt"]


def test_a_copy_that_fails_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pictures" / "lost.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match=r"lost\.png"):
        viewing.export(folder, tmp_path / "copy")
    assert not [path for path in tmp_path.iterdir() if "copy" in path.name]


def test_without_git_or_a_commit_there_is_no_revision(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert viewing.git_revision(folder) == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert viewing.git_revision(folder) == ""
    copy = viewing.export(folder, tmp_path / "copy")
    assert copy.read_bytes() == (folder / "index.html").read_bytes()


def test_a_missing_report_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["view", "--no-browser"])
    assert isinstance(done.exception, DentalignError)
    assert "reports/validation/index.html: no report there" in str(done.exception)
