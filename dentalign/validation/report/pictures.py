"""Pictures of a validation: three cases as teeth, and figures as charts. The same input, the same bytes."""

import csv
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter
from numpy.typing import NDArray

from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import DentalignError
from dentalign.geometry.sampling import triangulation
from dentalign.mouth import T1, T2
from dentalign.reports.mouth_picture import bodies, mouth_figure
from dentalign.reports.rendering import figure, save_png
from dentalign.teeth import ARCHES, SLOTS
from dentalign.validation.measurement import METHODS, Validation
from dentalign.validation.metrics import AUC_LIMIT_MM, THRESHOLDS_MM, accuracy, add_auc_5mm

Array = NDArray[np.float64]

COLOURS = {"model": "#b5342a", "identity": "#9a9a9a", "mean_motion": "#3f6f9f"}
LABELS = {"model": "model", "identity": "identity (no movement)", "mean_motion": "mean motion"}

_FINER = 1  # times each triangle is cut in four for the picture: 508 flat ones would show


def write_pictures(folder: Path, found: Validation, latents: str | Path, train_log: Path | None) -> None:
    """Write best.png, median.png, worst.png, accuracy.png, per_slot.png and, with curves, loss.png.

    latents   : the file the validation was made on, for the teeth
    train_log : folder of the training's curves; None or a folder without `loss.tsv`: no loss.png
    """
    with matplotlib.rc_context(matplotlib.rcParamsDefault):  # the same bytes whatever the user's style
        _write_pictures(folder, found, latents, train_log)


