"""Cut crowns out of a scan whose vertices or faces are labelled with tooth numbers."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from trimesh import Trimesh
from trimesh.graph import connected_component_labels

from dentalign.errors import CaseDefect, ToothDefect
from dentalign.geometry import stl
from dentalign.geometry.rigid import Array

GUM = 0
SAME_MM = 1e-3  # a labelled point this near to a vertex of the scan is that vertex
SAME_SHARE = 0.9
OFF_SCAN_MM = 1.0
REACH = 1.5  # times the median distance of a labelled point from the next one
MIN_FACES = 20
WHOLE_SHARE = 0.7  # of a label's area: a largest piece with less is no crown
LABEL_IS_WRONG = "label this tooth again in the scan; in a public data set the tooth stays left out"


def surface(triangles: Array) -> Trimesh:
    """Make a surface from triangles (F, 3, 3): equal corners become one vertex, vertices are sorted."""
    return Trimesh(*stl.merged(triangles), process=False)


def labels_of_points(scan: Array, marked: Mapping[int, Array], file: str = "") -> NDArray[np.int64]:
    """Label each vertex of a scan with a tooth number, or GUM, from labelled points.

    If the points are vertices of the scan, exactly these vertices are labelled. Otherwise the points are
    those of a simplified or resampled scan. A vertex then takes the number of the nearest point, up to a
    distance of 1.5 times (REACH) the points' own spacing; a crown may have a border of gum of that width.

    scan    : vertices (V, 3), mm
    marked  : FDI -> labelled points (N, 3), mm
    returns : (V,)
    raises  : CaseDefect if the points do not lie on the scan
    """
    numbers = np.concatenate([np.full(len(points), fdi) for fdi, points in marked.items()])
    points = np.concatenate(list(marked.values()))
    away, nearest = cKDTree(scan).query(points)
    off = float(np.mean(away > OFF_SCAN_MM))
    if off > 1 - SAME_SHARE:
        seen = (
            f"{off:.0%} of the labelled vertices lie over {OFF_SCAN_MM:g} mm from the scan, at most "
            f"{1 - SAME_SHARE:.0%} may"
        )
        fix = "scan and labels do not belong together: download both again"
        raise CaseDefect("labels_off_scan", seen, fix, file=file)
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
    scan: Trimesh, labels: NDArray[np.int64], file: str = ""
) -> tuple[dict[int, Trimesh], list[ToothDefect]]:
    """Cut the crowns out of a scan whose vertices are labelled; `labels_of_faces` then labels its faces.

    labels  : (V,) tooth number of each vertex of the scan, or GUM
    returns : FDI -> crown, the largest connected piece of its label; a defect for each number without a crown
    """
    return cut_faces(scan, labels_of_faces(scan.faces, labels), np.unique(labels).tolist(), file)


def labels_of_faces(faces: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Label each face (F,) by the labels (V,) of its vertices: the one that two or three share, or GUM."""
    corner = labels[faces]
    middle = np.sort(corner, axis=1)[:, 1]  # the label with the majority, if any has it
    return np.where((corner == middle[:, None]).sum(1) >= 2, middle, GUM)


def cut_faces(
    scan: Trimesh, labels: NDArray[np.int64], numbers: Iterable[int], file: str = ""
) -> tuple[dict[int, Trimesh], list[ToothDefect]]:
    """Cut the crowns out of a scan whose faces are labelled.

    labels  : (F,) tooth number of each face of the scan, or GUM
    numbers : tooth numbers whose crowns are cut out
    returns : as for `cut`
    """
    crowns, lost = {}, []
    for fdi in sorted(set(numbers) - {GUM}):
        whole = _part(scan, labels == fdi)
        piece, share = _largest_piece(whole) if len(whole.faces) else (whole, 0.0)
        seen = f"the label covers no crown (under {MIN_FACES} faces in a piece, or no area)"
        if len(piece.faces) >= MIN_FACES and share > 0:
            if share >= WHOLE_SHARE:
                crowns[fdi] = piece
                continue
            seen = f"the largest piece of the label has {share:.0%} of its area, under {WHOLE_SHARE:.0%}"
        lost.append(ToothDefect("label_scattered", seen, LABEL_IS_WRONG, file=file, tooth=fdi))
    return crowns, lost


def _largest_piece(whole: Trimesh) -> tuple[Trimesh, float]:
    """Largest connected piece of a surface, by area, and its share of the area."""
    piece_of = connected_component_labels(whole.edges_unique, node_count=len(whole.vertices))
    piece = piece_of[whole.faces[:, 0]]
    areas = np.bincount(piece, whole.area_faces)
    if not areas.sum() > 0:
        return whole, 0.0
    largest = int(areas.argmax())
    return _part(whole, piece == largest), float(areas[largest] / areas.sum())


def _part(surface: Trimesh, faces: NDArray[np.bool_]) -> Trimesh:
    """Some of the faces (F,), with the vertices that they need."""
    used, index = np.unique(surface.faces[faces], return_inverse=True)
    return Trimesh(surface.vertices[used], index.reshape(-1, 3), process=False)
