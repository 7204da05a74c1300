"""Teeth in words: the quadrants of ISO 3950, seen from the patient."""

import pytest

from dentalign.reports import tooth_names
from dentalign.teeth import PRIMARY, SLOTS


@pytest.mark.parametrize(
    ("fdi", "name"),
    [
        (11, "upper right central incisor"),
        (23, "upper left canine"),
        (36, "lower left first molar"),
        (45, "lower right second premolar"),
        (55, "upper right primary second molar"),
        (74, "lower left primary first molar"),
    ],
)
def test_a_tooth_has_the_name_that_dentists_give_it(fdi: int, name: str) -> None:
    assert tooth_names.name(fdi) == name


def test_every_tooth_has_a_name_of_its_own() -> None:
    assert len({tooth_names.name(fdi) for fdi in (*SLOTS, *PRIMARY)}) == 52
    with pytest.raises(ValueError, match="19 is not a number"):
        tooth_names.name(19)
