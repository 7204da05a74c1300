"""Charts of a validation, for the page of the report and for the folder of pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from dentalign.errors import DentalignError
from dentalign.files import csv_table
from dentalign.geometry.rigid import Array
from dentalign.reports.charts import COLOURS, Chart, empty, style
from dentalign.teeth import ARCHES, SLOTS
from dentalign.validation.measurement import COMPARED_METHODS, METHODS, Validation, mean
from dentalign.validation.metrics import AUC_LIMIT_MM, THRESHOLDS_MM, accuracy, reliability
from dentalign.validation.report.tables import LABELS, number

_SPREADS = {
    "add_mm": "ADD, mm",
    "rotation_error_deg": "rotation error, °",
    "translation_error_mm": "translation error, mm",
}


def accuracy_chart(found: Validation) -> Chart:
    """Chart of the share of teeth with an ADD below each threshold, for every method."""
    with style():
        drawing = empty(3.2)
        axes = drawing.subplots()
        within = []
        for method in METHODS:
            share = 100 * accuracy(found.teeth(method))
            axes.plot(THRESHOLDS_MM, share, color=COLOURS[method], label=LABELS[method], linewidth=2)
            within.append(f"{LABELS[method]} {share[np.searchsorted(THRESHOLDS_MM, 1.0)]:.0f} %")
        axes.set(xlim=(0, AUC_LIMIT_MM), xlabel="distance (ADD), mm")
        axes.set(ylim=(0, 101), ylabel="share of teeth, %")
        axes.grid(axis="y")
        axes.legend(loc="lower right")
    return Chart(
        "accuracy",
        "Teeth within a distance of their true place",
        f"Share of teeth within 0 to {AUC_LIMIT_MM:g} mm of their true place; within 1 mm: "
        f"{', '.join(within)}",
        drawing,
    )


def spread_charts(found: Validation) -> list[Chart]:
    """Charts of the distribution of three errors over teeth, for every method."""
    return [_spread(found, metric, label) for metric, label in _SPREADS.items()]


def _spread(found: Validation, metric: str, label: str) -> Chart:
    """Boxes from the first to the third quartile, whiskers from 5 to 95 %."""
    values = {method: found.teeth(method, metric) for method in METHODS}
    medians = {method: f"{np.median(value):.3g}" for method, value in values.items()}
    with style():
        drawing = empty(0.7 + 0.5 * len(METHODS))
        axes = drawing.subplots()
        for row, (method, value) in enumerate(values.items()):
            line = {"color": COLOURS[method], "linewidth": 1.5}
            axes.boxplot(
                value, positions=[-row], widths=0.5, whis=(5, 95), orientation="horizontal", showfliers=False,
                boxprops=line, whiskerprops=line, capprops=line, medianprops=line,
            )  # fmt: skip
        labels = [f"{LABELS[method]}\nmedian {median}" for method, median in medians.items()]
        axes.set_yticks([-row for row in range(len(METHODS))], labels)
        axes.set(xlim=(0, None), xlabel=label)
        axes.grid(axis="x")
    words = ", ".join(f"{LABELS[method]} {median}" for method, median in medians.items())
    return Chart(
        f"spread-{metric}",
        f"Over teeth: {label}",
        f"Distribution over teeth of {label}; medians: {words}",
        drawing,
    )


def slot_chart(found: Validation) -> Chart:
    """Chart of the mean ADD of each slot, upper arch above the lower one, the patient's right on the left.

    Of the methods, it has those that are compared.
    """
    means = {method: mean(found.figures[method]["add_mm"], 0) for method in COMPARED_METHODS}
    worst = SLOTS[int(np.nanargmax(means["model"]))]
    with style():
        drawing = empty(4.6)
        upper, lower = drawing.subplots(2, sharey=True)
        for axes, arch in ((upper, "upper"), (lower, "lower")):
            # The upper slots run from the patient's right, the lower ones from the left.
            slots = ARCHES[arch] if arch == "upper" else ARCHES[arch][::-1]
            _bars(axes, [(method, value[slots]) for method, value in means.items()])
            axes.set_xticks(range(len(slots)), [str(SLOTS[slot]) for slot in slots])
            axes.set(title=f"{arch} arch", ylabel="mean ADD, mm")
        series = upper.get_legend_handles_labels()
        drawing.legend(*series, loc="outside upper right", ncols=len(means), columnspacing=1, handlelength=1)
    return Chart(
        "per_slot",
        "Mean ADD by tooth slot, the patient's right on the left",
        f"Mean ADD by tooth slot, mm; worst slot of the model: {worst}",
        drawing,
    )


def confidence_chart(found: Validation) -> Chart | None:
    """Chart of actual beside expected errors; None for a model without expected errors."""
    figures = found.metrics.get("confidence")
    if found.expected_add_mm is None or not figures or "add_mm" not in figures:
        return None
    groups = reliability(found.expected_add_mm[found.measured], found.teeth("model"))
    made, expected = (np.array([group[name] for group in groups]) for name in ("add_mm", "expected_add_mm"))
    with style():
        drawing = empty(2.6)
        axes = drawing.subplots()
        _bars(
            axes, [("model", made), ("expected", expected)], {"model": "error made", "expected": "expected"}
        )
        axes.set_xticks(range(len(groups)), [f"{value:.2f}" for value in expected])
        axes.set(xlabel="mean expected error of a group, mm", ylabel="mean ADD, mm")
        axes.legend(loc="upper left")
    return Chart(
        "confidence",
        "Errors made and expected, in groups of about equal number by the expected error",
        f"Mean ADD made and expected, mm, in {len(groups)} groups of teeth; rank correlation over teeth "
        f"{number(figures.get('rank_correlation'))}",
        drawing,
    )


def _bars(axes: Axes, groups: Sequence[tuple[str, Array]], labels: dict[str, str] = LABELS) -> None:
    """Bars of several groups side by side; NaN is not drawn."""
    width = 0.84 / len(groups)
    for place, (name, values) in enumerate(groups):
        left = np.arange(len(values)) - 0.42 + place * width
        axes.bar(left, values, width, align="edge", color=COLOURS[name], label=labels[name])
    axes.set_xlim(-0.6, len(groups[0][1]) - 0.4)
    axes.grid(axis="y")


def training_chart(train_log: Path | None) -> Chart | None:
    """Chart of the training loss and of the ADD on the val split, by epoch; None if there are no curves.

    train_log : DVCLive's folder of the training
    raises    : DentalignError if a curve cannot be read
    """
    folder = train_log / "plots" / "metrics" if train_log else None
    if folder is None or not (folder / "loss.tsv").is_file():
        return None
    steps, loss = read_curve(folder / "loss.tsv", "loss")
    description = f"Training loss by epoch, from {loss[0]:.3g} to {loss[-1]:.3g} (units: docs/metrics.md)"
    with style():
        drawing = empty(4.6)
        upper, lower = drawing.subplots(2, sharex=True)
        upper.plot(steps, loss, color=COLOURS["model"], linewidth=1.2)
        if (loss > 0).all():
            upper.set_yscale("log")
            upper.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            upper.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            upper.yaxis.set_minor_formatter(NullFormatter())
        upper.set(title="loss on the training cases", ylabel="loss")
        if (folder / "val_add_mm.tsv").is_file():
            steps, add = read_curve(folder / "val_add_mm.tsv", "val_add_mm")
            best = int(add.argmin())
            lower.plot(steps, add, color=COLOURS["mean_motion"], linewidth=1.2)
            lower.plot(steps[best], add[best], "o", color=COLOURS["model"], markersize=5)
            # Spikes of the first epochs must not flatten the rest.
            top = 1.05 * max(float(np.quantile(add, 0.98)), 1.2 * float(add.min()))
            words = f"best {add[best]:.3f} mm at epoch {steps[best]:.0f}"
            lower.set(title=f"ADD on the validation cases, {words}", ylim=(0.95 * add.min(), top))
            description += f"; ADD on the validation cases by epoch, {words}"
        lower.set(xlabel="epoch", ylabel="ADD, mm")
        lower.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in (upper, lower):
            axes.grid(axis="y")
    return Chart("loss", "Loss and validation error by epoch", description, drawing)


def read_curve(path: Path, name: str) -> tuple[Array, Array]:
    """Read the steps and values of a curve of DVCLive; raises DentalignError if the file is no such curve."""
    try:
        rows = csv_table.read(path, ["step"])
        curve = np.array([[float(row["step"]), float(row[name])] for _, row in rows])
        return curve[:, 0], curve[:, 1]
    except (LookupError, ValueError) as error:
        raise DentalignError(f"{path}: not a curve with the columns step and {name} ({error!r})") from None
