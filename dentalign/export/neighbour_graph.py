"""Neighbour graph of the points, with numpy only: the second input of an exported encoder."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def neighbours(points: ArrayLike, count: int) -> NDArray[np.int64]:
    """Find the indices of the `count` nearest other points of the same tooth, for each point.

    Gives what `dentalign.autoencoder.neighbours.nearest_neighbours` gives, except perhaps for two distances
    that differ by less than 1.6e-5 of themselves.

    points  : (B, P, 3), mm, any frame, as a rigid motion does not change the graph
    returns : (B, P, count) int64, nearest first; of two equal distances, the lower index first
    raises  : ValueError if P is not larger than `count`
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