def _write_pictures(folder: Path, found: Validation, latents: str | Path, train_log: Path | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with MouthStore(latents) as store:
        for name, number in chosen_cases(found).items():
            save_png(_case(found, store, number, name), folder / f"{name}.png")
    save_png(_accuracy(found), folder / "accuracy.png")
    save_png(_per_slot(found), folder / "per_slot.png")
    if train_log is not None and (train_log / "plots" / "metrics" / "loss.tsv").is_file():
        save_png(_curves(train_log / "plots" / "metrics"), folder / "loss.png")


def chosen_cases(found: Validation) -> dict[str, int]:
    """The best, median and worst test case by the mean ADD of its teeth: name -> number of the case."""
    numbers = np.unique(found.case)
    add = np.array([found.figures["model"]["add_mm"][found.case == number].mean() for number in numbers])
    ranked = np.argsort(add, kind="stable")  # rows stand in the order of their case ids
    chosen = {"best": ranked[0], "median": ranked[(len(ranked) - 1) // 2], "worst": ranked[-1]}
    return {name: int(numbers[index]) for name, index in chosen.items()}


def smoothed(points: Array, times: int = _FINER) -> tuple[Array, NDArray[np.int64]]:
    """A finer, rounder surface for the eye through ordered points (P, 3); not for measuring.

    Each triangle becomes four, and corners move by Loop's rule for triangle meshes (Loop 1987, "Smooth
    subdivision surfaces based on triangles").

    returns : vertices (V, 3), in the unit of `points`, and faces (4^times (2 P - 4), 3), outward winding
    """
    vertices, faces = np.asarray(points, dtype=np.float64), triangulation(len(points)).astype(np.int64)
    for _ in range(times):
        directed = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
        across = faces[:, [2, 0, 1]].ravel()  # the corner opposite to each directed edge
        edges, which = np.unique(np.sort(directed, axis=1), axis=0, return_inverse=True)
        which = which.ravel()
        opposite = np.zeros((len(edges), 3))
        around = np.zeros_like(vertices)
        for axis in range(3):
            opposite[:, axis] = np.bincount(which, vertices[across, axis], len(edges))
            around[:, axis] = np.bincount(directed[:, 0], vertices[directed[:, 1], axis], len(vertices))
        valence = np.bincount(directed[:, 0], minlength=len(vertices))
        beta = (0.625 - (0.375 + 0.25 * np.cos(2 * np.pi / valence)) ** 2) / valence
        between = 0.375 * vertices[edges].sum(1) + 0.125 * opposite
        kept = (1 - valence * beta)[:, None] * vertices + beta[:, None] * around
        middle = len(vertices) + which.reshape(-1, 3)  # of the edges 01, 12, 20
        a, b, c = faces.T
        ab, bc, ca = middle.T
        quarters = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
        faces = np.concatenate([np.stack(t, axis=1) for t in quarters])
        vertices = np.concatenate([kept, between])
    return vertices, faces


def _case(found: Validation, store: MouthStore, number: int, name: str) -> Figure:
    """One case: rows T1, predicted, true T2; columns the views."""
    mouth = store.mouth(int(found.rows[number]), latents=False)
    here = found.case == number
    slots = found.slot[here]
    add = dict(zip(slots.tolist(), found.figures["model"]["add_mm"][here].tolist(), strict=True))
    surfaces = {int(slot): smoothed(mouth.points[slot]) for slot in np.flatnonzero(mouth.present.any(0))}
    identity_mm = found.figures["identity"]["add_mm"][here].mean()
    extracted = np.flatnonzero(mouth.present[T1] & ~mouth.present[T2])
    states = [
        ("T1", bodies(surfaces, mouth.pose[T1], np.flatnonzero(mouth.present[T1]))),
        ("predicted T2", bodies(surfaces, found.predicted[number], slots, add)),
        ("true T2", bodies(surfaces, mouth.pose[T2], np.flatnonzero(mouth.present[T2]))),
    ]
    gone = f", extracted: {', '.join(str(SLOTS[slot]) for slot in extracted)}" if len(extracted) else ""
    title = f"{name.capitalize()} test case: {mouth.case_id}"
    subtitle = (
        f"add_mm {np.mean(list(add.values())):.3f} over {len(add)} teeth, worst tooth "
        f"{SLOTS[max(add, key=lambda slot: add[slot])]} at {max(add.values()):.2f} mm; "
        f"without movement {identity_mm:.3f}{gone}"
    )
    return mouth_figure(title, subtitle, states, "ADD of the tooth, mm")


def _accuracy(found: Validation) -> Figure:
    """Share of teeth within each threshold, for every method."""
    drawn = figure(7.0, 4.6)
    axes = drawn.add_axes((0.1, 0.13, 0.87, 0.76))
    for method in METHODS:
        add = found.figures[method]["add_mm"]
        label = f"{LABELS[method]}, area {add_auc_5mm(add):.3f}"
        axes.plot(THRESHOLDS_MM, 100 * accuracy(add), color=COLOURS[method], label=label, linewidth=2)
    axes.set_xlim(0, AUC_LIMIT_MM)
    axes.set_ylim(0, 101)
    title = f"Teeth within a distance of their true place ({len(found.slot)} teeth)"
    axes.set_title(title, loc="left", fontsize=11)
    _finish(axes, "threshold on ADD, mm", "share of teeth, %")
    axes.legend(frameon=False, loc="lower right")
    return drawn


def _per_slot(found: Validation) -> Figure:
    """Mean ADD of each slot, upper arch above the lower one, the patient's right on the left."""
    drawn = figure(11.0, 6.2)
    highest, axes_of = 0.0, []
    for k, (arch, slots) in enumerate(reversed(ARCHES.items())):
        axes = drawn.add_axes((0.065, 0.56 - 0.46 * k, 0.92, 0.345))
        # The upper slots run from the patient's right, the lower ones from the left.
        across = slots if arch == "upper" else slots[::-1]
        for offset, method in zip((-0.27, 0.0, 0.27), METHODS, strict=True):
            add = found.figures[method]["add_mm"]
            means = np.array(
                [add[found.slot == s].mean() if (found.slot == s).any() else 0.0 for s in across]
            )
            highest = max(highest, float(means.max()))
            label = LABELS[method] if k == 0 else None
            axes.bar(np.arange(16) + offset, means, 0.25, color=COLOURS[method], label=label)
        axes.set_xticks(np.arange(16), [f"{SLOTS[s]}\n{(found.slot == s).sum()}" for s in across])
        axes.set_xlim(-0.6, 15.6)
        axes.set_title(f"{arch} arch", loc="left", fontsize=11)
        _finish(axes, "tooth (FDI), number of teeth below it" if k else "", "mean ADD, mm")
        axes_of.append(axes)
    for axes in axes_of:
        axes.set_ylim(0, 1.06 * highest if highest > 0 else 1.0)
    drawn.legend(loc="upper right", ncols=3, frameon=False, bbox_to_anchor=(0.99, 1.0))
    return drawn


def _curves(folder: Path) -> Figure:
    """Training loss and validation ADD by epoch."""
    loss = read_curve(folder / "loss.tsv", "loss")
    drawn = figure(7.0, 5.6)
    upper = drawn.add_axes((0.12, 0.56, 0.85, 0.36))
    upper.semilogy(*loss, color=COLOURS["model"], linewidth=1.2)
    upper.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    upper.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    upper.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
    upper.set_title("Training", loc="left", fontsize=11)
    _finish(upper, "", "loss (train)\nfc: mm², attention: mm")
    lower = drawn.add_axes((0.12, 0.1, 0.85, 0.36))
    if (folder / "val_add_mm.tsv").is_file():
        steps, add = read_curve(folder / "val_add_mm.tsv", "val_add_mm")
        best = int(add.argmin())
        lower.plot(steps, add, color=COLOURS["mean_motion"], linewidth=1.2)
        lower.plot(steps[best], add[best], "o", color=COLOURS["model"], markersize=5)
        title = f"best: {add[best]:.3f} mm at epoch {steps[best]:.0f}"
        lower.set_title(title, loc="right", fontsize=9, color="0.25")
        # Spikes of the first epochs must not flatten the rest.
        lower.set_ylim(0.95 * add.min(), 1.05 * max(float(np.quantile(add, 0.98)), float(add.min()) * 1.2))
    _finish(lower, "epoch", "ADD (validation), mm")
    return drawn


def read_curve(path: Path, name: str) -> tuple[Array, Array]:
    """Steps and values of one of DVCLive's curves; raises DentalignError where the file is no such curve."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file, delimiter="\t"))
        curve = np.array([[float(row["step"]), float(row[name])] for row in rows])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DentalignError(f"{path}: not a curve with the columns step and {name} ({error!r})") from None
    if not len(curve):
        raise DentalignError(f"{path}: the curve has no rows")
    return curve[:, 0], curve[:, 1]


def _finish(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(axis="y", color="0.88", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
