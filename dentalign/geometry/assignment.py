"""One-to-one assignment between two sets of directions with the largest sum of cosines."""

import lap
import numpy as np
from numpy.typing import NDArray

_TEMPERATURE, _ROUNDS = 0.1, 4  # found by trial on crowns, 256 x 256


def best_assignment(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.intp]:
    """Assign a different column to each row, so that the sum of the scalar products is largest.

    A price added to a row or column changes the sums of all assignments by the same amount, so the result is
    exact with any prices. Prices from a few rounds of Sinkhorn's iteration (Cuturi 2013, arXiv:1306.0895)
    halve the time of the solver (Jonker & Volgenant 1987, doi:10.1007/BF02278710).

    rows, columns : (N, 3) float64, of length 1 at most
    returns       : (N,) int, the column of each row; a permutation
    """
    product = rows @ columns.T
    kernel = np.exp(((product - 1) / _TEMPERATURE).astype(np.float32))
    row: NDArray[np.floating] = np.ones(len(rows), np.float32)
    for _ in range(_ROUNDS):
        column = (1 / row) @ kernel
        row = kernel @ (1 / column)
    row_price, column_price = _TEMPERATURE * np.log(np.stack([row, column])).astype(np.float64)
    best: NDArray[np.integer] = lap.lapjv(row_price[:, None] + column_price - product, return_cost=False)[0]
    return best.astype(np.intp)
