"""Nearest-neighbour graph of a tooth's points."""

import torch

TEETH_AT_ONCE = 7  # on a CPU: the distances of 7 teeth of 256 points, 1.8 MB, stay in its caches


def nearest_neighbours(points: torch.Tensor, count: int) -> torch.Tensor:
    """Find, for each point, the `count` nearest other points of its tooth.

    Squared distances are compared by their leading 31 - b bits, where an index has b bits: with 256 points,
    distances count as equal up to a difference of 1.6e-5 of the distance. Of two points at equal distances,
    that with the lower index is the nearer. Rigid motions do not change the graph, so one graph serves T1, T2
    and every moved copy.

    points  : (B, P, 3) float32, mm, any frame; count < P <= 65,536
    returns : (B, P, count) int64 indices, nearest first
    raises  : ValueError where P is too small or too large
    """
    if not count < points.shape[1] <= 1 << 16:
        raise ValueError(f"{count} neighbours need {count + 1} to 65,536 points, got {points.shape[1]}")
    at_once = TEETH_AT_ONCE if points.device.type == "cpu" else max(1, len(points))
    return torch.cat([_nearest(part.float(), count) for part in points.split(at_once)])


def _nearest(points: torch.Tensor, count: int) -> torch.Tensor:
    """Neighbours of one part; an index stands in the lowest bits of its distance: `amin` finds both."""
    number = points.shape[1]
    index_bits = (1 << (number - 1).bit_length()) - 1
    keys = _squared_distances(points).view(torch.int32)  # floats >= 0 sort like the integers of their bits
    keys.bitwise_and_(~index_bits).bitwise_or_(torch.arange(number, dtype=torch.int32, device=points.device))
    found = []
    for _ in range(count):
        nearest = keys.amin(2, keepdim=True).bitwise_and_(index_bits).long()
        found.append(nearest)
        keys.scatter_(2, nearest, torch.iinfo(torch.int32).max)
    return torch.cat(found, dim=2)


def _squared_distances(points: torch.Tensor) -> torch.Tensor:
    """Squared distances (B, P, P), infinite on the diagonal; products would lose the digits that decide."""
    x, y, z = points.mT.contiguous().unbind(1)  # (B, P) each
    total = (x[:, :, None] - x[:, None, :]).square_()
    for axis in (y, z):
        apart = axis[:, :, None] - axis[:, None, :]
        total.addcmul_(apart, apart)
    total.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    return total
