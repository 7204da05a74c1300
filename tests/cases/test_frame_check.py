"""A mouth in a wrong frame is recognised, a right one never suspected, and too few teeth say nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dentalign.cases import case_document, frame_check, slots
from dentalign.cases.poses import stage_poses
from dentalign.cases.settings import Limits
from dentalign.cases.slots import place
from dentalign.demo_clinic import clinic
from dentalign.geometry import rigid
from dentalign.geometry.arch_fit import find_arches, fit_to_average
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.rigid import Array
from dentalign.teeth import ARCHES, MIRRORED_SLOT, SLOT_INDEX, SLOTS, successor

Mouth = tuple[Array, frame_check.Mask]
Change = Callable[[Array], Array]


@pytest.fixture(scope="module")
def mouths() -> list[Mouth]:
    """T1 and T2 of twelve made-up patients: crowded, spaced, with teeth missing or primary."""
    found = []
    for index in range(1, 13):
        case = clinic.make_case(index, seed=5)
        for poses in (case.t1, case.t2):
            pose, mask = np.tile(np.eye(4), (32, 1, 1)), np.zeros(32, bool)
            for fdi, matrix in poses.items():
                slot = SLOT_INDEX[successor(fdi)]
                pose[slot], mask[slot] = matrix, True
            found.append((pose, mask))
    return found


def head(*axes: float) -> Change:
    """Head coordinates changed by a diagonal matrix; crowns and poses stay what they are."""
    outer = np.diag([*axes, 1.0])
    inner = np.diag([float(np.prod(axes)), 1.0, 1.0, 1.0])  # a mirror image of a mouth has mirrored crowns
    return lambda pose: outer @ pose @ inner


def local(*axes: float) -> Change:
    return lambda pose: pose @ np.diag([*axes, 1.0])


def turned(axis: str, angle: float) -> Change:
    rotation = Rotation.from_euler(axis, angle, degrees=True).as_matrix()
    return lambda pose: rigid.from_rotation(rotation, np.zeros(3)) @ pose


def moved(*shift_mm: float) -> Change:
    return lambda pose: rigid.from_rotation(np.eye(3), np.array(shift_mm)) @ pose


def scaled(factor: float) -> Change:
    return lambda pose: rigid.from_rotation(pose[:, :3, :3], pose[:, :3, 3] * factor)


def upper_arch(change: Change) -> Change:
    return lambda pose: np.concatenate([pose[:16], change(pose[16:])])


def rotations_inverted(pose: Array) -> Array:
    return rigid.from_rotation(np.swapaxes(pose[:, :3, :3], 1, 2), pose[:, :3, 3])


def codes(pose: Array, mask: frame_check.Mask) -> list[str]:
    return [defect.code for defect in frame_check.problems(pose, mask)]


WRONG: dict[str, tuple[Change, str]] = {
    "left and right exchanged": (head(-1, 1, 1), "mirrored"),
    "front and back exchanged": (head(1, -1, 1), "mirrored"),
    "z down": (head(1, 1, -1), "mirrored"),
    "RAS, as in NIfTI": (head(-1, -1, 1), "back_to_front"),
    "turned over sideways": (head(-1, 1, -1), "upside_down"),
    "turned over backwards": (head(1, -1, -1), "upside_down"),
    "y up, as in computer graphics": (turned("x", -90), "mouth_turned"),
    "a scanner's frame": (turned("z", 70), "mouth_turned"),
    "metres": (scaled(1e-3), "mouth_size"),
    "centimetres": (scaled(0.1), "mouth_size"),
    "inches": (scaled(1 / 25.4), "mouth_size"),
    "micrometres": (scaled(1e3), "mouth_size"),
    "translations lost": (scaled(0), "poses_at_one_place"),
    "upper jaw turned round": (upper_arch(turned("z", 180)), "arches_disagree"),
    "upper jaw too low": (upper_arch(moved(0, 0, -25)), "upper_below_lower"),
    "upper jaw too far forward": (upper_arch(moved(0, -25, 0)), "jaws_apart"),
    "upper jaw too far to the left": (upper_arch(moved(22, 0, 0)), "jaws_apart"),
    "quaternions conjugated": (rotations_inverted, "rotations_inverted"),
    "buccal at -y": (local(-1, -1, 1), "buccal_axis"),
    "buccal at x": (lambda pose: pose @ turned("z", 90)(np.eye(4)), "buccal_axis"),
    "crown tip at -z": (local(-1, 1, -1), "crown_axis"),
    "root to tip at y": (lambda pose: pose @ turned("y", 90)(np.eye(4)), "crown_axis"),
    "matrices with a reflection": (local(-1, 1, 1), "pose_reflected"),
}  # fmt: skip


def plain_fit(place: Array, flat: Array) -> tuple[Array, Array, Array]:
    """`fit_to_average` as it is written in the books, by numpy's least squares on weighted rows."""
    centre = np.median(place, axis=0)
    away = np.linalg.norm(place - centre, axis=1)
    scale = 2 * np.median(away)
    design = np.column_stack([np.ones(len(flat)), flat - flat.mean(0)])
    for _ in range(15):
        weight = 1 / (1 + (away / max(scale, 1e-6)) ** 2)
        root = np.sqrt(weight)[:, None]
        solution = np.linalg.lstsq(root * design, root * (place - centre))[0]
        away = np.linalg.norm(place - centre - design @ solution, axis=1)
        scale = 2.4 * np.median(away)
        after = 1 / (1 + (away / max(scale, 1e-6)) ** 2)
        if np.abs(after - weight).max() < 1e-3:
            break
    variance = (after * away**2).sum() / max(after.sum() - 3, 0.5) + 1e-12
    covariance = np.linalg.pinv((root * design).T @ (root * design))
    return np.vstack([centre + solution[0], solution[1:]]), np.sqrt(np.diag(covariance)[1:] * variance), away


