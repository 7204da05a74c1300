"""The page of what was left out: complete, escaped, the same bytes."""

import csv
import tempfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from dentalign.cases import left_out
from dentalign.cases.left_out import LeftOut, Totals
from dentalign.reports import left_out_page
from tests.support.report_left_out import HOSTILE, LINES, TOTALS


def rendered(lines: list[LeftOut] = LINES, totals: Totals = TOTALS) -> str:
    with tempfile.TemporaryDirectory() as folder:
        left_out_page.write(Path(folder) / "page.html", lines, totals)
        return (Path(folder) / "page.html").read_text(encoding="utf-8")


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
    page = Page(rendered())
    rows = page.rows["left-out"][1:]
    assert [row[:2] for row in rows] == [
        [HOSTILE, "whole case"],
        ["a", "whole case"],
        ["b", "16"],
        ["c", "11"],
        ["c", "38"],
    ]
    assert rows[1][4:6] == [HOSTILE, HOSTILE]
    assert page.tags == Page(rendered([replace(line, seen="x", fix="x") for line in LINES])).tags


def test_reasons_are_counted_by_cases_and_teeth_the_most_frequent_first() -> None:
    reasons = left_out_page.by_reason(LINES)
    assert [(r.code, r.cases, r.teeth, r.noted) for r in reasons] == [
        ("missing_mesh", 0, 2, 0),
        ("not_json", 1, 0, 0),
        ("too_many_dropped", 1, 0, 0),
        ("t2_only", 0, 0, 1),
    ]
    assert [row[0] for row in Page(rendered()).rows["reasons"][1:]] == [reason.code for reason in reasons]


def test_the_totals_are_on_the_page_and_a_sum_that_is_wrong_is_not_hidden() -> None:
    text = rendered()
    assert "5 cases in the list = 3 used + 2 excluded" in text
    assert "84 teeth at T1 of the cases used = 82 used + 2 dropped" in text
    assert "add up: a fault" not in text
    wrong = Totals(6, 3, 2, 84, 82, 2)
    assert not wrong.add_up and "does not add up" in str(wrong)
    assert "add up: a fault" in rendered(totals=wrong)


def test_where_nothing_was_left_out_the_page_says_so() -> None:
    text = rendered([], Totals(3, 3, 0, 84, 84, 0))
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
    cells = Page(rendered()).rows["left-out"][1:]
    assert [(row["case_id"], row["code"], row["seen"]) for row in rows] == [(c[0], c[3], c[4]) for c in cells]
