"""Crowns out of a scan whose vertices are labelled with tooth numbers."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from dentalign.errors import CaseDefect, ToothDefect
from dentalign.geometry.rigid import Array
from dentalign.importers.imported_case import Surface

GUM = 0
SAME_MM = 1e-3  # a labelled vertex this near to one of the scan is that vertex
SAME_SHARE = 0.9
OFF_SCAN_MM = 1.0
REACH = 1.5  # times the median distance of neighbouring points
MIN_FACES = 20
WHOLE_SHARE = 0.7  # of a tooth's area: less in the largest piece is no crown


def labels_of_points(scan: Array, marked: Mapping[int, Array], file: str = "") -> NDArray[np.int64]:
    """A tooth number for each vertex of a scan, GUM where it is none, from labelled points.

    Where the points are the scan's own vertices, exactly these are labelled. Else (a simplified or resampled
    scan was labelled) a vertex takes the number of the nearest point, if that is no further than such points
    are from each other; a crown then has up to that much of the gum.

    scan   : (V, 3), mm
    marked : FDI -> (N, 3), mm
    raises : CaseDefect where the points do not lie on the scan
    """
    numbers = np.concatenate([np.full(len(points), fdi) for fdi, points in marked.items()])
    points = np.concatenate(list(marked.values()))
    away, nearest = cKDTree(scan).query(points)
    off = float(np.mean(away > OFF_SCAN_MM))
    if off > 1 - SAME_SHARE:
        seen = f"{off:.0%} of the labelled vertices lie over {OFF_SCAN_MM:g} mm from the scan"
        raise CaseDefect(
            "labels_off_scan", seen, "the two files are not of one scan: download both again", file=file
        )
    labels = np.full(len(scan), GUM, dtype=np.int64)
    tree = cKDTree(points)
    spacing = float(np.median(tree.query(points, k=2)[0][:, 1]))
    distance, index = tree.query(scan)
    near = distance <= max(REACH * spacing, SAME_MM)
    labels[nearest] = numbers
    # Between the vertices of a simplified scan lie many of the scan that it was made of.
    between = np.count_nonzero(near & (labels == GUM))
    if np.mean(away <= SAME_MM) < SAME_SHARE or between > np.count_nonzero(labels):
        labels[:] = GUM
        labels[near] = numbers[index[near]]
    return labels


def cut(
    scan: Surface, labels: NDArray[np.int64], file: str = ""
) -> tuple[dict[int, Surface], list[ToothDefect]]:
    """The crowns of a labelled scan, and the numbers whose label is no crown.

    A face belongs to a tooth if two of its three vertices do. Specks apart from the largest piece are left.
    """
    corner = labels[scan.faces]
    # Two of three: the middle one of the sorted labels is that of the majority, if there is one.
    middle = np.sort(corner, axis=1)[:, 1]
    majority = np.where((corner == middle[:, None]).sum(1) >= 2, middle, GUM)
    crowns, lost = {}, []
    for fdi in sorted(set(np.unique(labels).tolist()) - {GUM}):
        piece, share = _largest_piece(scan, scan.faces[majority == fdi])
        if piece is None or len(piece.faces) < MIN_FACES or share < WHOLE_SHARE:
            seen = "the label covers no crown" if piece is None or len(piece.faces) < MIN_FACES else (
                f"the largest piece of the label is only {share:.0%} of its area"
            )  # fmt: skip
            lost.append(
                ToothDefect("label_scattered", seen, "nothing, the label is so", file=file, tooth=fdi)
            )
        else:
            crowns[fdi] = piece
    return crowns, lost


def _largest_piece(scan: Surface, faces: NDArray[np.int64]) -> tuple[Surface | None, float]:
    """The largest connected piece by area, and its share of the area."""
    if not len(faces):
        return None, 0.0
    used, index = np.unique(faces, return_inverse=True)
    own = index.reshape(-1, 3)
    edges = np.concatenate([own[:, :2], own[:, 1:]])
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(len(used), len(used)))
    piece_of = connected_components(graph, directed=False)[1][own[:, 0]]
    corners = scan.vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    areas = np.bincount(piece_of, area)
    if not areas.sum() > 0:
        return None, 0.0
    best = int(areas.argmax())
    kept, renumbered = np.unique(own[piece_of == best], return_inverse=True)
    piece = Surface(scan.vertices[used[kept]], renumbered.reshape(-1, 3).astype(np.int64))
    return piece, float(areas[best] / areas.sum())
