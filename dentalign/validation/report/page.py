"""The report of a validation in one file: figures, charts, three cases in 3D, and where they come from."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import DentalignError
from dentalign.files import atomic
from dentalign.reports import page as reports_page
from dentalign.reports import svg_charts
from dentalign.reports.mouth_picture import FULL_COLOUR_AT_MM
from dentalign.reports.svg_charts import Bars, Box, Line
from dentalign.teeth import ARCHES, SLOTS
from dentalign.validation.measurement import METHODS, Validation
from dentalign.validation.metrics import AUC_LIMIT_MM, THRESHOLDS_MM, accuracy, reliability
from dentalign.validation.report import scenes as report_scenes
from dentalign.validation.report.pictures import LABELS, chosen_cases, read_curve
from dentalign.validation.report.tables import per_case
from dentalign.validation.reported_metrics import BIGGER_IS_BETTER, COMPARED, MEANINGS

MOST_LEFT_OUT_LINES = 500  # in the page; the CSV has them all

_COLUMNS = (*METHODS, "true_t2")
_SPREADS = {
    "add_mm": "ADD, mm",
    "rotation_error_deg": "rotation error, °",
    "translation_error_mm": "translation error, mm",
}


def write(
    path: str | Path,
    found: Validation,
    latents: str | Path,
    train_log: Path | None = None,
    left_out: Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    model_cards: Mapping[str, str] | None = None,
) -> None:
    """Write the report of a validation as one self-contained HTML file, all or nothing.

    path       : the file, usually `reports/validation/index.html`
    latents    : the file the validation was made on, for the teeth
    train_log  : folder of the training's curves; None, or a folder without curves: no such charts
    left_out   : the CSV of what was left out; None, or no such file: the report says that it has none
    parameters : section -> values, of params.yaml: shown, with their hash
    model_cards : model -> its card, as a link from the page; None: no such links
    raises     : DentalignError where a curve or the list cannot be read
    """
    chosen = chosen_cases(found)
    with MouthStore(latents) as store:
        scenes = [report_scenes.scene(found, store, number) for number in chosen.values()]
    add = found.figures["model"]["add_mm"]
    cases = [
        {"label": f"{name}: {found.case_ids[number]} ({add[found.case == number].mean():.2f} mm)"}
        for name, number in chosen.items()
    ]
    rendered = reports_page.render(
        "validation.html",
        scenes,
        ends={"add_mm": FULL_COLOUR_AT_MM},
        counts=found.metrics["counts"],
        verdict=verdict(found.metrics),
        methods=[(method, LABELS[method]) for method in METHODS],
        metrics=_metrics(found.metrics),
        add_vs_identity=_figure(found.metrics.get("add_vs_identity")),
        reconstruction_mm=_figure(found.metrics["reconstruction_mm"]),
        accuracy=_accuracy(found),
        spreads=[(title, _spread(found, name, title)) for name, title in _SPREADS.items()],
        slots=_slots(found),
        confidence=_confidence(found),
        cases=cases,
        case_rows=_case_rows(found, chosen),
        curves=_curves(train_log),
        lineage=_lineage(found, left_out),
        parameters=[(name, json.dumps(value, sort_keys=True)) for name, value in (parameters or {}).items()],
        parameters_sha256=_hash_of(parameters) if parameters else "",
        left_out=_left_out(left_out),
        model_cards=model_cards or {},
    )
    atomic.write_bytes(path, rendered)


def verdict(metrics: Mapping[str, Any]) -> str:
    """One sentence on add_mm: whether the model beats both baselines."""
    model, others = metrics["model"]["add_mm"], [metrics[method]["add_mm"] for method in METHODS[1:]]
    better = sum(model < other for other in others)
    words = ("worse than both baselines", "better than one of two baselines", "better than both baselines")
    return (
        f"The model is {words[better]}: ADD {model:.2f} mm, against {others[0]:.2f} mm without movement "
        f"and {others[1]:.2f} mm with the mean motion of each slot."
    )


def _metrics(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per metric; the best of the three methods is marked where they compete."""
    rows = []
    for name, meaning in MEANINGS.items():
        values = {column: metrics.get(column, {}).get(name) for column in _COLUMNS}
        competing = [values[method] for method in METHODS if values[method] is not None]
        best = (max if name in BIGGER_IS_BETTER else min)(competing) if name in COMPARED else None
        cells = [
            {"text": _figure(value), "best": best is not None and column in METHODS and value == best}
            for column, value in values.items()
        ]
        # A long name may break after an underscore, nowhere else.
        rows.append({"name": Markup("_<wbr>").join(name.split("_")), "meaning": meaning, "cells": cells})
    return rows


