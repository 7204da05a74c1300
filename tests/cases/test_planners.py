"""Codes in place of planners' names: stable, in sorted order, with the names in one table beside the list."""

import errno
import os
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dentalign.cases import case_list, planners
from dentalign.cases.case_list import ListedCase
from dentalign.cli import app
from dentalign.errors import DentalignError, ParamError


@pytest.fixture(autouse=True)
def _own_state(state: Path) -> None:
    """Locks go below the test's folder."""


def cases(*names: str) -> list[ListedCase]:
    return [ListedCase(f"c{number}", "p", name) for number, name in enumerate(names)]


def codes(table: Path, *names: str) -> list[str]:
    return [case.planner for case in planners.with_codes(cases(*names), table)]


def test_names_get_codes_in_sorted_order_and_the_table_is_its_owner_s_alone(tmp_path: Path) -> None:
    table = planners.table_beside(tmp_path / "cases.csv")
    assert codes(table, "Zoë, Dr.", "", "Aoi", "Zoë, Dr.") == ["planner-02", "", "planner-01", "planner-02"]
    assert table.name == "cases.planners.csv"
    assert table.read_text(encoding="utf-8") == 'code,planner\nplanner-01,Aoi\nplanner-02,"Zoë, Dr."\n'
    assert stat.S_IMODE(table.stat().st_mode) == 0o600


def test_a_code_once_given_stays_whoever_comes_or_goes(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    codes(table, "Mo", "Zoë")
    table.chmod(0o640)
    assert codes(table, "Aoi", "Zoë", "Bo") == ["planner-03", "planner-02", "planner-04"]
    before = table.read_bytes()
    assert codes(table, "Mo") == ["planner-01"]
    assert table.read_bytes() == before
    assert stat.S_IMODE(table.stat().st_mode) == 0o640  # a clinic may let a group read it


def test_spellings_of_a_name_are_one_planner_and_so_are_two_names_with_one_code(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    assert len(set(codes(table, "Dr Zoë", "DR  ZOË", "dr Zoe\u0308"))) == 1
    table.write_text("code;planner\nplanner-07;Aoi\nplanner-07;A. Tanaka\n", encoding="utf-8")  # by a user
    assert codes(table, "A. Tanaka", "aoi", "Bo") == ["planner-07", "planner-07", "planner-08"]


def test_a_planner_that_is_a_code_already_stays_and_needs_no_table(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    assert codes(table, "planner-03", "", "planner-120") == ["planner-03", "", "planner-120"]
    assert codes(table, "") == [""]
    assert list(tmp_path.glob("*.csv")) == []
    assert codes(table, "planner-03", "Aoi") == ["planner-03", "planner-04"]
    assert codes(tmp_path / "u.csv", "planner-3") == ["planner-01"]  # a name like any other


def test_without_writing_the_codes_are_those_that_would_be_written(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    dry = planners.with_codes(cases("Zoë", "Aoi"), table, write=False)
    assert not table.exists()
    assert [case.planner for case in dry] == codes(table, "Zoë", "Aoi")


@pytest.mark.parametrize(
    "text",
    [
        "planner\nQuillfeather\n",
        "code,planner\nQuillfeather,planner-01\n",
        "code,planner\nplanner-01,Quillfeather\nplanner-02,QUILLFEATHER\n",
        "code,planner\nplanner-01,\n",
    ],
)
def test_a_damaged_table_is_refused_without_a_name_and_stays_as_it_is(tmp_path: Path, text: str) -> None:
    table = tmp_path / "t.csv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(DentalignError, match=r"t\.csv: ") as caught:
        codes(table, "Aoi")
    assert "quill" not in str(caught.value).lower()
    assert table.read_text(encoding="utf-8") == text


def test_a_read_only_folder_is_named_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DentalignError, match=r"t\.csv: .*Read-only.*; make its folder writable, or copy"):
        codes(tmp_path / "t.csv", "Aoi")
    assert list(tmp_path.glob("*.csv")) == []


def test_when_codes_run_out_it_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DentalignError, match="no code is left for 1 new planners"):
        codes(tmp_path / "t.csv", "planner-9999", "Aoi")


def test_a_planner_is_found_by_code_or_by_name_and_no_error_names_another(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    codes(table, "Zoë", "Aoi")
    assert planners.code_of(" planner-09 ") == "planner-09"
    assert planners.code_of("ZOË", table) == "planner-02"
    with pytest.raises(ParamError, match="its codes are planner-01, planner-02") as caught:
        planners.code_of("Quillfeather", table)
    assert not any(name in str(caught.value) for name in ("Zoë", "Aoi", "Quillfeather"))
    with pytest.raises(ParamError, match="is no code such as planner-01, and no table of names is given"):
        planners.code_of("Zoë")
    with pytest.raises(ParamError, match=r"there is no table of names .*u\.csv"):
        planners.code_of("Zoë", tmp_path / "u.csv")


def test_a_list_may_name_planners_and_a_bad_one_leaves_its_row_out_unquoted(tmp_path: Path) -> None:
    file = tmp_path / "cases.csv"
    rows = ["a,p,  Dr\u00a0 Zoë ", "b,p,N/A", "c,p,nan", "d,p,", f"e,p,{'x' * 121}", "f,p,Quill\x07feather"]
    rows += ["g,p,", "G,p,Aoi", "h,p,Aoi", "h,p,Bo"]
    file.write_text("\n".join(["case_id,patient_id,planner", *rows]), encoding="utf-8")
    listed, left_out = case_list.read(file)
    named = {case.case_id: case.planner for case in listed}
    assert named == {"a": "Dr Zoë", "b": "", "c": "", "d": "", "g": "Aoi", "h": ""}
    assert "Zoë" not in repr(listed)
    bad = [line for line in left_out if line.code == "bad_planner"]
    assert [line.case_id for line in bad] == ["line 6", "line 7"]
    assert not any("xxx" in line.seen or "feather" in line.seen for line in bad)


def test_list_leaves_the_planners_out_and_does_not_take_them_from_the_user_s_own_list(tmp_path: Path) -> None:
    listed, out = tmp_path / "cases.csv", tmp_path / "all.csv"
    listed.write_text("case_id,planner\na,Quillfeather\n", encoding="utf-8")
    assert CliRunner().invoke(app, ["list", str(listed), "--out", str(out)]).exit_code == 0
    assert out.read_text() == "case_id\na\n"
    assert CliRunner().invoke(app, ["list", str(listed), "--out", str(listed)]).exit_code == 2
    assert "Quillfeather" in listed.read_text()