def test_the_fit_of_an_arch_is_that_of_plain_weighted_least_squares(mouths: list[Mouth]) -> None:
    rng = np.random.default_rng(0)
    for pose, mask in mouths:
        for arch in ARCHES.values():
            own = rng.permutation(arch[mask[arch]])[: rng.integers(5, 17)]
            place = pose[own, :3, 3].copy()
            place[:2] += rng.normal(0, rng.choice([0, 20, 1e5]), (2, 3))
            flat = average_mouth().position[own, :2]
            middle, axes, errors, away = fit_to_average(place, flat)
            wanted, wanted_errors, wanted_away = plain_fit(place, flat)
            np.testing.assert_allclose(np.vstack([middle, axes]), wanted, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(errors, wanted_errors, rtol=1e-6)
            np.testing.assert_allclose(away, wanted_away, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("factor", [1.0, 1e-3, 0.6, 25.4])
def test_arches_found_before_change_no_verdict(mouths: list[Mouth], factor: float) -> None:
    changes = [scaled(1), turned("x", 60), head(-1, 1, 1), local(-1, -1, 1), upper_arch(moved(0, 0, -40))]
    for pose, mask in mouths:
        astray = pose.copy()
        astray[np.flatnonzero(mask)[3], :3, 3] += 60
        for given in [scaled(factor)(change(pose)) for change in changes] + [scaled(factor)(astray)]:
            arches = find_arches(given, np.flatnonzero(mask))
            assert [str(defect) for defect in frame_check.problems(given, mask, arches=arches)] == [
                str(defect) for defect in frame_check.problems(given, mask)
            ]
            alone = frame_check.far_off(given, mask)
            assert frame_check.far_off(given, mask, arches=arches) == alone


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_frame_is_named_with_what_was_seen_and_the_fix(name: str, mouths: list[Mouth]) -> None:
    change, code = WRONG[name]
    for pose, mask in mouths[::5]:
        found = frame_check.problems(change(pose), mask, file="a.json")
        assert [defect.code for defect in found] == [code]
        assert found[0].file == "a.json"
        assert found[0].seen and found[0].fix
        assert code in frame_check.CODES


def test_a_right_mouth_is_never_suspected(mouths: list[Mouth]) -> None:
    for pose, mask in mouths:
        assert codes(pose, mask) == []
        assert codes(turned("x", 20)(pose), mask) == []
        assert codes(turned("y", -15)(pose), mask) == []
        assert codes(scaled(0.75)(pose), mask) == []


@pytest.mark.parametrize("arch", ARCHES)
def test_one_arch_is_enough(arch: str, mouths: list[Mouth]) -> None:
    only = np.isin(np.arange(32), ARCHES[arch])
    for pose, mask in mouths[::5]:
        assert codes(pose, mask & only) == []
        assert codes(head(-1, 1, 1)(pose), mask & only) == ["mirrored"]
        assert codes(head(-1, -1, 1)(pose), mask & only) == ["back_to_front"]
        assert codes(local(-1, -1, 1)(pose), mask & only) == ["buccal_axis"]
        assert codes(local(-1, 1, -1)(pose), mask & only) == ["crown_axis"]


def test_few_teeth_never_raise_a_false_alarm(mouths: list[Mouth]) -> None:
    rng = np.random.default_rng(0)
    for pose, mask in mouths:
        for count in (1, 5, 8, 12):
            few = np.zeros(32, bool)
            few[rng.permutation(np.flatnonzero(mask))[:count]] = True
            assert codes(pose, few) == []


def test_too_few_teeth_say_nothing_but_a_reflection(mouths: list[Mouth]) -> None:
    pose, mask = mouths[0]
    few = mask & (np.cumsum(mask) < frame_check.MIN_TEETH)
    assert codes(head(-1, -1, 1)(scaled(1e-3)(pose)), few) == []
    assert codes(local(-1, 1, 1)(pose), few) == ["pose_reflected"]
    assert codes(pose, np.zeros(32, bool)) == []


def test_odd_teeth_do_not_decide(mouths: list[Mouth]) -> None:
    """A third of the teeth with turned axes, and two far away, leave the frame what it is."""
    pose, mask = mouths[0][0].copy(), mouths[0][1]
    present = np.flatnonzero(mask)
    pose[present[::3]] = local(-1, -1, 1)(pose[present[::3]])
    assert codes(pose, mask) == []
    pose[present[4], :3, 3] += [5000.0, 0, 0]
    pose[present[20], :3, 3] += [0, 45.0, 0]
    (defect,) = frame_check.problems(pose, mask)
    assert defect.code == "teeth_far_apart"
    assert f"{SLOTS[present[4]]} (5" in defect.seen
    assert list(frame_check.far_off(pose, mask)) == [present[4], present[20]]
    assert codes(head(-1, 1, 1)(pose), mask) == ["teeth_far_apart", "mirrored"]


def test_poses_that_lead_from_the_head_to_the_tooth_form_no_arch(mouths: list[Mouth]) -> None:
    for pose, mask in mouths:
        assert set(codes(rigid.inverse(pose), mask)) & {"no_arch", "mouth_size", "teeth_far_apart"}
    seen = [
        defect.seen for pose, mask in mouths for defect in frame_check.problems(rigid.inverse(pose), mask)
    ]
    assert any("teeth of the lower arch form no arch" in text for text in seen)


def test_a_tooth_upside_down_or_back_to_front_is_found_and_a_rotated_one_is_not(mouths: list[Mouth]) -> None:
    for pose, mask in mouths[::3]:
        assert not frame_check.turned(pose, mask)
        slot = int(np.flatnonzero(mask)[5])
        for angle, axis in ((180, "x"), (180, "y"), (180, "z")):
            spoilt = pose.copy()
            spoilt[slot] = pose[slot] @ turned(axis, angle)(np.eye(4))
            found = frame_check.turned(spoilt, mask)
            assert list(found) == [slot]
            assert frame_check.turned_tooth(36, found[slot], "a.json").code == "tooth_turned"
        spoilt[slot] = pose[slot] @ turned("z", 80)(np.eye(4))
        assert not frame_check.turned(spoilt, mask)


def test_a_tooth_25_mm_away_is_the_fault_of_the_tooth_in_a_mouth_of_any_size(mouths: list[Mouth]) -> None:
    for factor in (0.8, 1.0, 1.2):
        pose, mask = scaled(factor)(mouths[0][0]), mouths[0][1]
        slot = int(np.flatnonzero(mask)[7])
        pose[slot, :3, 3] += [0, 25.0, 0]
        assert list(frame_check.far_off(pose, mask)) == [slot]
        assert codes(pose, mask & (np.arange(32) != slot)) == []


def test_the_limits_are_those_of_params(mouths: list[Mouth]) -> None:
    pose, mask = mouths[0]
    pose = turned("z", 70)(pose)
    assert not frame_check.problems(pose, mask, limits=Limits(max_turn_deg=80.0))
    (defect,) = frame_check.problems(pose, mask, limits=Limits(max_turn_deg=80.0, min_mouth_size=1.5))
    assert defect.code == "mouth_size"
    assert len(frame_check.far_off(pose, mask, Limits(max_from_arch_mm=0.01))) == mask.sum()


def test_a_pose_that_is_not_finite_is_a_mistake_of_the_caller(mouths: list[Mouth]) -> None:
    pose, mask = mouths[0][0].copy(), mouths[0][1]
    pose[np.flatnonzero(mask)[0], 0, 3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        frame_check.problems(pose, mask)


def test_the_poses_given_stay_as_they_are(mouths: list[Mouth]) -> None:
    pose, mask = mouths[0][0].copy(), mouths[0][1]
    frame_check.problems(pose, mask)
    np.testing.assert_array_equal(pose, mouths[0][0])


def test_the_average_mouth_is_symmetric_and_stands_in_the_head_frame() -> None:
    mouth = average_mouth()
    for vectors in (mouth.position, mouth.outward, mouth.crown):
        np.testing.assert_allclose(vectors[MIRRORED_SLOT], vectors * [-1, 1, 1], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(mouth.outward, axis=1), 1)
    assert mouth.position[SLOT_INDEX[26], 0] > 20 > -20 > mouth.position[SLOT_INDEX[16], 0]
    assert mouth.position[SLOT_INDEX[16], 1] > mouth.position[SLOT_INDEX[11], 1] + 25
    assert mouth.outward[SLOT_INDEX[11], 1] < -0.8 and mouth.outward[SLOT_INDEX[26], 0] > 0.8
    assert (mouth.crown[16:, 2] == -1).all() and (mouth.position[16:, 2] > mouth.position[:16, 2]).all()


def test_realteeth_cases_are_right_and_their_exporter_with_the_other_buccal_axis_is_noticed(
    realteeth: Path,
) -> None:
    for path in sorted(realteeth.glob("json/rt-00*.json")):
        mouth = place(stage_poses(case_document.read(path, path.stem)))
        for pose, mask in zip(mouth.pose, mouth.present, strict=True):
            assert codes(pose, mask) == [], path.name
            assert codes(slots.turned(pose, "-y"), mask) == ["buccal_axis"]
