"""The assignment against scipy's, which knows nothing of prices."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from dentalign.geometry.assignment import best_assignment
from dentalign.geometry.sampling import directions


def total(rows: np.ndarray, columns: np.ndarray, chosen: np.ndarray) -> float:
    return float((rows * columns[chosen]).sum())


@pytest.mark.parametrize("count", [2, 8, 32, 256])
def test_it_is_scipy_s_assignment(count: int) -> None:
    rng = np.random.default_rng(count)
    for squeeze in (1.0, 0.3, 0.01):  # evenly spread, oblong, nearly all in one place
        points = rng.normal(size=(count, 3)) * [1, squeeze, squeeze] + [0, 0, 1 - squeeze]
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        wanted = linear_sum_assignment(directions(count) @ points.T, maximize=True)[1]
        np.testing.assert_array_equal(best_assignment(directions(count), points), wanted)


def test_among_equals_any_one_to_one_answer_with_the_largest_sum_will_do() -> None:
    rng = np.random.default_rng(0)
    rows = directions(64)
    for columns in (np.zeros((64, 3)), np.tile(rows[3], (64, 1)), np.repeat(rows[::2], 2, axis=0), -rows):
        columns = columns[rng.permutation(64)]
        found = best_assignment(rows, columns)
        assert sorted(found) == list(range(64))
        wanted = linear_sum_assignment(rows @ columns.T, maximize=True)[1]
        assert total(rows, columns, found) == pytest.approx(total(rows, columns, wanted), abs=1e-9)


def test_useless_prices_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(1).normal(size=(32, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    wanted = best_assignment(directions(32), points)
    monkeypatch.setattr("dentalign.geometry.assignment._TEMPERATURE", 100.0)  # all prices nearly alike
    np.testing.assert_array_equal(best_assignment(directions(32), points), wanted)
