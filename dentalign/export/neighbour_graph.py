"""The encoder's neighbour graph with numpy alone: what an exported encoder is given beside the points."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def neighbours(points: ArrayLike, count: int) -> NDArray[np.int64]:
    """For each point the indices of its `count` nearest other points of the same tooth.

    The plain form of `dentalign.autoencoder.neighbours.nearest_neighbours`; the two may differ where two
    distances agree to 1.6e-5 of themselves.

    points  : (B, P, 3), mm, any frame: a rigid motion leaves the graph as it is
    returns : (B, P, count) int64, nearest first; of two equally near the lower index
    raises  : ValueError where a tooth has not more than `count` points
    """
    teeth = np.asarray(points, dtype=np.float64)
    if not count < teeth.shape[1]:
        raise ValueError(f"{count} neighbours need more than {count} points, got {teeth.shape[1]}")
    graph = np.empty((*teeth.shape[:2], count), np.int64)
    for tooth, found in zip(teeth, graph, strict=True):
        distance = np.square(tooth[:, None] - tooth).sum(-1)  # (P, P)
        np.fill_diagonal(distance, np.inf)
        found[:] = np.argsort(distance, axis=1, kind="stable")[:, :count]
    return graph
