"""Points and widths of teeth that an export gives beside the poses, read into a mouth and checked.

Only what `fetch.keep` names is in a document, see `case_document.POINTS`. What cannot be used is left out
with a line of its own; the tooth stays, and its landmarks are then those of its mesh.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dentalign.cases.case_document import LARGEST_LOCAL_MM, POINTS, CaseDocument, LocalPoint
from dentalign.cases.findings import Findings
from dentalign.cases.settings import BuccalAxis
from dentalign.cases.slots import to_our_frame
from dentalign.errors import ToothDefect
from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.mouth import EXPORTED_NAMES, T1, Mouth

ROOT_APEX = EXPORTED_NAMES.index("root_apex")
OFF_CROWN_MM = 2.0  # from the box around a crown; contact points may lie between two crowns
WIDTH_MM = (3.0, 16.0)  # mesiodistal, of any tooth

_NAMES = {
    "MCPoint": "mesial_contact",
    "DCPoint": "distal_contact",
    "MEPoint": "edge_mesial",
    "DEPoint": "edge_distal",
    "BCPoint": "buccal_cusp",  # of incisors the middle of the edge
    "DBCPoint": "distobuccal_cusp",
    "LCPoint": "lingual_cusp",
    "MLCPoint": "lingual_cusp",
    "DLCPoint": "distolingual_cusp",
    "FAPoint": "facial_axis",
    "FEGJPoint": "facial_gingival_margin",
    "MRAPoint": "root_apex",
}


def with_exported(
    mouth: Mouth, document: CaseDocument, file: str, buccal_axis: BuccalAxis, findings: Findings
) -> Mouth:
    """Add the exported points and widths of the teeth at T1 to a mouth, in our tooth-local frame.

    file        : path or URL of the document, for the findings
    buccal_axis : buccal axis of the exporter's tooth-local frame
    findings    : gets a line for each tooth with points or a width that cannot be used
    """
    points, widths = mouth.exported_landmarks.copy(), mouth.bolton_mm.copy()
    given, ends = document.staging[0].landmarks or {}, document.bolton or {}
    for slot in np.flatnonzero(mouth.present[T1]).tolist():
        fdi = int(mouth.fdi[slot])
        wrong = []
        for key, point in given.get(str(fdi), {}).items():
            name = "edge_middle" if key == "BCPoint" and fdi % 10 <= 2 else _NAMES[key]
            points[slot, EXPORTED_NAMES.index(name)] = place = _place(point)
            wrong += [] if np.isfinite(place).all() else [key]
        both = [ends.get(str(fdi), {}).get(key) for key in POINTS["bolton"]]
        if any(both):
            start, end = (_place(point) for point in both)
            width = np.linalg.norm(end - start)
            if WIDTH_MM[0] <= width <= WIDTH_MM[1]:
                widths[slot] = width
            else:
                wrong.append("Bolton width" + (f" of {width:.1f} mm" if np.isfinite(width) else ""))
        if wrong:
            findings.add(_bad(fdi, wrong, file))
    points = (points @ to_our_frame(buccal_axis).T).astype(np.float32)
    return replace(mouth, exported_landmarks=points, bolton_mm=widths)


def on_crown(
    points: NDArray[np.float32], triangles: Array, fdi: int, file: str, findings: Findings
) -> NDArray[np.float32]:
    """Return the exported points (E, 3) of a tooth without those that are not on its crown.

    triangles : (F, 3, 3) mm, tooth-local in our frame
    file      : path or URL of the mesh, for the finding
    findings  : gets a line if a point is not on the crown, or the root apex not below its top
    """
    low, high = triangles.min((0, 1)) - OFF_CROWN_MM, triangles.max((0, 1)) + OFF_CROWN_MM
    off = ((points < low) | (points > high)).any(1)
    off[ROOT_APEX] = points[ROOT_APEX, 2] > low[2]
    if off.any():
        names = ", ".join(name for name, is_off in zip(EXPORTED_NAMES, off, strict=True) if is_off)
        seen = f"exported points more than {OFF_CROWN_MM:g} mm off the crown (an apex: not below it): {names}"
        fix = "export tooth-local points, in mm, with the axes of the meshes; they are not used"
        findings.add(ToothDefect("point_off_crown", seen, fix, file=file, tooth=fdi))
    return np.where(off[:, None], np.float32(np.nan), points)


def apex_travel_mm(mouth: Mouth, pose: Array) -> Array:
    """Distance (32,), mm, that each root apex travels from T1 to the poses (32, 4, 4), tooth-local -> head.

    NaN where the export gives no apex. The root is taken as rigid, one with its crown.
    """
    apex = mouth.exported_landmarks[:, [ROOT_APEX]].astype(np.float64)
    travel = np.linalg.norm(rigid.apply(pose, apex) - rigid.apply(mouth.pose[T1], apex), axis=-1)
    return np.asarray(travel[:, 0])


def _place(point: LocalPoint | None) -> Array:
    point = point or LocalPoint()
    return np.array([np.nan if value is None else value for value in (point.x, point.y, point.z)])


def _bad(fdi: int, wrong: list[str], file: str) -> ToothDefect:
    seen = (
        f"not three numbers from -{LARGEST_LOCAL_MM:g} to {LARGEST_LOCAL_MM:g} mm, or not a width from "
        f"{WIDTH_MM[0]:g} to {WIDTH_MM[1]:g} mm: {', '.join(wrong)}"
    )
    fix = "correct them in the planning system and export again; they are not used"
    return ToothDefect("bad_point", seen, fix, file=file, tooth=fdi)
