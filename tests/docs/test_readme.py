"""README.md: its metrics are those in git, and its tables fit a forge page."""

import json
import re

import pytest

from tests.support.repository import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
METRICS = json.loads((ROOT / "metrics" / "validation.json").read_text(encoding="utf-8"))
WIDE = 100  # characters of a table row, links counted by their text


def rows() -> list[list[str]]:
    """Rows of all tables, as cells."""
    lines = re.findall(r"^\|(?!-)(.*)\|$", README, re.M)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


@pytest.mark.parametrize("method", ["model", "identity", "mean_motion", "true_t2"])
def test_the_metrics_are_the_committed_ones(method: str) -> None:
    (header,) = (row for row in rows() if row[0] == "method")
    (shown,) = (row[1:] for row in rows() if row[0] == f"`{method}`")
    found = [METRICS[method].get(name.strip("`")) for name in header[1:]]
    assert shown == ["-" if value is None else f"{value:.3f}" for value in found]


def test_the_number_of_teeth_is_the_committed_one() -> None:
    (said,) = re.findall(r"(\d+) patients, (\d+) teeth", README)
    assert (int(said[0]), int(said[1])) == (METRICS["counts"]["cases"], METRICS["counts"]["teeth"])


def test_the_tables_fit_a_page() -> None:
    wide = [row for row in rows() if sum(len(re.sub(r"\]\([^)]*\)", "", cell)) + 3 for cell in row) > WIDE]
    assert wide == []
