"""The figures of `validate` as people read them: a text table, and CSV files."""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dentalign.errors import DentalignError
from dentalign.files import atomic
from dentalign.teeth import SLOTS
from dentalign.validation.measurement import METHODS, Validation, rounded
from dentalign.validation.metrics import THRESHOLDS_MM, accuracy, reliability
from dentalign.validation.reported_metrics import MEANINGS

_ROWS = (*METHODS, "true_t2")


def read(path: str | Path) -> dict[str, Any]:
    """The metrics in a file; raises DentalignError where it is missing or not such a file."""
    try:
        metrics = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DentalignError(f"{path}: no such file; `dvc repro` makes it") from None
    except (OSError, ValueError) as error:
        raise DentalignError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(metrics, dict) or not all(isinstance(metrics.get(row), dict) for row in METHODS):
        raise DentalignError(f"{path}: not the metrics of validate ({', '.join(METHODS)} are wanted)")
    return metrics


def format_table(metrics: dict[str, Any]) -> str:
    """A row per method, a column per metric, units in the names; '-' where a figure does not exist."""
    rows = [row for row in _ROWS if row in metrics]
    columns = sorted({name for row in rows for name in metrics[row]}, key=_reading_order)
    cells = [["", *columns]]
    for row in rows:
        cells.append([row, *(_figure(metrics[row].get(name)) for name in columns)])
    widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
    lines = []
    for line in cells:
        figures = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        lines.append("  ".join([line[0].ljust(widths[0]), *figures]).rstrip())
    counts = metrics.get("counts", {})
    lines.append(
        f"add_vs_identity {_figure(metrics.get('add_vs_identity'))}, "
        f"reconstruction_mm {_figure(metrics.get('reconstruction_mm'))}; "
        f"{counts.get('teeth', '-')} teeth of {counts.get('cases', '-')} test cases"
    )
    if confidence := metrics.get("confidence"):
        lines.append(
            f"confidence: rank correlation {_figure(confidence.get('rank_correlation'))}, expected_add_mm "
            f"{_figure(confidence.get('expected_add_mm'))}, seen {_figure(confidence.get('add_mm'))}"
        )
    return "\n".join(lines)


def write_tables(folder: Path, found: Validation) -> None:
    """Write `per_slot.csv`, `cases.csv`, `accuracy.csv` and `lineage.json` into a folder.

    And `reliability.csv`, where the model says what error it expects.
    """
    _write_csv(folder / "per_slot.csv", per_slot(found))
    _write_csv(folder / "cases.csv", per_case(found))
    curves = {method: accuracy(found.figures[method]["add_mm"]) for method in METHODS}
    shares = [
        {"threshold_mm": float(threshold), **{method: float(curves[method][i]) for method in METHODS}}
        for i, threshold in enumerate(THRESHOLDS_MM)
    ]
    _write_csv(folder / "accuracy.csv", shares)
    if found.expected_add_mm is not None and np.isfinite(found.expected_add_mm).any():
        _write_csv(
            folder / "reliability.csv", reliability(found.expected_add_mm, found.figures["model"]["add_mm"])
        )
    atomic.write_text(folder / "lineage.json", json.dumps(found.lineage, indent=2, sort_keys=True) + "\n")


def per_slot(found: Validation) -> list[dict[str, Any]]:
    """A row for each slot that occurs, in slot order; means over its teeth."""
    rows = []
    for slot in np.unique(found.slot).tolist():
        here = found.slot == slot
        row: dict[str, Any] = {"slot": SLOTS[slot], "teeth": int(here.sum())}
        for name in ("add_mm", "rotation_error_deg", "translation_error_mm"):
            row[name] = float(found.figures["model"][name][here].mean())
        for method in METHODS[1:]:
            row[f"{method}_add_mm"] = float(found.figures[method]["add_mm"][here].mean())
        rows.append(row)
    return rows


def per_case(found: Validation) -> list[dict[str, Any]]:
    """A row for each test case; without teeth at both T1 and T2 it has no figures."""
    rows = []
    for number, case_id in enumerate(found.case_ids):
        here = np.flatnonzero(found.case == number)
        row: dict[str, Any] = {"case_id": case_id, "teeth": len(here)}
        if len(here):
            add = found.figures["model"]["add_mm"][here]
            row["add_mm"] = float(add.mean())
            row["identity_add_mm"] = float(found.figures["identity"]["add_mm"][here].mean())
            row["worst_tooth"] = SLOTS[int(found.slot[here[add.argmax()]])]
            row["worst_tooth_add_mm"] = float(add.max())
        else:
            row |= dict.fromkeys(("add_mm", "identity_add_mm", "worst_tooth", "worst_tooth_add_mm"), "")
        rows.append(row)
    return rows


def _reading_order(name: str) -> tuple[int, str]:
    order = list(MEANINGS)
    return (order.index(name), name) if name in order else (len(order), name)


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "-"


def _write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    listed = [rounded(row) for row in rows]
    text = io.StringIO()
    table = csv.DictWriter(text, list(listed[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(listed)
    atomic.write_text(path, text.getvalue())
