"""The nearest-neighbour graph of a tooth's points."""

import torch


def nearest_neighbours(points: torch.Tensor, count: int) -> torch.Tensor:
    """For each point the indices of its `count` nearest other points of the same tooth.

    Rigid motions leave the graph as it is, so one graph serves T1, T2 and every moved copy.

    points  : (B, P, 3) float, mm, any frame; P > count
    returns : (B, P, count) int64
    raises  : ValueError where there are too few points
    """
    if points.shape[1] <= count:
        raise ValueError(f"{count} neighbours need more than {points.shape[1]} points")
    # Direct differences: the matrix-product form of cdist loses the digits that decide.
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    return distance.topk(count, dim=2, largest=False, sorted=True).indices
