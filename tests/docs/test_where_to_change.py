"""docs/where-to-change.md: every file it names exists, and the stages it names are those that run again."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.support.repository import ROOT

TEXT = (ROOT / "docs" / "where-to-change.md").read_text(encoding="utf-8")


class Row(NamedTuple):
    """A row of a table, with what its section says."""

    wish: str
    code: list[Path]
    tests: list[Path]
    stages: set[str] | None  # None where the page does not say


def _rows() -> list[Row]:
    found = []
    for section in re.split(r"^## ", TEXT, flags=re.M)[1:]:
        folders = re.search(r"Code in `([^`]+)`, tests\s+in `([^`]+)`", section)
        assert folders, section
        code, tests = ROOT / folders[1], ROOT / folders[2]
        said = re.search(r"Re-runs ([^.]*)\.", section)
        common = set(_names(said[1])) if said else (set() if "No stage runs again" in section else None)
        for line in re.findall(r"^\| (?!I want|-).*\|$", section, re.M):
            wish, opened, tested, *own = (cell.strip() for cell in line.strip("|").split(" | "))
            files = [name for name in _names(opened) if "." in name]
            found.append(
                Row(wish, [_path(code, name) for name in files],
                    [_path(tests, name) for name in _names(tested)], set(_names(own[0])) if own else common)
            )  # fmt: skip
    return found


def _path(folder: Path, name: str) -> Path:
    return folder / name if (folder / name).exists() else ROOT / name


def _names(cell: str) -> list[str]:
    return re.findall(r"`([\w./-]+)`", cell)


def _stages_of(file: Path) -> set[str]:
    """Stages that list a file, or a folder that holds it, as a dep."""
    names = {
        parent.relative_to(ROOT).as_posix() for parent in (file, *file.parents) if parent.is_relative_to(ROOT)
    }
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {stage for stage, entry in stages.items() if names & set(entry.get("do", entry)["deps"])}


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row.wish)
def test_the_files_of_a_row_exist_and_its_stages_are_those_of_the_pipeline(row: Row) -> None:
    assert row.code and row.tests
    assert [file for file in (*row.code, *row.tests) if not file.is_file()] == []
    if row.stages is not None:
        assert {file.name: _stages_of(file) for file in row.code if file.name != "params.yaml"} == {
            file.name: row.stages for file in row.code if file.name != "params.yaml"
        }
