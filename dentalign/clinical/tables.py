"""Clinical measures of a case at T1, predicted T2 and plan: document, table, and points to show.

S, one time: {"measures": {name: number, text, list or dict}, "not_measurable": {name: reason}}, see
`measures`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dentalign.clinical.landmarks import LANDMARK_INDEX
from dentalign.clinical.measures import FORMAT_VERSION, NAMES, NORMAL_RANGE, OF_EXPORT, off_norm
from dentalign.clinical.mouth_points import QUADRANTS, SIDES, arch_teeth
from dentalign.files import atomic, csv_table
from dentalign.mouth import T1, Mouth
from dentalign.teeth import SLOT_INDEX

TIMES = {"t1": "T1", "predicted": "predicted T2", "plan": "plan"}
COLUMNS = ("measure", *TIMES, "normal_from", "normal_to", "not_measurable")

States = Mapping[str, Mapping[str, Any]]  # key of TIMES -> S


def write(out: Path, case_id: str, states: States) -> list[Path]:
    """Write `<out>/<case_id>.json` and `<case_id>.csv`; returns their paths."""
    files = [out / f"{case_id}.json", out / f"{case_id}.csv"]
    document = {"format_version": FORMAT_VERSION, **states}
    atomic.write_text(files[0], json.dumps(document, allow_nan=False, indent=1) + "\n")
    csv_table.write(files[1], COLUMNS, rows(states))
    return files


def rows(states: States) -> list[dict[str, object]]:
    """Make the table, a row per measure and, for tip, torque and the indices, per tooth or part."""
    found = []
    told = {name for state in states.values() for part in state.values() for name in part}
    for name in (*NAMES, *(name for name in OF_EXPORT if name in told)):
        parts = [part for state in states.values() for part in _parts(state["measures"].get(name))]
        for part in sorted(set(parts)) or [""]:
            row: dict[str, object] = {"measure": f"{name}.{part}" if part else name}
            for time, state in states.items():
                value = state["measures"].get(name)
                row[time] = _text(value.get(part) if part and isinstance(value, dict) else value)
            low, high = NORMAL_RANGE.get(name, ("", ""))
            reasons = {time: state["not_measurable"][name] for time, state in states.items()
                       if name in state["not_measurable"]}  # fmt: skip
            row |= {"normal_from": low, "normal_to": high, "not_measurable": _reasons(reasons)}
            found.append(row)
    return found


@dataclass(frozen=True)
class ReportRow:
    """Row of the table in a report.

    name   : of the measure, or of its part for a tooth, such as tip_deg.11
    cells  : (text, trend) at each time; trend is "better", "worse", "same" than T1, or ""
    normal : normal range as text, or ""
    reason : why it is not measurable at some time, or ""
    marks  : points that the measure is taken from, JSON text of a list of [FDI number, x, y, z], tooth-local
             mm
    """

    name: str
    cells: tuple[tuple[str, str], ...]
    normal: str
    reason: str
    marks: str


def report_rows(states: States, mouth: Mouth) -> list[ReportRow]:
    """Make the rows of the table in a report; `mouth` has the landmarks that were measured."""
    found = []
    for row in rows(states):
        name = str(row["measure"])
        values = [state["measures"].get(name) for state in states.values()]
        cells = tuple(
            (_shown(row[time]), trend(name, values[0], value) if value is not values[0] else "")
            for time, value in zip(states, values, strict=True)
        )
        normal = f"{row['normal_from']:g} to {row['normal_to']:g}" if row["normal_to"] != "" else ""
        found.append(ReportRow(name, cells, normal, str(row["not_measurable"]), _marks(name, mouth)))
    return found


def _shown(value: object) -> str:
    return f"{value:.1f}".replace("-", "\N{MINUS SIGN}") if isinstance(value, float) else str(value)


def _marks(name: str, mouth: Mouth) -> str:
    points = []
    for fdi, landmark in sources_of(name):
        slot = SLOT_INDEX[fdi]
        point = mouth.landmarks[slot, LANDMARK_INDEX[landmark]]
        if mouth.present[T1, slot] and np.isfinite(point).all():
            points.append([int(mouth.fdi[slot]), *np.round(point.astype(float), 2).tolist()])
    return json.dumps(points)


def sources_of(name: str) -> list[tuple[int, str]]:
    """FDI numbers and landmarks that a measure is taken from; [] for measures of many points."""
    arch = "upper" if "upper" in name else "lower"
    right, left = (10 * quadrant for quadrant in QUADRANTS[arch])
    up, low = (10 * quadrant for quadrant in SIDES["left" if "left" in name else "right"])
    both = ("mesial_contact", "distal_contact")
    match name.partition("_")[0]:
        case "overjet" | "overbite":
            return [(fdi, "edge_middle") for fdi in (11, 21, 31, 41)]
        case "molar":
            return [(up + 6, "buccal_cusp"), (low + 6, "buccal_cusp"), (low + 6, "distobuccal_cusp")]
        case "canine":
            return [(up + 3, "buccal_cusp"), (low + 3, "distal_contact")]
        case "bolton":
            last = 3 if "anterior" in name else 6
            teeth = [*arch_teeth("upper", last), *arch_teeth("lower", last)]
            return [(fdi, end) for fdi in teeth for end in both]
        case "irregularity":
            return [(fdi, end) for fdi in arch_teeth(arch, 3) for end in both]
        case "crowding":
            inner = [(fdi, end) for fdi in arch_teeth(arch, 5) for end in both]
            return [*inner, (right + 6, "mesial_contact"), (left + 6, "mesial_contact")]
        case "arch":
            return [(quadrant + n, "mesial_contact") for quadrant in (right, left) for n in (1, 6)]
        case "width":
            position = int(name[6])
            return [(quadrant + position, "buccal_cusp") for quadrant in (right, left)]
        case "spee":
            cusps = [(low + n, "buccal_cusp") for n in (3, 4, 5, 6)]
            return [(low + 1, "edge_middle"), *cusps, (low + 7, "distobuccal_cusp")]
        case "upper" | "lower":
            return [(quadrant + 1, end) for quadrant in (right, left) for end in both]
    return []


def trend(name: str, before: Any, after: Any) -> str:
    """Change of a measure with a normal range: "better", "worse", "same" or, without figures, ""."""
    if name not in NORMAL_RANGE or before is None or after is None:
        return ""
    change = off_norm(name, after) - off_norm(name, before)
    return "same" if abs(change) < 0.05 else "better" if change < 0 else "worse"


def _parts(value: Any) -> list[str]:
    return list(value) if isinstance(value, dict) else []


def _text(value: Any) -> object:
    if value is None or isinstance(value, dict):
        return ""
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return value


def _reasons(reasons: Mapping[str, str]) -> str:
    """Reason of all times, or each with its time."""
    if len(set(reasons.values())) <= 1:
        return next(iter(reasons.values()), "")
    return "; ".join(f"{TIMES[time]}: {reason}" for time, reason in reasons.items())
