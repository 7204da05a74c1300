"""The case list, and the split and shard of a case."""

from collections import Counter
from pathlib import Path

import pytest

from dentalign.cases import case_list
from dentalign.cases.case_list import ListedCase, check_id, shard_of, split_of
from dentalign.errors import CaseDefect, DentalignError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cases.csv"
    path.write_bytes(text.encode("utf-8"))
    return path


def test_the_patient_is_the_case_where_no_other_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeffcase_id,note,patient_id\r\nb,x,p7\r\n\r\na,y,\r\n")
    cases, left_out = case_list.read(path)
    assert cases == [ListedCase("a", "a"), ListedCase("b", "p7")]
    assert left_out == []


def test_a_list_with_semicolons_is_read(tmp_path: Path) -> None:
    assert case_list.read(write(tmp_path, "case_id;patient_id\na;p\n"))[0] == [ListedCase("a", "p")]


@pytest.mark.parametrize(
    "case_id",
    [
        "../x",
        "a/b",
        "a\\b",
        ".hidden",
        "Ivan Petrov",
        "иван",
        "CON",
        "nul",
        "com1.old",
        "LPT9",
        "x" * 121,
        "a.",
        "a:b",
    ],
)
def test_an_id_that_is_no_file_name_everywhere_is_left_out_and_not_quoted(
    tmp_path: Path, case_id: str
) -> None:
    cases, left_out = case_list.read(write(tmp_path, f"case_id\ngood-1\n{case_id}\n"))
    assert [case.case_id for case in cases] == ["good-1"]
    assert [(line.case_id, line.code, line.whole_case) for line in left_out] == [
        ("line 3", "bad_case_id", True)
    ]
    assert case_id not in left_out[0].seen + left_out[0].file


@pytest.mark.parametrize("case_id", ["1623", "rt-000001", "a.b_c-d", "console", "x" * 120])
def test_plain_ids_are_good(case_id: str) -> None:
    check_id(case_id)


def test_of_the_same_id_twice_the_first_stands_and_the_second_is_named(tmp_path: Path) -> None:
    cases, left_out = case_list.read(write(tmp_path, "case_id\nab\ncd\nAB\nab\n"))
    assert [case.case_id for case in cases] == ["ab", "cd"]
    assert [(line.case_id, line.code) for line in left_out] == [
        ("line 4", "duplicate_case_id"),
        ("line 5", "duplicate_case_id"),
    ]


def test_a_case_of_two_patients_is_not_used_at_all(tmp_path: Path) -> None:
    cases, left_out = case_list.read(write(tmp_path, "case_id,patient_id\na,p\na,q\n"))
    assert cases == []
    assert {line.code for line in left_out} == {"two_patients"}


@pytest.mark.parametrize("text", ["", "id\na\n", "a,b\n1,2\n"])
def test_a_table_without_the_column_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(DentalignError, match="case_id"):
        case_list.read(write(tmp_path, text))


def test_a_list_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DentalignError, match=r"none\.csv"):
        case_list.read(tmp_path / "none.csv")


def test_splits_are_80_10_10_and_hang_on_the_patient_alone() -> None:
    counts = Counter(split_of(f"p{i}") for i in range(20_000))
    assert counts["train"] == pytest.approx(16_000, abs=250)
    assert counts["val"] == pytest.approx(2_000, abs=150)
    assert ListedCase("a", "p").split == ListedCase("b", "p").split
    # sha256 of p0, p13, p1 begins with 16.., dc.., f6..: 0.09, 0.86 and 0.96 of the range
    assert [split_of(patient) for patient in ("p0", "p13", "p1")] == ["train", "val", "test"]


def test_shards_are_even_and_independent_of_the_split() -> None:
    shards = [f"shard-{i:03}" for i in range(10)]
    counts = Counter((shard_of(f"c{i}", shards), split_of(f"c{i}")) for i in range(20_000))
    assert all(counts[shard, "val"] == pytest.approx(200, abs=60) for shard in shards)
    assert all(counts[shard, "train"] == pytest.approx(1_600, abs=160) for shard in shards)


def test_the_autoencoder_list_is_of_the_train_split_and_keeps_its_head_when_it_grows() -> None:
    cases = [ListedCase(f"c{i}", f"c{i}") for i in range(200)]
    few, more = case_list.for_autoencoder(cases, 10), case_list.for_autoencoder(reversed(cases), 20)
    assert len(few) == 10
    assert set(few) < set(more)
    assert {case.split for case in more} == {"train"}


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    cases = [ListedCase("a", "p"), ListedCase("b", "b")]
    case_list.write(tmp_path / "l.csv", cases)
    assert case_list.read(tmp_path / "l.csv") == (cases, [])
    case_list.write_splits(tmp_path / "s.csv", {"b": "val", "a": "train"})
    assert (tmp_path / "s.csv").read_text() == "case_id,split\na,train\nb,val\n"
    assert case_list.read_splits(tmp_path / "s.csv") == {"a": "train", "b": "val"}


def test_a_table_of_splits_with_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DentalignError, match="line 2"):
        case_list.read_splits(write(tmp_path, "case_id,split\na,dev\n"))


def test_a_store_is_listed_and_what_is_no_case_is_named(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    for name in ("b.json", "a.json", "A.json", "notes.txt", "Ivan Petrov.json"):
        (tmp_path / "json" / name).write_text("{}")
    cases, left_out = case_list.find(tmp_path)
    assert [case.case_id for case in cases] == ["A", "b"]
    assert sorted(line.code for line in left_out) == ["bad_case_id", "duplicate_case_id", "not_a_case"]
    with pytest.raises(DentalignError, match="json"):
        case_list.find(tmp_path / "json")


def test_check_id_raises_a_case_defect() -> None:
    with pytest.raises(CaseDefect):
        check_id("../etc/passwd")


@pytest.mark.parametrize(
    "heading", ["case_id\tpatient_id", "sep=\t\ncase_id\tpatient_id", "Case_ID\tPatient_ID"]
)
def test_tabs_and_other_cases_of_the_heading_are_read(tmp_path: Path, heading: str) -> None:
    cases, left_out = case_list.read(write(tmp_path, f"{heading}\na\tp1\nb\tp2\n"))
    assert [(case.case_id, case.patient_id) for case in cases] == [("a", "p1"), ("b", "p2")]
    assert not left_out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('case_id,patient_id\na,"p1\nb,p2\nc,p3\n', "cases.csv: line"),
        ('case_id,patient_id\na,"p1\nb,p2"\nc,p3\n', "line 2: a quoted value goes on over 2 lines"),
        ("case_id,patient_id,patient_id\na,p1,p2\n", "the first line names the column patient_id twice"),
    ],
)
def test_a_list_that_would_swallow_rows_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DentalignError, match=said):
        case_list.read(write(tmp_path, text))


def test_a_placeholder_is_no_patient_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases, _ = case_list.read(write(tmp_path, "case_id,patient_id\na,N/A\nb,NULL\nc,\nd,p1\n"))
    assert [case.patient_id for case in cases] == ["a", "b", "c", "p1"]
    assert "placeholder such as N/A in 2 rows (first: line 2)" in capsys.readouterr().err
