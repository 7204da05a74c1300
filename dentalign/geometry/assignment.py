"""The one-to-one assignment of directions to directions with the largest sum of cosines, exact."""

import lap
import numpy as np
from numpy.typing import NDArray

# Found by trial on crowns, 256 x 256: colder or longer costs more than it saves.
_TEMPERATURE, _ROUNDS, _RELAXATION = 0.07, 6, np.float32(1.7)


def best_assignment(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.intp]:
    """For each row the column it gets, so that the sum of the scalar products is largest.

    The solver (Jonker & Volgenant 1987, doi:10.1007/BF02278710) is given the products less a price for
    each row and each column, which changes all sums by the same amount: the better the prices, the sooner
    it is done. They come from a few rounds of Sinkhorn's iteration in single precision (Cuturi 2013,
    arXiv:1306.0895), over-relaxed (Thibault et al. 2021, arXiv:1711.01851); however rough they are, the
    answer is the best one.

    rows, columns : (N, 3) float64, of length 1 at most
    returns       : (N,) int, a permutation
    """
    ones = np.ones((len(rows), 1))
    kernel = np.hstack([rows, -ones]).astype(np.float32) @ (
        np.hstack([columns, ones]).T.astype(np.float32) / np.float32(_TEMPERATURE)
    )
    np.exp(kernel, out=kernel)  # of (cosine - 1) / temperature
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # then they are not used
        # What each row and each column is divided by; its logarithm times the temperature is the price.
        column = kernel.sum(0)
        row = kernel @ (1 / column)
        for _ in range(_ROUNDS - 1):
            wanted = (1 / row) @ kernel
            column = wanted * (wanted / column) ** (_RELAXATION - 1)
            wanted = kernel @ (1 / column)
            row = wanted * (wanted / row) ** (_RELAXATION - 1)
        prices = _TEMPERATURE * np.log([row.astype(np.float64), column.astype(np.float64)])[..., None]
    if not np.isfinite(prices).all():
        prices[:] = 0
    cost = np.hstack([-rows, prices[0], ones]) @ np.hstack([columns, ones, prices[1]]).T
    found: NDArray[np.integer] = lap.lapjv(cost, return_cost=False)[0]
    return found.astype(np.intp)
