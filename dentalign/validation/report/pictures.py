"""PNG pictures of a validation: three cases as teeth, and charts. The same input gives the same bytes."""

from pathlib import Path

import numpy as np

from dentalign.dataset.mouth_store import MouthStore
from dentalign.reports import mouth_picture
from dentalign.reports.scene import Scene
from dentalign.teeth import SLOTS
from dentalign.validation.measurement import Validation, mean
from dentalign.validation.report import charts
from dentalign.validation.report import scenes as report_scenes


def write_pictures(folder: Path, found: Validation, latents: str | Path, train_log: Path | None) -> None:
    """Write best.png, median.png, worst.png, accuracy.png, per_slot.png and, with curves, loss.png.

    latents   : the file the validation was made on, for the teeth
    train_log : folder of the training's curves; None or a folder without `loss.tsv`: no loss.png
    """
    folder.mkdir(parents=True, exist_ok=True)
    with MouthStore(latents) as store:
        for name, number in chosen_cases(found).items():
            _write_case(folder / f"{name}.png", found, number, report_scenes.scene(found, store, number))
    for chart in (charts.accuracy_chart(found), charts.slot_chart(found), charts.training_chart(train_log)):
        if chart is not None:
            chart.write_png(folder)


def chosen_cases(found: Validation) -> dict[str, int]:
    """The best, median and worst test case by the mean ADD of its teeth: name -> number of the case."""
    add = mean(found.figures["model"]["add_mm"], 1)
    ranked = np.argsort(add, kind="stable")[: int(np.isfinite(add).sum())]  # NaN, no measured tooth, is last
    chosen = {"best": ranked[0], "median": ranked[(len(ranked) - 1) // 2], "worst": ranked[-1]}
    return {name: int(number) for name, number in chosen.items()}


def _write_case(path: Path, found: Validation, number: int, scene: Scene) -> None:
    slots = np.flatnonzero(found.measured[number])
    add, still = (found.figures[method]["add_mm"][number, slots] for method in ("model", "identity"))
    subtitle = (
        f"add_mm {add.mean():.3f} over {len(add)} teeth, worst tooth {SLOTS[slots[add.argmax()]]} at "
        f"{add.max():.2f} mm; without movement {still.mean():.3f}"
    )
    if extracted := [str(tooth.fdi) for tooth in scene.teeth if set(tooth.poses) == {"t1"}]:
        subtitle += f", extracted: {', '.join(extracted)}"
    title = f"{path.stem.capitalize()} test case: {scene.case_id}"
    mouth_picture.write(path, scene, title, subtitle, ("predicted", "add_mm"))
