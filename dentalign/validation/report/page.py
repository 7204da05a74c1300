"""Report of a validation as one HTML file: figures, charts, three cases in 3D, and the lineage."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import DentalignError
from dentalign.files import atomic
from dentalign.reports import page as reports_page
from dentalign.reports.mouth_picture import FULL_COLOUR_AT_MM
from dentalign.validation.measurement import COMPARED_METHODS, Validation, mean
from dentalign.validation.metrics import BIGGER_IS_BETTER, COMPARED, MEANINGS
from dentalign.validation.report import charts
from dentalign.validation.report.pictures import chosen_cases, scene
from dentalign.validation.report.tables import COLUMNS, LABELS, number, per_case, reported

MOST_LEFT_OUT_LINES = 500  # in the page; the CSV has them all
_AGAINST = {
    "identity": "without movement",
    "mean_motion": "with the mean motion of each slot",
    "ridge": "with ridge regression",
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

    path        : the file, usually `reports/validation/index.html`
    latents     : latents file of the validation; the teeth are read from it
    train_log   : DVCLive's folder of the training; None, or a folder without curves: no chart of the training
    left_out    : CSV of what was left out; None, or a missing file: the report has a sentence in its place
    parameters  : section of params.yaml -> its values, shown with their hash
    model_cards : model -> address of its model card relative to the page; None: no links
    raises      : DentalignError if a curve or the list cannot be read
    """
    metrics, chosen = found.metrics, chosen_cases(found)
    with MouthStore(latents) as store:
        scenes = [scene(found, store, case) for case in chosen.values()]
    add_mm = mean(found.figures["model"]["add_mm"], 1)
    texts = {name: json.dumps(values, sort_keys=True) for name, values in (parameters or {}).items()}
    lineage = {name.removesuffix("_sha256"): value for name, value in sorted(found.lineage.items())}
    if left_out is not None and left_out.is_file():
        lineage["list of what was left out"] = hashlib.sha256(left_out.read_bytes()).hexdigest()
    if parameters:
        text = json.dumps(parameters, sort_keys=True)
        lineage["parameters"] = hashlib.sha256(text.encode("utf-8")).hexdigest()
    rendered = reports_page.render_viewer(
        "validation.html",
        scenes,
        ends={"add_mm": FULL_COLOUR_AT_MM},
        number=number,
        metrics=metrics,
        verdict=verdict(metrics),
        meanings={name: MEANINGS[name] for name in reported(metrics)},
        columns={name: LABELS[name] for name in COLUMNS},
        compared=COMPARED_METHODS,
        best={name: _best(name)(metrics[method][name] for method in COMPARED_METHODS) for name in COMPARED},
        spread=[charts.accuracy_chart(found), *charts.spread_charts(found)],
        slots=charts.slot_chart(found),
        confidence=charts.confidence_chart(found),
        training=charts.training_chart(train_log),
        cases=[f"{name}: {found.case_ids[case]} ({add_mm[case]:.2f} mm)" for name, case in chosen.items()],
        case_rows=per_case(found),
        views={found.case_ids[case]: view for view, case in reversed(list(enumerate(chosen.values())))},
        lineage=lineage,
        parameters=texts,
        left_out=_left_out(left_out),
        model_cards=model_cards or {},
    )
    atomic.write_bytes(path, rendered)


def verdict(metrics: Mapping[str, Any]) -> str:
    """Sentence that compares the model's add_mm with the baselines; not with those told of the plan."""
    model, *others = (metrics[method]["add_mm"] for method in COMPARED_METHODS)
    better = sum(model < other for other in others)
    words = {0: "worse than all", len(others): "better than all"}.get(better, f"better than {better} of the")
    named = [
        f"{other:.2f} mm {_AGAINST[name]}" for name, other in zip(COMPARED_METHODS[1:], others, strict=True)
    ]
    return (
        f"The model is {words} {len(others)} baselines: ADD {model:.2f} mm, against "
        f"{', '.join(named[:-1])} and {named[-1]}."
    )


def _best(metric: str) -> Any:
    return max if metric in BIGGER_IS_BETTER else min


def _left_out(path: Path | None) -> dict[str, Any] | None:
    """Lines of the list, counts by reason, and the number of lines not shown; None without a list."""
    if path is None or not path.is_file():
        return None
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = [{name: row[name] for name in ("case_id", "tooth", "stage", "code", "seen", "fix")}
                     for row in csv.DictReader(file)]  # fmt: skip
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise DentalignError(
            f"{path}: not the list of what was left out ({type(error).__name__}); `dvc repro` makes it again"
        ) from None
    return {
        "lines": lines[:MOST_LEFT_OUT_LINES],
        "more": max(0, len(lines) - MOST_LEFT_OUT_LINES),
        "cases": sum(not line["tooth"] for line in lines),
        "teeth": sum(bool(line["tooth"]) for line in lines),
        "codes": Counter(sorted(line["code"] for line in lines)).most_common(),
    }
