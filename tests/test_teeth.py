"""FDI numbers and slots, against the lists written out in the contract."""

import numpy as np
import pytest

from dentalign import teeth

LOWER = [38, 37, 36, 35, 34, 33, 32, 31, 41, 42, 43, 44, 45, 46, 47, 48]
UPPER = [18, 17, 16, 15, 14, 13, 12, 11, 21, 22, 23, 24, 25, 26, 27, 28]


def test_slots_are_in_the_order_of_the_contract() -> None:
    assert list(teeth.SLOTS) == LOWER + UPPER
    assert [teeth.SLOT_INDEX[fdi] for fdi in teeth.SLOTS] == list(range(32))
    assert [teeth.SLOTS[i] for i in teeth.ARCHES["lower"]] == LOWER
    assert [teeth.SLOTS[i] for i in teeth.ARCHES["upper"]] == UPPER


@pytest.mark.parametrize(
    ("primary", "permanent"), [(55, 15), (51, 11), (61, 21), (65, 25), (71, 31), (85, 45)]
)
def test_a_primary_tooth_has_its_permanent_successor(primary: int, permanent: int) -> None:
    assert teeth.successor(primary) == permanent
    assert teeth.successor(permanent) == permanent


@pytest.mark.parametrize("fdi", [0, 9, 10, 19, 29, 30, 49, 50, 56, 66, 86, 90, 99, 111])
def test_other_numbers_are_unknown(fdi: int) -> None:
    assert not teeth.is_known(fdi)


def test_52_numbers_are_known() -> None:
    assert sum(teeth.is_known(fdi) for fdi in range(1000)) == 32 + 20


@pytest.mark.parametrize(
    ("fdi", "upper"),
    [(11, True), (28, True), (55, True), (61, True), (38, False), (41, False), (75, False), (81, False)],
)
def test_upper_and_lower(fdi: int, upper: bool) -> None:
    assert teeth.is_upper(fdi) == upper


def test_mirroring_exchanges_sides_keeps_arches_and_undoes_itself() -> None:
    assert (teeth.antimere(11), teeth.antimere(36), teeth.antimere(55)) == (21, 46, 65)
    assert np.array_equal(teeth.MIRRORED_SLOT[teeth.MIRRORED_SLOT], np.arange(32))
    assert (teeth.MIRRORED_SLOT[:16] < 16).all()
    assert not (np.arange(32) == teeth.MIRRORED_SLOT).any()
