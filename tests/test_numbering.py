"""FDI, Universal and Palmer numbers name the same teeth, one to one, permanent and primary."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dentalign import teeth
from dentalign.numbering import from_palmer, from_universal, to_palmer, to_universal

ALL = (*teeth.SLOTS, *teeth.PRIMARY)
# By hand from the American Dental Association's chart.
KNOWN = {
    18: ("1", "UR8", "8┘"), 11: ("8", "UR1", "1┘"), 21: ("9", "UL1", "└1"), 28: ("16", "UL8", "└8"),
    38: ("17", "LL8", "┌8"), 31: ("24", "LL1", "┌1"), 41: ("25", "LR1", "1┐"), 48: ("32", "LR8", "8┐"),
    55: ("A", "URE", "E┘"), 51: ("E", "URA", "A┘"), 61: ("F", "ULA", "└A"), 65: ("J", "ULE", "└E"),
    75: ("K", "LLE", "┌E"), 71: ("O", "LLA", "┌A"), 81: ("P", "LRA", "A┐"), 85: ("T", "LRE", "E┐"),
}  # fmt: skip


@pytest.mark.parametrize("fdi", KNOWN)
def test_the_corners_of_the_mouth_are_those_of_the_charts(fdi: int) -> None:
    assert (to_universal(fdi), to_palmer(fdi), to_palmer(fdi, sign=True)) == KNOWN[fdi]


@given(st.sampled_from(ALL), st.booleans())
def test_there_and_back_is_the_same_tooth(fdi: int, sign: bool) -> None:
    assert from_universal(to_universal(fdi)) == fdi
    assert from_palmer(to_palmer(fdi, sign=sign)) == fdi
    assert from_palmer(to_palmer(fdi).lower()) == fdi


def test_no_two_teeth_share_a_name() -> None:
    universal = {to_universal(fdi) for fdi in ALL}
    assert universal == {str(n) for n in range(1, 33)} | set("ABCDEFGHIJKLMNOPQRST")
    assert len({to_palmer(fdi) for fdi in ALL}) == len({to_palmer(fdi, sign=True) for fdi in ALL}) == len(ALL)


@given(st.sampled_from(ALL))
def test_the_same_position_on_the_other_side_has_the_mirrored_name(fdi: int) -> None:
    other = teeth.antimere(fdi)
    assert to_palmer(other)[2:] == to_palmer(fdi)[2:]
    assert to_palmer(other)[0] == to_palmer(fdi)[0] and to_palmer(other)[1] != to_palmer(fdi)[1]
    if fdi < 50:  # 1 + 16 and 17 + 32: mirrored about the midline of the arch
        total = 17 if teeth.is_upper(fdi) else 49
        assert int(to_universal(fdi)) + int(to_universal(other)) == total


@given(st.integers())
def test_a_number_outside_the_fdi_scheme_is_refused(number: int) -> None:
    if teeth.is_known(number):
        return
    with pytest.raises(ValueError, match="FDI number"):
        to_universal(number)
    with pytest.raises(ValueError, match="FDI number"):
        to_palmer(number)


@given(st.text(max_size=5))
def test_any_other_text_is_refused(text: str) -> None:
    names = {to_universal(fdi) for fdi in ALL}
    if text.strip().upper() not in names:
        with pytest.raises(ValueError, match="Universal number"):
            from_universal(text)
    if text.strip().upper() not in {to_palmer(f, sign=s) for f in ALL for s in (False, True)}:
        with pytest.raises(ValueError, match="Palmer notation"):
            from_palmer(text)
