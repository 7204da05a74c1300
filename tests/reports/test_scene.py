"""Scenes: parts that do not fit together are refused, with case and tooth named."""

from typing import Any

import numpy as np
import pytest

from dentalign.reports.scene import Scene, label_and_unit, tooth_name
from dentalign.teeth import PRIMARY, SLOTS
from tests.support.report_scenes import at, tooth

STATES = (("t1", "T1"), ("t2", "T2"))
MIRRORED, TWICE = np.diag([-1.0, 1, 1, 1]), np.diag([2.0, 2, 2, 1])


def test_a_scene_of_one_tooth_in_one_arch_is_fine() -> None:
    scene = Scene("a", STATES, (tooth(figures={"movement_mm": 1.0}),), ("movement_mm",))
    assert scene.figure_names() == ("movement_mm",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fdi": 19}, "tooth 19: not a number of the FDI notation"),
        ({"poses": {}}, "tooth 11: poses must be of the states"),
        ({"poses": {"t3": np.eye(4)}}, r"tooth 11: poses must be of the states \['t1', 't2'\], got \['t3'\]"),
        ({"poses": {"t1": MIRRORED}}, "tooth 11: the pose 't1' is not rigid"),
        ({"poses": {"t1": TWICE}}, "tooth 11: the pose 't1' is not rigid"),
        ({"poses": {"t1": at(np.nan, 0, 0)}}, "tooth 11: the pose 't1' must be finite"),
        ({"poses": {"t1": np.eye(3)}}, r"tooth 11: the pose 't1' must be finite and \(4, 4\), got \(3, 3\)"),
        ({"vertices": np.zeros((0, 3))}, "tooth 11: vertices must be finite"),
        ({"vertices": np.full((4, 3), np.inf)}, "tooth 11: vertices must be finite"),
        ({"faces": np.array([[0, 1, 4]])}, "tooth 11: faces must number vertices from 0 to 3"),
        ({"faces": np.zeros((0, 3), int)}, "tooth 11: faces must be"),
        ({"figures": {"movement": 1.0}}, "tooth 11: a figure's name must end in its unit .* got 'movement'"),
        ({"figures": {"movement_mm": np.nan}}, "tooth 11: the figure movement_mm is nan"),
    ],
)
def test_a_fault_of_a_tooth_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"case 'a', {message}"):
        Scene("a", STATES, (tooth(**changes),))


def test_teeth_and_states_are_different_ones() -> None:
    with pytest.raises(ValueError, match="teeth must be different ones"):
        Scene("a", STATES, (tooth(), tooth()))
    with pytest.raises(ValueError, match="teeth must be different ones"):
        Scene("a", STATES, ())
    with pytest.raises(ValueError, match="states must have different keys"):
        Scene("a", (("t1", "T1"), ("t1", "again")), (tooth(),))


def test_a_colour_needs_a_figure() -> None:
    with pytest.raises(ValueError, match="no tooth has the figure 'add_mm'"):
        Scene("a", STATES, (tooth(),), ("add_mm",))


def test_a_figure_s_name_says_its_unit() -> None:
    assert label_and_unit("translation_error_mm") == ("translation error", "mm")
    assert label_and_unit("add_mm") == ("ADD", "mm")
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
    with pytest.raises(ValueError, match="19 is not a number"):
        tooth_name(19)
