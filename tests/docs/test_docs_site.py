"""The docs site: complete, built without a warning, usable offline; its tables match the code."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from dentalign.validation.metrics import MEANINGS
from tests.support.repository import ROOT
from tools import module_layers
from tools.site_pages import FRONT, lay_out, with_site_links

ZENSICAL = Path(sys.executable).parent / "zensical"
NEEDS_ZENSICAL = pytest.mark.skipif(not ZENSICAL.exists(), reason="no zensical here: make docs installs it")


class NameTags(yaml.SafeLoader):
    """YAML loader that reads the tags of mkdocs.yml as text."""


def _configuration() -> dict[str, Any]:
    configuration: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), Loader=NameTags)
    return configuration


def _listed(nav: Any) -> Iterator[str]:
    """Yield the pages in the navigation."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for value in nav.values():
            yield from _listed(value)
    else:
        for value in nav:
            yield from _listed(value)


def test_every_page_is_in_the_navigation_once() -> None:
    docs = ROOT / "docs"
    pages = [page.relative_to(docs).as_posix() for page in docs.rglob("*.md")]
    assert sorted(_listed(_configuration()["nav"])) == sorted([*pages, *FRONT.values()])


def test_links_hold_on_a_forge_and_in_the_site() -> None:
    def linked(text: str, own: str, place: str) -> str:
        return with_site_links(text, own, place, ROOT)

    assert linked("[m](docs/metrics.md#x)", "README.md", "index.md") == "[m](metrics.md#x)"
    assert linked("[s](SECURITY.md)", "README.md", "index.md") == "[s](security.md)"
    assert linked(
        "[r](../../README.md#your-own-cases)", "docs/extending/metric.md", "extending/metric.md"
    ) == ("[r](../index.md#your-own-cases)")
    assert linked("![p](pictures/prediction.png)", "docs/a.md", "a.md") == "![p](pictures/prediction.png)"
    assert linked("[w](https://example.org/a.md)", "README.md", "index.md") == "[w](https://example.org/a.md)"
    for target in ("docs/nowhere.md", "dvc.yaml", "docs", "../outside.md"):
        with pytest.raises(ValueError, match=r"README\.md links to"):
            linked(f"[x]({target})", "README.md", "index.md")


def test_the_site_has_the_readme_in_front_and_every_page_once(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "old.md").touch()
    lay_out(ROOT, tmp_path / "pages")
    laid_out = {
        page.relative_to(tmp_path / "pages").as_posix() for page in (tmp_path / "pages").rglob("*.md")
    }
    assert laid_out == set(_listed(_configuration()["nav"]))
    front = (tmp_path / "pages" / "index.md").read_text(encoding="utf-8")
    assert front.startswith("# dentalign")
    assert "](docs/" not in front


def test_a_docstring_s_lines_of_names_become_a_list() -> None:
    pytest.importorskip("griffe", reason="no griffe here: make docs installs it")
    from tests.support.docstring_lists import as_markdown

    given = "A mouth of <FDI>.stl.\n\npoints : (32, P, 3)\n    mm\na, b   : `<x>`\n\nMore: text."
    wanted = "A mouth of &lt;FDI>.stl.\n\n- **points**: (32, P, 3)\n    mm\n- **a, b**: `<x>`\n\nMore: text."
    assert as_markdown(given) == wanted


class Assets(HTMLParser):
    """URLs that a page makes the browser load; a mermaid drawing counts, because it would load a library."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.shown: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in {"script", "img", "iframe", "source", "video"} and "src" in given:
            self.loaded.append(given["src"])
        if tag == "link" and given.get("rel") not in {"canonical", "next", "prev"}:
            self.loaded.append(given.get("href", ""))
        if "mermaid" in given.get("class", "").split():
            self.loaded.append("https://the.mermaid.library")


@NEEDS_ZENSICAL
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    site = _copy(tmp_path)
    done = _build(site)
    assert done.returncode == 0, done.stdout
    assert "No issues found" in done.stdout
    html = site / "build" / "site" / "html"
    for page in _listed(_configuration()["nav"]):
        file = html / Path(page).with_suffix(".html")
        text = file.read_text(encoding="utf-8")
        assert "<p>:::" not in text, f"{page}: a reference was not filled in"
        assets = Assets()
        assets.feed(text)
        assert [asset for asset in assets.loaded if re.match(r"(\w+:)?//", asset)] == []
        missing = [a for a in assets.loaded if not (file.parent / a.partition("?")[0]).exists()]
        assert missing == []
    reference = (html / "reference" / "prediction.html").read_text(encoding="utf-8")
    assert 'id="dentalign.prediction.predictor.Predictor.predict"' in reference
    assert "<strong>prescription</strong>: wishes for the plan" in reference


@NEEDS_ZENSICAL
@pytest.mark.parametrize(
    "broken", ["[x](#nowhere-on-this-page)", "::: dentalign.geometry.nothing_of_this_name"]
)
def test_a_broken_anchor_or_reference_fails_the_build(tmp_path: Path, broken: str) -> None:
    site = _copy(tmp_path)
    with open(site / "build" / "site" / "pages" / "metrics.md", "a", encoding="utf-8") as page:
        page.write(f"\n{broken}\n")
    assert _build(site).returncode != 0


def _copy(root: Path) -> Path:
    """Copy the sources of the site to `root` and lay out its pages."""
    shutil.copy(ROOT / "mkdocs.yml", root)
    lists = Path("tests/support/docstring_lists.py")
    (root / lists).parent.mkdir(parents=True)
    shutil.copy(ROOT / lists, root / lists)
    shutil.copytree(ROOT / "dentalign", root / "dentalign", ignore=shutil.ignore_patterns("__pycache__"))
    lay_out(ROOT, root / "build" / "site" / "pages")
    return root


def _build(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ZENSICAL, "build", "--strict", "--clean"], cwd=root, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_the_picture_of_the_parts_is_that_of_the_imports() -> None:
    assert module_layers.PICTURE.read_text(encoding="utf-8") == module_layers.drawing()


def test_parts_that_use_each_other_are_named() -> None:
    with pytest.raises(ValueError, match="a circle: b -> a -> b"):
        module_layers.built_on({"a": {"b"}, "b": {"a"}})


def test_a_part_stands_above_all_it_uses_and_lines_go_to_the_nearest() -> None:
    graph: dict[str, set[str]] = {"top": {"middle", "base"}, "middle": {"base"}, "base": set()}
    assert module_layers.layers(graph) == [["base"], ["middle"], ["top"]]
    assert module_layers.built_on(graph) == {"top": {"middle"}, "middle": {"base"}, "base": set()}


def _table(page: str, heading: str) -> list[list[str]]:
    """Rows of the table whose header begins with `heading`, as cells."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_every_room_is_described() -> None:
    assert {row[0].strip("`") for row in _table("architecture.md", "room")} == set(module_layers.parts())


def test_the_flow_of_data_names_every_stage_and_output_of_the_pipeline() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (sketch,) = re.findall(r"^```\n(.*?)^```", page, re.M | re.S)
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"].items():
        assert name in sketch
        outs = [next(iter(out)) if isinstance(out, dict) else out for out in stage.get("do", stage)["outs"]]
        for out in outs:
            known = out.startswith(("data/left_out", "reports/train"))
            assert known or out.replace("${item}", "<shard>").removesuffix(".html") in sketch, out


def test_every_metric_that_is_reported_is_defined_for_people() -> None:
    defined = {row[0].strip("`") for row in _table("metrics.md", "name")}
    assert {"solved_..." if name.startswith("solved_") else name for name in MEANINGS} <= defined
