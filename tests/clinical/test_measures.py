"""Clinical measures of mouths that are built with known values."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from dentalign.clinical import bolton, measures
from dentalign.geometry import rigid
from dentalign.teeth import SLOT_INDEX, SLOTS, antimere
from tests.support.made_mouths import HEIGHT_MM, MadeMouth

LOWER = [fdi for fdi in SLOTS if fdi // 10 in (3, 4) and fdi % 10 < 8]
TIP = (0.0, 0.0, HEIGHT_MM / 2)
# Widths measured on a planning system's export, mm.
MEASURED = {
    **dict(zip(range(11, 17), (8.85, 7.03, 7.92, 7.67, 7.19, 11.90), strict=True)),
    **dict(zip(range(21, 27), (8.71, 6.95, 8.11, 7.57, 7.17, 11.77), strict=True)),
    **dict(zip(range(31, 37), (5.73, 6.81, 6.91, 7.77, 7.79, 11.68), strict=True)),
    **dict(zip(range(41, 47), (5.77, 6.16, 7.09, 7.63, 7.75, 11.45), strict=True)),
}


@pytest.fixture
def mouth() -> MadeMouth:
    """Full mouth with an overjet of 3.0 mm and an overbite of 2.0 mm."""
    made = MadeMouth()
    apart = (made.head(31, TIP) + made.head(41, TIP) - made.head(11, TIP) - made.head(21, TIP)) / 2
    return made.shift(*LOWER, by=(0.0, 3.0 - apart[1], 2.0 - apart[2]))


def test_overjet_and_overbite_are_those_the_mouth_is_built_with(mouth: MadeMouth) -> None:
    found = mouth.measure()["measures"]
    assert found["overjet_mm"] == pytest.approx(3.0, abs=0.1)
    assert found["overbite_mm"] == pytest.approx(2.0, abs=0.1)


def test_molar_moved_distally_by_half_a_cusp_is_class_two_by_that_much(mouth: MadeMouth) -> None:
    before = mouth.measure()["measures"]
    after = mouth.shift(46, by=(0.0, 3.5, 0.0)).measure()["measures"]
    moved = after["molar_relation_right_mm"] - before["molar_relation_right_mm"]
    assert moved == pytest.approx(3.5, abs=0.1)
    assert after["molar_relation_left_mm"] == pytest.approx(before["molar_relation_left_mm"], abs=0.1)
    on_class_one = mouth.shift(46, by=(0.0, -after["molar_relation_right_mm"], 0.0)).measure()["measures"]
    assert on_class_one["molar_relation_right_class"] == "I"
    assert mouth.shift(46, by=(0.0, 3.5, 0.0)).measure()["measures"]["molar_relation_right_class"] == "II"
    assert mouth.shift(46, by=(0.0, -7.0, 0.0)).measure()["measures"]["molar_relation_right_class"] == "III"


def test_midline_of_an_arch_whose_incisors_stand_two_millimetres_to_the_left(mouth: MadeMouth) -> None:
    before = mouth.measure()["measures"]
    after = mouth.shift(11, 12, 21, 22, by=(2.0, 0.0, 0.0)).measure()["measures"]
    assert before["upper_midline_mm"] == pytest.approx(0.0, abs=0.02)
    assert after["upper_midline_mm"] == pytest.approx(2.0, abs=0.5)  # they take some of the arch along
    assert after["lower_midline_mm"] == pytest.approx(0.0, abs=0.3)


def test_bolton_of_measured_widths_and_of_crowns_with_these_widths() -> None:
    assert_allclose(bolton.ratios_of_widths(MEASURED), (91.8, 80.9), atol=0.05)
    found = MadeMouth(MEASURED).measure()["measures"]
    assert found["bolton_overall_percent"] == pytest.approx(91.8, abs=0.1)
    assert found["bolton_anterior_percent"] == pytest.approx(80.9, abs=0.1)


def test_irregularity_grows_by_twice_the_step_of_an_incisor_out_of_line(mouth: MadeMouth) -> None:
    before = mouth.measure()["measures"]["irregularity_lower_mm"]
    after = mouth.shift(31, by=(0.0, 4.0, 0.0)).measure()["measures"]["irregularity_lower_mm"]
    assert after - before == pytest.approx(8.0, abs=0.6)


def test_widths_are_distances_of_cusps(mouth: MadeMouth) -> None:
    found = mouth.measure()["measures"]
    assert found["width_33_upper_mm"] == pytest.approx(
        np.linalg.norm(mouth.head(13, TIP) - mouth.head(23, TIP)), abs=0.1
    )
    cusp = (mouth.widths[16] / 4, 9.0 / 4, HEIGHT_MM / 2)
    between = np.linalg.norm(mouth.head(16, cusp) - mouth.head(26, cusp))
    assert found["width_66_upper_mm"] == pytest.approx(between, abs=0.1)


def test_spee_is_the_depth_of_the_lower_side_teeth(mouth: MadeMouth) -> None:
    deep = mouth.shift(44, 45, by=(0.0, 0.0, -2.0)).measure()["measures"]
    assert deep["spee_right_mm"] - deep["spee_left_mm"] == pytest.approx(2.0, abs=0.1)


def test_crowding_is_the_width_that_the_arch_has_no_room_for() -> None:
    even = MadeMouth().measure()["measures"]["crowding_lower_mm"]
    wide = {fdi: MadeMouth().widths[fdi] + 0.5 for fdi in range(31, 36)}
    found = MadeMouth(wide).measure()["measures"]["crowding_lower_mm"]
    assert found - even == pytest.approx(2.5, abs=0.2)
    assert abs(even) < 1.0


@pytest.mark.parametrize("tooth", [11, 26, 33, 47])
def test_tip_and_torque_are_the_angles_by_which_a_crown_is_tilted(mouth: MadeMouth, tooth: int) -> None:
    slot, mesial = SLOT_INDEX[tooth], 1.0 if tooth // 10 % 2 else -1.0
    before = mouth.measure()["measures"]
    x, y = mouth.pose[slot, :3, 0] * mesial, mouth.pose[slot, :3, 1]
    crown_up = mouth.pose[slot, :3, 2]
    for name, axis, towards in (("tip_deg", y, x), ("torque_deg", x, y)):
        turn = rigid.rotation_matrix(np.cross(crown_up, towards) * np.radians(10.0))
        assert abs(axis @ towards) < 1e-9
        kept = mouth.pose[slot].copy()
        mouth.pose[slot, :3, :3] = turn @ kept[:3, :3]
        after = mouth.measure()["measures"]
        mouth.pose[slot] = kept
        assert after[name][str(tooth)] - before[name][str(tooth)] == pytest.approx(10.0, abs=1.0)


def test_crossbite_and_scissor_bite_name_the_upper_teeth(mouth: MadeMouth) -> None:
    assert mouth.measure()["measures"]["crossbite_teeth"] == []
    mouth.shift(16, by=(6.0, 0.0, 0.0)).shift(25, by=(5.0, 0.0, 0.0))
    found = mouth.measure()["measures"]
    assert found["crossbite_teeth"] == [16]
    assert found["scissor_bite_teeth"] == [25]


def test_ideal_overjet_and_overbite_score_nothing_in_par_and_a_large_overjet_six_a_point(
    mouth: MadeMouth,
) -> None:
    good = mouth.measure()["measures"]
    assert good["par_components"]["overjet"] == 0
    poor = mouth.shift(*LOWER, by=(0.0, 3.0, 0.0)).measure()["measures"]
    assert poor["par_components"]["overjet"] == 2
    assert poor["par"] >= 12


def test_missing_and_primary_teeth_are_named_and_never_guessed(mouth: MadeMouth) -> None:
    mouth.fdi[SLOT_INDEX[45]] = 85
    found = mouth.without(36, 46).measure()
    reasons = found["not_measurable"]
    assert reasons["width_66_lower_mm"] == "36 and 46 are missing"
    assert reasons["molar_relation_right_mm"] == reasons["molar_relation_right_class"] == "46 is missing"
    assert reasons["width_55_lower_mm"] == "85 is a primary tooth"
    assert reasons["bolton_overall_percent"] == "36 and 46 are missing; 85 is a primary tooth"
    assert "45" not in found["measures"]["tip_deg"]
    assert not found["measures"].keys() & reasons.keys()
    assert set(measures.NAMES) <= found["measures"].keys() | reasons.keys()


def test_empty_mouth_has_no_measure_and_says_why(mouth: MadeMouth) -> None:
    found = mouth.without(*mouth.widths).measure()
    assert not found["measures"]
    assert found["not_measurable"]["overjet_mm"] == "0 teeth stand; the occlusal plane needs 3"


def shaken(seed: int) -> tuple[MadeMouth, np.random.Generator]:
    """Mouth whose teeth each stand off by about 0.7 mm and 8 deg, with one tooth absent."""
    rng = np.random.default_rng(seed)
    made = MadeMouth()
    for slot in np.flatnonzero(made.present):
        made.pose[slot, :3, :3] = rigid.rotation_matrix(rng.normal(0, 0.08, 3)) @ made.pose[slot, :3, :3]
        made.pose[slot, :3, 3] += rng.normal(0, 0.4, 3)
    return made.without(int(rng.choice([12, 25, 34, 45]))), rng


def sides_exchanged(name: str) -> str:
    return name.replace("right", "LEFT").replace("left", "right").replace("LEFT", "left")


def assert_equal(found: Any, wanted: Any, name: str) -> None:
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), name
        for part, value in wanted.items():
            assert_equal(found[part], value, f"{name}.{part}")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=0.02), name
    else:
        assert found == wanted, name


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_no_measure_changes_when_the_mouth_is_moved_as_a_whole(seed: int) -> None:
    made, rng = shaken(seed)
    here = made.measure()
    motion = rigid.from_rotation(rigid.rotation_matrix(rng.normal(0, 2, 3)), rng.normal(0, 50, 3))
    moved = made.moved(motion).measure()
    assert moved["not_measurable"] == here["not_measurable"]
    assert_equal(moved["measures"], here["measures"], "")


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_mirror_image_has_the_same_measures_with_sides_exchanged(seed: int) -> None:
    made, _ = shaken(seed)
    found, mirrored = made.measure(), made.mirrored().measure()
    assert {*map(sides_exchanged, found["not_measurable"])} == {*mirrored["not_measurable"]}
    for name, value in found["measures"].items():
        if name.endswith("midline_mm"):
            wanted: Any = -value
        elif isinstance(value, list):
            wanted = sorted(map(antimere, value))
        elif name in ("tip_deg", "torque_deg"):
            wanted = {str(antimere(int(fdi))): angle for fdi, angle in value.items()}
        elif isinstance(value, dict):
            wanted = {sides_exchanged(part): points for part, points in value.items()}
        else:
            wanted = value
        assert_equal(mirrored["measures"][sides_exchanged(name)], wanted, name)


def test_widths_of_an_export_are_reported_beside_those_of_the_crowns() -> None:
    made = MadeMouth()
    exported = np.array([MEASURED.get(fdi, np.nan) for fdi in SLOTS])
    found = made.measure(exported)["measures"]
    assert found["bolton_exported_overall_percent"] == pytest.approx(91.8, abs=0.05)
    assert found["bolton_exported_anterior_percent"] == pytest.approx(80.9, abs=0.05)
    assert found["bolton_overall_percent"] == made.measure()["measures"]["bolton_overall_percent"]
    assert found["tooth_width_exported_mm"]["46"] == pytest.approx(11.45)
    assert found["tooth_width_mm"]["46"] == pytest.approx(made.widths[46], abs=0.1)
    assert not set(measures.OF_EXPORT) & made.measure()["measures"].keys()


def test_ratio_of_an_export_without_some_widths_names_their_teeth() -> None:
    exported = np.array([MEASURED.get(fdi, np.nan) for fdi in SLOTS])
    exported[[SLOT_INDEX[14], SLOT_INDEX[36]]] = np.nan
    found = MadeMouth().measure(exported)
    reason = found["not_measurable"]["bolton_exported_overall_percent"]
    assert reason == "the export gives no width of 14 and 36"
    assert found["measures"]["bolton_exported_anterior_percent"] == pytest.approx(80.9, abs=0.05)
    gone = MadeMouth().without(11).measure(exported)["not_measurable"]
    assert gone["bolton_exported_anterior_percent"] == "11 is missing"
