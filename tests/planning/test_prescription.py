"""Prescriptions: how wishes are written, and which are refused."""

from pathlib import Path

import pytest

from dentalign.errors import ParamError
from dentalign.planning import prescription
from dentalign.planning.prescription import Prescription, parse_arch_shift, parse_teeth
from tests.support.repository import ROOT


def rx(tmp_path: Path, text: str) -> Prescription:
    file = tmp_path / "rx.yaml"
    file.write_text(text, encoding="utf-8")
    return prescription.read(file)


def test_the_example_of_the_docs_is_read(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "prescription.md").read_text(encoding="utf-8").split("## The solver")[0]
    text = page.split("```yaml\n")[1].split("```")[0].replace("[14, 24]", "[]")
    read = rx(tmp_path, text)
    assert set(prescription.Prescription.model_fields) == {line.split("`")[1] for line in page.splitlines()
                                                           if line.startswith("| `")}  # fmt: skip
    assert (read.planner, read.fixed, read.overcorrection) == ("broad", (36, 46), 0)
    assert read.only == (11, 12, 13, 21, 22, 23, 31, 32, 33, 41, 42, 43)
    assert [read.most_movement_mm(fdi) for fdi in (11, 33, 36)] == [2, 1, float("inf")]
    assert read.most_rotation_deg(36) == 25
    assert [read.allowed_overlap_mm(*pair, usual=0.1) for pair in ((21, 11), (12, 11))] == [0.2, 0]
    assert read.arch_shift_mm == {"upper": (0, 1, None), "lower": (None, -1, None)}
    assert read.arch_width_mm == {"upper": {"3-3": 1.5, "6-6": 0}}


def test_a_range_runs_along_the_arch_and_primary_teeth_stay_primary() -> None:
    assert set(parse_teeth("13-21, 33")) == {13, 12, 11, 21, 33}
    assert parse_teeth("55-53") == (53, 54, 55)


def test_an_only_tooth_is_meant_by_its_number_or_its_successor_s() -> None:
    wish = Prescription(only=(13,), fixed=(46,))
    assert [wish.may_move(fdi) for fdi in (13, 53, 12, 46)] == [True, True, False, False]


def test_shifts_of_the_command_line_are_joined_to_those_of_the_file() -> None:
    wish = Prescription(arch_shift_mm={"upper": (0, 1, 0)}, fixed=(36,))
    both = wish.joined(arch_shift_mm=parse_arch_shift("lower:free,-1,keep"), fixed=(46,))
    assert both.arch_shift_mm == {"upper": (0, 1, 0), "lower": (None, -1, 0)}
    assert both.fixed == (36, 46)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("onlyy: 13", "onlyy: unknown key; the nearest known one is only"),
        ("only: 13-43", "13-43: both ends of a range must be in one arch"),
        ("fixed: 99", "fixed: must be FDI numbers"),
        ("max_movement_mm: {13: -1}", "max_movement_mm: must be a number, 0 or more, got -1"),
        ("ipr_mm: {11-31: 1}", "no contact of two teeth of an arch"),
        ("arch_shift_mm: {upper: [0, 1]}", "three numbers x, y, z"),
        ("arch_width_mm: {upper: wide}", "a number in mm, keep or free, got 'wide'"),
        ("{fixed: 11, extract: 11}", "teeth 11 cannot be in both extract and fixed"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ParamError) as refused:
        rx(tmp_path, text)
    assert said in str(refused.value)
