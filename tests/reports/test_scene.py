"""Scenes: their figures, and the names of teeth."""

import pytest

from dentalign.reports.scene import Scene, label_and_unit, tooth_name
from dentalign.teeth import PRIMARY, SLOTS
from tests.support.report_scenes import tooth

STATES = (("t1", "T1"), ("t2", "T2"))


def test_a_scene_of_one_tooth_in_one_arch_is_fine() -> None:
    scene = Scene("a", STATES, (tooth(figures={"movement_mm": 1.0}),), ("movement_mm",))
    assert scene.figure_names() == ("movement_mm",)


def test_a_colour_needs_a_figure() -> None:
    with pytest.raises(ValueError, match="no tooth has the figure 'add_mm'"):
        Scene("a", STATES, (tooth(),), ("add_mm",))


def test_a_figure_s_name_says_its_unit() -> None:
    assert label_and_unit("translation_error_mm") == ("translation error", "mm")
    assert label_and_unit("add_mm") == ("ADD", "mm")
    assert label_and_unit("add_mm_90") == ("ADD, 90 % are below", "mm")
    assert label_and_unit("torque_deg") == ("torque", "°")
    with pytest.raises(ValueError, match="must end in its unit"):
        label_and_unit("mm")


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
    assert tooth_name(fdi) == name


def test_no_two_teeth_have_the_same_name() -> None:
    assert len({tooth_name(fdi) for fdi in (*SLOTS, *PRIMARY)}) == 52
