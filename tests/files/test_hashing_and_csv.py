"""One digest and one CSV table for all rooms: what is written is read back, what is no table is named."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from dentalign.errors import DentalignError
from dentalign.files import csv_table, hashing


def test_digests_are_sha256_whatever_the_input_is_held_in(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes("Zähne".encode())
    expected = hashlib.sha256("Zähne".encode()).hexdigest()
    assert hashing.sha256("Zähne") == hashing.sha256("Zähne".encode()) == expected
    assert hashing.sha256_file(tmp_path / "file") == expected


def test_json_values_have_one_digest_in_any_order_of_keys() -> None:
    assert hashing.sha256_json({"a": 1, "b": [2.5, None]}) == hashing.sha256_json({"b": [2.5, None], "a": 1})
    assert hashing.sha256_json([1, 2]) != hashing.sha256_json([2, 1])


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rows: list[Sequence[object] | Mapping[str, object]] = [
        ["a, b", 1.5],
        {"size": 2},
        {"name": 'says "no"; really', "size": ""},
    ]
    csv_table.write(tmp_path / "table.csv", ["name", "size"], rows)
    assert (tmp_path / "table.csv").read_bytes().startswith(b'name,size\n"a, b",1.5\n,2\n')
    read = [row for _, row in csv_table.read(tmp_path / "table.csv", ["name"])]
    assert read == [
        {"name": "a, b", "size": "1.5"},
        {"name": "", "size": "2"},
        {"name": 'says "no"; really', "size": ""},
    ]


@pytest.mark.parametrize("row", [["a", 1, 2], ["a"], {"nme": "a"}])
def test_a_row_that_does_not_fit_the_columns_is_refused(tmp_path: Path, row: list[object]) -> None:
    with pytest.raises(ValueError, match=r"zip\(\)|not in fieldnames"):
        csv_table.write(tmp_path / "table.csv", ["name", "size"], [row])
    assert not list(tmp_path.iterdir())


def test_a_spreadsheet_s_table_is_read_with_line_numbers(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes("\ufeffcase_id; age\n\n a ; 7\nb\n".encode())
    assert list(csv_table.read(tmp_path / "table.csv", ["case_id"])) == [
        (3, {"case_id": "a", "age": "7"}),
        (4, {"case_id": "b", "age": ""}),
    ]


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (b"name\na\n", "first line must name the column case_id"),
        (b"", "first line must name the column case_id"),
        (b"case_id\n\xff\n", "not UTF-8"),
        (b'case_id\n"' + b"x" * 200_000 + b'"\n', "line 2: not CSV"),
    ],
)
def test_what_is_no_such_table_is_named(tmp_path: Path, content: bytes, seen: str) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(DentalignError, match=seen):
        list(csv_table.read(tmp_path / "table.csv", ["case_id"]))