def _accuracy(found: Validation) -> Markup:
    shares = {method: 100 * accuracy(found.figures[method]["add_mm"]) for method in METHODS}
    at_1 = int(np.searchsorted(THRESHOLDS_MM, 1.0))
    within = ", ".join(f"{LABELS[method]} {share[at_1]:.0f} %" for method, share in shares.items())
    return svg_charts.lines(
        [Line(method, THRESHOLDS_MM, share) for method, share in shares.items()],
        says=f"Share of teeth within 0 to {AUC_LIMIT_MM:g} mm of their true place; within 1 mm: {within}",
        x_label="distance (ADD), mm",
        y_label="share of teeth, %",
        y_top=100.0,
    )


def _spread(found: Validation, name: str, title: str) -> Markup:
    values = {method: found.figures[method][name] for method in METHODS}
    medians = ", ".join(f"{LABELS[method]} {np.median(value):.3g}" for method, value in values.items())
    return svg_charts.boxes(
        [Box(method, LABELS[method], value) for method, value in values.items()],
        says=f"Distribution over teeth of {title}; medians: {medians}",
        x_label=title,
    )


def _confidence(found: Validation) -> dict[str, Any] | None:
    """Whether the errors that the model expects are those it makes; None where it expects none."""
    figures = found.metrics.get("confidence")
    if found.expected_add_mm is None or not figures or "add_mm" not in figures:
        return None
    groups = reliability(found.expected_add_mm, found.figures["model"]["add_mm"])
    seen, expected = (np.array([group[name] for group in groups]) for name in ("add_mm", "expected_add_mm"))
    words = (
        f"It expects {figures['expected_add_mm']:.2f} mm on average and is off by {figures['add_mm']:.2f} mm;"
        f" rank correlation of the two over teeth: {_figure(figures.get('rank_correlation'))}"
    )
    chart = svg_charts.bars(
        [Bars("model", seen), Bars("expected", expected)],
        [f"{value:.2f}" for value in expected],
        says=f"Mean ADD seen and expected, mm, in {len(groups)} groups of teeth. {words}",
        y_label="mean ADD, mm",
        top=1.04 * float(max(seen.max(), expected.max())),
    )
    return {"words": f"{words}.", "chart": chart}


def _slots(found: Validation) -> list[tuple[str, Markup]]:
    """Mean ADD per slot, the upper arch above the lower, the patient's right on the left."""
    means = {}
    for method in METHODS:
        add = found.figures[method]["add_mm"]
        here = [add[found.slot == slot] for slot in range(len(SLOTS))]
        means[method] = np.array([values.mean() if len(values) else np.nan for values in here])
    top = 1.04 * float(np.nanmax([np.nanmax(value) for value in means.values()])) or 1.0
    charts = []
    for arch, slots in reversed(ARCHES.items()):
        across = slots if arch == "upper" else slots[::-1]  # lower slots run from the patient's left
        model = means["model"][across]
        worst = (
            f"; worst slot of the model: {SLOTS[across[np.nanargmax(model)]]}"
            if np.isfinite(model).any()
            else ""
        )
        chart = svg_charts.bars(
            [Bars(method, value[across]) for method, value in means.items()],
            [str(SLOTS[slot]) for slot in across],
            says=f"Mean ADD per tooth slot, {arch} arch, mm{worst}",
            y_label="mean ADD, mm",
            top=top,
        )
        charts.append((f"{arch.capitalize()} arch", chart))
    return charts


