"""Metrics: values worked out by hand, and what must not change them."""

import numpy as np
import pytest

from dentalign.geometry import rigid
from dentalign.validation import metrics
from dentalign.validation.as_published import AS_PUBLISHED


@pytest.fixture
def teeth() -> np.ndarray:
    """Six teeth of 12 points, head frame, mm."""
    return np.random.default_rng(3).normal(0, 4, (6, 12, 3)) + np.arange(6)[:, None, None] * [9.0, 2.0, 0.0]


def poses(count: int, seed: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rigid.from_rotation(
        rigid.rotation_matrix(rng.normal(0, 0.4, (count, 3))), rng.normal(0, 20, (count, 3))
    )


def test_add_is_the_mean_of_the_point_distances() -> None:
    true = np.zeros((2, 2, 3))
    predicted = np.array([[[3.0, 4, 0], [0, 0, 1]], [[0, 0, 0], [0, 2, 0]]])
    assert metrics.add_mm(predicted, true) == pytest.approx([3.0, 1.0])


def test_everything_is_perfect_where_the_prediction_is_the_truth(teeth: np.ndarray) -> None:
    pose = poses(6)
    for figures in (
        metrics.add_mm(teeth, teeth),
        metrics.pa_add_mm(teeth, teeth, [0, 0, 0, 1, 1, 1]),
        metrics.translation_error_mm(teeth, teeth),
        metrics.rigidity_residual_mm(teeth, teeth),
        metrics.rotation_error_deg(pose, pose),
    ):
        assert figures == pytest.approx(np.zeros(6), abs=1e-6)
    assert metrics.add_auc_5mm(np.zeros(4)) == 1.0


def test_the_area_under_the_accuracy_curve_is_a_mean_over_101_thresholds() -> None:
    assert len(metrics.THRESHOLDS_MM) == 101
    assert metrics.add_auc_5mm([5.0]) == pytest.approx(1 / 101)
    assert metrics.add_auc_5mm([5.01]) == 0.0
    assert metrics.add_auc_5mm([2.52, 9.0]) == pytest.approx(0.5 * 50 / 101)
    assert metrics.accuracy([0.0, 0.05, 0.06])[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    with pytest.raises(ValueError, match="no teeth"):
        metrics.accuracy([])


def test_the_rotation_error_is_the_angle_between_two_poses_wherever_they_are() -> None:
    true = poses(3)
    turn = rigid.from_rotation(
        rigid.rotation_matrix(np.array([[0.1, 0, 0], [0, np.pi, 0], [0, 0, 0]])), np.ones((3, 3))
    )
    assert metrics.rotation_error_deg(true @ turn, true) == pytest.approx([np.degrees(0.1), 180, 0], abs=1e-6)
    world = poses(1, seed=9)
    assert metrics.rotation_error_deg(world @ true @ turn, world @ true) == pytest.approx(
        [np.degrees(0.1), 180, 0], abs=1e-6
    )


def test_the_translation_error_is_that_of_the_centroid_and_not_changed_by_a_turn_about_it(
    teeth: np.ndarray,
) -> None:
    middle = teeth.mean(1, keepdims=True)
    turned = (teeth - middle) @ rigid.rotation_matrix([0.3, 0.2, -0.5]).T + middle
    assert metrics.translation_error_mm(np.add(turned, [1.0, 2, 2]), teeth) == pytest.approx(np.full(6, 3.0))


def test_pa_add_is_zero_for_arches_moved_as_a_whole_and_add_is_not(teeth: np.ndarray) -> None:
    arches = np.array([0, 0, 0, 1, 1, 1])
    moved = rigid.apply(poses(2)[arches], teeth)
    assert metrics.add_mm(moved, teeth).min() > 1
    assert metrics.pa_add_mm(moved, teeth, arches) == pytest.approx(np.zeros(6), abs=1e-9)
    assert metrics.pa_add_mm(moved, teeth, np.zeros(6)).min() > 0.1  # not one motion for both


def test_pa_add_does_not_change_when_the_prediction_is_moved_as_a_whole(teeth: np.ndarray) -> None:
    arches = np.array([0, 0, 0, 1, 1, 1])
    predicted = teeth + np.random.default_rng(0).normal(0, 1, (6, 1, 3))
    before = metrics.pa_add_mm(predicted, teeth, arches)
    assert metrics.pa_add_mm(rigid.apply(poses(1), predicted), teeth, arches) == pytest.approx(before)


def test_confidence_is_the_rank_correlation_and_leaves_out_what_is_unknown() -> None:
    expected = np.array([0.1, 0.4, np.nan, 0.2, 0.9])
    found = metrics.confidence(expected, [1.0, 3.0, 99.0, 2.0, 4.0])
    assert found["rank_correlation"] == pytest.approx(1)
    assert found["teeth_unknown"] == 1
    assert found["expected_add_mm"] == pytest.approx(0.4)
    assert found["add_mm"] == pytest.approx(2.5)
    assert metrics.confidence(expected, [4.0, 2.0, 0.0, 3.0, 1.0])["rank_correlation"] == pytest.approx(-1)
    assert metrics.confidence([np.nan], [1.0]) == {"teeth_unknown": 1}


def test_reliability_groups_teeth_by_the_error_expected() -> None:
    expected = np.array([0.3, np.nan, 0.1, 0.2, 0.4])
    groups = metrics.reliability(expected, [3.0, 50.0, 1.0, 2.0, 4.0], groups=2)
    assert [group["teeth"] for group in groups] == [2, 2]
    assert [group["expected_add_mm"] for group in groups] == pytest.approx([0.15, 0.35])
    assert [group["add_mm"] for group in groups] == pytest.approx([1.5, 3.5])
    assert metrics.reliability([np.nan], [1.0]) == []


def test_the_rigidity_residual_is_a_root_mean_square() -> None:
    fitted = np.zeros((1, 4, 3))
    decoded = fitted.copy()
    decoded[0, 0] = [0, 0, 2.0]
    assert metrics.rigidity_residual_mm(decoded, fitted) == pytest.approx([1.0])


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 4, 3\) and \(4, 3\)"):
        metrics.add_mm(np.zeros((2, 4, 3)), np.zeros((4, 3)))


def test_gain_is_the_part_of_the_plan_that_is_made_and_not_won_by_random_turns() -> None:
    rng = np.random.default_rng(0)
    planned = rng.normal(0, 1, (2000, 3))
    assert metrics.gain(0.7 * planned, planned) == pytest.approx(0.7)
    assert metrics.size_ratio(0.7 * planned, planned) == pytest.approx(0.7)
    at_random = rng.permutation(planned)
    assert metrics.size_ratio(at_random, planned) == pytest.approx(1)
    assert metrics.gain(at_random, planned) == pytest.approx(0, abs=0.05)
    assert metrics.gain(planned, 0 * planned) is metrics.size_ratio(planned, 0 * planned) is None


def test_a_case_counts_as_better_by_the_mean_of_its_teeth() -> None:
    case = [3, 3, 3, 8, 9]
    assert metrics.case_means([1.0, 2.0, 6.0, 4.0, 5.0], case) == pytest.approx([3.0, 4.0, 5.0])
    # case 3: worse at one tooth, better on the whole; case 8: as good, which is not better
    assert metrics.better_share([3.0, 0.0, 0.0, 4.0, 6.0], [2.0, 2.0, 2.0, 4.0, 5.0], case) == pytest.approx(
        1 / 3
    )


def test_the_best_proposal_is_chosen_for_the_whole_mouth_and_pooled_over_teeth() -> None:
    add = [[1.0, 5.0, 2.0], [2.0, 2.0, 9.0], [9.0, 0.0, 1.0]]
    # of case 0 the second proposal (mean 2), of case 1 the third (1): no tooth chooses for itself
    assert metrics.best_of_add_mm(add, [0, 0, 1]) == pytest.approx((2 + 2 + 1) / 3)
    assert metrics.best_of_add_mm(add[:1], [0, 0, 1]) == pytest.approx(8 / 3)


def test_coverage_leaves_out_teeth_without_a_bound() -> None:
    assert metrics.coverage([1.0, 2.0, 3.0, 4.0], [1.0, 1.9, 5.0, np.nan]) == pytest.approx(2 / 3)
    assert metrics.coverage([1.0], [np.nan]) is None


def test_each_way_of_counting_of_others_has_the_fault_that_is_named() -> None:
    """Two cases of one tooth each: 2 mm off along x + y + z; turned by the right angle about a wrong axis."""
    planned = np.zeros((2, 6))
    planned[:, 3] = np.radians(20)
    motion = np.zeros((2, 6))
    motion[:, :3], motion[:, 4] = 2 / np.sqrt(3), np.radians(20)
    teeth = metrics.MeasuredCases(np.array([0, 1]), np.full(2, 2.0), np.full(2, 9.0), motion, planned)
    found = {name: metric.of(teeth) for name, metric in AS_PUBLISHED.items()}
    assert found["translation_l1_third_mm"] == pytest.approx(0.577 * 2, abs=1e-3)
    assert found["angle_difference_deg"] == pytest.approx(0)
    assert found["add_absent_as_0_mm"] == pytest.approx(2 * 1 / 32)
    assert found["add_auc_summed"] == pytest.approx(metrics.add_auc_5mm([2.0]) * 1.01)
