"""The page of what was left out: complete, escaped, the same bytes, and it filters in a real browser."""

import csv
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dentalign.cases import left_out
from dentalign.cases.left_out import LeftOut, Totals
from dentalign.reports import left_out_page

TOTALS = Totals(5, 3, 2, 84, 82, 2)
HOSTILE = '<script>document.title="hacked"</script>"&\''


def line(case_id: str, tooth: str, code: str, seen: str = "seen", mend: str = "mend") -> LeftOut:
    return LeftOut(case_id, tooth, "fetch_json", code, seen, mend, f"json/{case_id}.json")


LINES = [
    line("b", "16", "missing_mesh"),
    line("a", "", "not_json", HOSTILE, HOSTILE),
    line("c", "11", "missing_mesh"),
    line("c", "38", "t2_only"),
    line(HOSTILE, "", "too_many_dropped"),
]


class Page(HTMLParser):
    """Cells of each table, and the tags used."""

    def __init__(self, text: str):
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self.tags: list[str] = []
        self.texts: list[str] = []
        self._table = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "table":
            self._table = dict(attrs)["id"] or ""
            self.rows[self._table] = []
        if tag == "tr":
            self.rows[self._table].append([])
        if tag in ("td", "th"):
            self.rows[self._table][-1].append("")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._table and self.rows[self._table] and self.rows[self._table][-1]:
            self.rows[self._table][-1][-1] += data.strip()


def test_every_line_is_on_the_page_as_text_and_nothing_of_it_is_markup() -> None:
    page = Page(left_out_page.render(LINES, TOTALS))
    rows = page.rows["lines"][1:]
    assert [row[:2] for row in rows] == [
        [HOSTILE, "whole case"],
        ["a", "whole case"],
        ["b", "16"],
        ["c", "11"],
        ["c", "38"],
    ]
    assert rows[1][4:6] == [HOSTILE, HOSTILE]
    assert page.tags.count("script") == 1


def test_reasons_are_counted_by_cases_and_teeth_the_most_frequent_first() -> None:
    reasons = left_out_page.by_reason(LINES)
    assert [(r.code, r.cases, r.teeth, r.noted) for r in reasons] == [
        ("missing_mesh", 0, 2, 0),
        ("not_json", 1, 0, 0),
        ("too_many_dropped", 1, 0, 0),
        ("t2_only", 0, 0, 1),
    ]
    assert [row[0] for row in Page(left_out_page.render(LINES, TOTALS)).rows["reasons"][1:]] == [
        reason.code for reason in reasons
    ]


def test_the_totals_are_on_the_page_and_a_sum_that_is_wrong_is_not_hidden() -> None:
    text = left_out_page.render(LINES, TOTALS)
    assert "5 cases in the list = 3 used + 2 excluded" in text
    assert "84 teeth at T1 of the cases used = 82 used + 2 dropped" in text
    assert 'class="wrong"' not in text
    wrong = Totals(6, 3, 2, 84, 82, 2)
    assert not wrong.add_up and "does not add up" in str(wrong)
    assert 'class="wrong"' in left_out_page.render(LINES, wrong)


def test_where_nothing_was_left_out_the_page_says_so() -> None:
    text = left_out_page.render([], Totals(3, 3, 0, 84, 84, 0))
    assert "Nothing was left out." in text
    assert "<table" not in text and "<script" not in text


def test_the_page_is_one_file_of_the_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    left_out_page.write(tmp_path / "a.html", LINES, TOTALS)
    left_out_page.write(tmp_path / "b.html", LINES[::-1], TOTALS)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.html").read_text(encoding="utf-8")
    assert "http://" not in text and "https://" not in text and "src=" not in text


def test_the_csv_says_the_same(tmp_path: Path) -> None:
    left_out.write_csv(tmp_path / "a.csv", LINES)
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    cells = Page(left_out_page.render(LINES, TOTALS)).rows["lines"][1:]
    assert [(row["case_id"], row["code"], row["seen"]) for row in rows] == [(c[0], c[3], c[4]) for c in cells]


def test_the_filter_works_in_a_browser(tmp_path: Path) -> None:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    browser = next((found for name in names if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium on the PATH")
    text = left_out_page.render(LINES, TOTALS)
    typed = (
        '<script>document.getElementById("filter").value = "MISSING json/c";'
        'document.getElementById("filter").dispatchEvent(new Event("input"));</script></body>'
    )
    (tmp_path / "page.html").write_text(text.replace("</body>", typed), encoding="utf-8")
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--dump-dom", (tmp_path / "page.html").as_uri()],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "1 of 5 lines" in done.stdout
    assert "<title>dentalign: what was left out</title>" in done.stdout