def _case_rows(found: Validation, chosen: Mapping[str, int]) -> list[dict[str, Any]]:
    """A row per test case; `view` is the number of its 3D view, None where it has none."""
    views = {number: view for view, number in reversed(list(enumerate(chosen.values())))}
    rows = []
    for number, row in enumerate(per_case(found)):
        values = [
            row[name] for name in ("teeth", "add_mm", "identity_add_mm", "worst_tooth", "worst_tooth_add_mm")
        ]
        cells = [{"value": v, "text": v if isinstance(v, int) else _figure(v)} for v in values]
        rows.append({"case_id": row["case_id"], "view": views.get(number), "cells": cells})
    return rows


def _curves(train_log: Path | None) -> list[tuple[str, Markup]]:
    charts = []
    folder = train_log / "plots" / "metrics" if train_log else None
    if folder and (folder / "loss.tsv").is_file():
        steps, loss = read_curve(folder / "loss.tsv", "loss")
        positive = bool((loss > 0).all())
        chart = svg_charts.lines(
            [Line("model", steps, loss)],
            says=f"Training loss by epoch, from {loss[0]:.3g} to {loss[-1]:.3g} (units: docs/metrics.md)",
            x_label="epoch", y_label="loss (train)", log_y=positive,
        )  # fmt: skip
        charts.append(("Loss on the training cases", chart))
    if folder and (folder / "val_add_mm.tsv").is_file():
        steps, add = read_curve(folder / "val_add_mm.tsv", "val_add_mm")
        best = int(add.argmin())
        chart = svg_charts.lines(
            [Line("mean_motion", steps, add)],
            says=f"ADD on the validation cases by epoch; best {add[best]:.3f} mm at epoch {steps[best]:.0f}",
            x_label="epoch", y_label="ADD (validation), mm",
            # Spikes of the first epochs must not flatten the rest.
            y_top=1.05 * max(float(np.quantile(add, 0.98)), 1.2 * float(add.min())),
            mark=(float(steps[best]), float(add[best])),
        )  # fmt: skip
        charts.append(
            (f"ADD on the validation cases, best {add[best]:.3f} mm at epoch {steps[best]:.0f}", chart)
        )
    return charts


def _lineage(found: Validation, left_out: Path | None) -> list[tuple[str, str]]:
    """What the figures come from, and its SHA-256."""
    rows = [(name.removesuffix("_sha256"), value) for name, value in sorted(found.lineage.items())]
    if left_out is not None and left_out.is_file():
        rows.append(("list of what was left out", hashlib.sha256(left_out.read_bytes()).hexdigest()))
    return rows


def _left_out(path: Path | None) -> dict[str, Any] | None:
    """Lines of the list, counts by reason, and how many lines the page does not hold; None without a list."""
    if path is None or not path.is_file():
        return None
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = [{name: row[name] for name in ("case_id", "tooth", "stage", "code", "seen", "mend")}
                     for row in csv.DictReader(file)]  # fmt: skip
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise DentalignError(f"{path}: not the list of what was left out ({error!r})") from None
    return {
        "lines": lines[:MOST_LEFT_OUT_LINES],
        "more": max(0, len(lines) - MOST_LEFT_OUT_LINES),
        "cases": sum(not line["tooth"] for line in lines),
        "teeth": sum(bool(line["tooth"]) for line in lines),
        "codes": sorted(
            Counter(line["code"] for line in lines).items(), key=lambda item: (-item[1], item[0])
        ),
    }


def _hash_of(parameters: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode("utf-8")).hexdigest()


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "–"
