"""Figures of a validation as a text table and as CSV files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dentalign.errors import DentalignError
from dentalign.files import atomic, csv_table
from dentalign.teeth import SLOTS
from dentalign.validation.as_published import AS_PUBLISHED
from dentalign.validation.measurement import METHODS, Validation, mean, rounded
from dentalign.validation.metrics import MEANINGS, THRESHOLDS_MM, accuracy, reliability

LABELS = {
    "model": "model",
    "identity": "no movement",
    "mean_motion": "mean motion",
    "ridge": "ridge",
    "arch_motion": "arch motion, told",
    "true_t2": "true T2",
}
COLUMNS = (*METHODS, "true_t2")  # blocks of metrics/validation.json


def read(path: str | Path) -> dict[str, Any]:
    """Read metrics/validation.json; raises DentalignError if the file is missing or something else."""
    try:
        metrics = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DentalignError(f"{path}: no such file; `dvc repro` makes it") from None
    except (OSError, ValueError) as error:
        raise DentalignError(
            f"{path}: cannot be read as JSON ({error}); `dvc repro` makes it again"
        ) from None
    blocks = METHODS[:2]  # those that files of earlier versions have, too
    if not isinstance(metrics, dict) or not all(isinstance(metrics.get(block), dict) for block in blocks):
        raise DentalignError(
            f"{path}: not a metrics/validation.json, which has the blocks {', '.join(blocks)}; name it"
        )
    return metrics


def number(value: Any, missing: str = "–") -> str:
    """Text of a figure with three decimals, of a count without, or `missing` if there is no figure."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.3f}" if isinstance(value, float) else missing


def reported(metrics: Mapping[str, Any]) -> list[str]:
    """Names of the figures that a method or the true T2 has, in reading order.

    Of the figures after the solver, those are left out that say little of it: they are in the JSON.
    """
    names = {name for block in COLUMNS for name in metrics.get(block, {})}
    known = [name for name in MEANINGS if name in names]
    return known + sorted(name for name in names.difference(known) if not name.startswith("solved_"))


def format_table(metrics: dict[str, Any]) -> str:
    """Make the text table: a row per metric, a column per method; '-' for a figure that does not exist."""

    def shown(value: Any) -> str:
        return number(value, "-")

    columns = [block for block in COLUMNS if block in metrics]
    lines = _aligned(
        [["", *columns]]
        + [[name, *(shown(metrics[block].get(name)) for block in columns)] for name in reported(metrics)]
    )
    counts = metrics.get("counts", {})
    lines.append(
        f"add_vs_identity {shown(metrics.get('add_vs_identity'))}, "
        f"reconstruction_mm {shown(metrics.get('reconstruction_mm'))}; "
        f"{counts.get('teeth', '-')} teeth of {counts.get('cases', '-')} test cases"
    )
    if confidence := metrics.get("confidence"):
        lines.append(
            f"confidence: rank correlation {shown(confidence.get('rank_correlation'))}, expected_add_mm "
            f"{shown(confidence.get('expected_add_mm'))}, actual {shown(confidence.get('add_mm'))}"
        )
    return "\n".join(lines)


def format_as_published(metrics: dict[str, Any]) -> str:
    """Make the text table of the figures as others count them, each above our own, its source and its fault.

    raises : DentalignError if the metrics are of a version that did not count so
    """
    found = metrics.get("as_published")
    if not isinstance(found, dict):
        raise DentalignError("these metrics have no block as_published; `dvc repro` makes them again")
    columns = [method for method in METHODS if method in found]
    cells = [["", *columns]]
    for name, metric in AS_PUBLISHED.items():
        cells.append([name, *(number(found[method].get(name), "-") for method in columns)])
        cells.append([f"  ours: {metric.ours}", *(number(metrics[m].get(metric.ours), "-") for m in columns)])
    lines = [*_aligned(cells), ""]
    for name, metric in AS_PUBLISHED.items():
        lines += [f"{name}: {metric.wrong}.", f"  As in {metric.source}."]
    return "\n".join(lines)


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a text table; the first column to the left, the others to the right."""
    widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
    lines = []
    for line in cells:
        figures = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        lines.append("  ".join([line[0].ljust(widths[0]), *figures]).rstrip())
    return lines


def write_tables(folder: Path, found: Validation) -> None:
    """Write `per_slot.csv`, `cases.csv`, `accuracy.csv` and `lineage.json` into a folder.

    For a model with expected errors, `reliability.csv` is written, too.
    """
    _write_csv(folder / "per_slot.csv", per_slot(found))
    _write_csv(folder / "cases.csv", per_case(found))
    curves = {"threshold_mm": THRESHOLDS_MM} | {method: accuracy(found.teeth(method)) for method in METHODS}
    shares = np.column_stack(list(curves.values())).tolist()
    _write_csv(folder / "accuracy.csv", [dict(zip(curves, row, strict=True)) for row in shares])
    if found.expected_add_mm is not None:
        groups = reliability(found.expected_add_mm[found.measured], found.teeth("model"))
        if groups:
            _write_csv(folder / "reliability.csv", groups)
    atomic.write_text(folder / "lineage.json", json.dumps(found.lineage, indent=2, sort_keys=True) + "\n")


def per_slot(found: Validation) -> list[dict[str, Any]]:
    """Rows of `per_slot.csv`: means over the teeth of each slot with a measured tooth, in slot order."""
    names = [("model", name, name) for name in ("add_mm", "rotation_error_deg", "translation_error_mm")]
    names += [(method, "add_mm", f"{method}_add_mm") for method in METHODS[1:]]
    means = {column: mean(found.figures[method][metric], 0) for method, metric, column in names}
    teeth = found.measured.sum(0)
    return [
        {"slot": SLOTS[slot], "teeth": int(teeth[slot])}
        | {column: float(values[slot]) for column, values in means.items()}
        for slot in np.flatnonzero(teeth)
    ]


def per_case(found: Validation) -> list[dict[str, Any]]:
    """Rows of `cases.csv`, one for each test case; without figures if no tooth was measured."""
    rows = []
    for case, case_id in enumerate(found.case_ids):
        slots = np.flatnonzero(found.measured[case])
        row: dict[str, Any] = {"case_id": case_id, "teeth": len(slots)}
        if len(slots):
            add, still = (found.figures[method]["add_mm"][case, slots] for method in ("model", "identity"))
            row |= {
                "add_mm": float(add.mean()),
                "identity_add_mm": float(still.mean()),
                "worst_tooth": SLOTS[slots[add.argmax()]],
                "worst_tooth_add_mm": float(add.max()),
            }
        else:
            row |= dict.fromkeys(("add_mm", "identity_add_mm", "worst_tooth", "worst_tooth_add_mm"), "")
        rows.append(row)
    return rows


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    csv_table.write(path, list(rows[0]), map(rounded, rows))
