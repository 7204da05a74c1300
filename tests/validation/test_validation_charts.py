"""Charts of a validation: what is drawn stands where the numbers are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dentalign.teeth import SLOT_INDEX
from dentalign.validation import metrics
from dentalign.validation.measurement import COMPARED_METHODS, METHODS, Validation, validate
from dentalign.validation.report import charts
from tests.support.report_validation import SETTINGS, small_latents, small_models


@pytest.fixture
def found(tmp_path: Path) -> Validation:
    """A validation whose errors differ by method and slot."""
    measured = validate(small_latents(tmp_path / "l.h5"), *small_models(tmp_path), SETTINGS)
    rng = np.random.default_rng(0)
    figures = {
        method: {name: values * 0 + rng.lognormal(0, 0.5, values.shape) for name, values in named.items()}
        for method, named in measured.figures.items()
    }
    return replace(measured, figures=figures)


def bars(axes: Any) -> list[list[float]]:
    """Heights of the bars, by series."""
    return [[bar.get_height() for bar in series] for series in axes.containers]


def test_the_accuracy_curve_is_that_of_the_metric(found: Validation) -> None:
    (axes,) = charts.accuracy_chart(found).drawing.axes
    for method, line in zip(METHODS, axes.lines, strict=True):
        x, y = np.asarray(line.get_data())
        assert x.tolist() == metrics.THRESHOLDS_MM.tolist()
        assert y == pytest.approx(100 * metrics.accuracy(found.teeth(method)))


def test_a_box_spans_the_quartiles_and_the_median_is_said(found: Validation) -> None:
    chart = charts.spread_charts(found)[1]
    (axes,) = chart.drawing.axes
    model = found.teeth("model", "rotation_error_deg")
    box = np.asarray(axes.lines[0].get_xdata())
    assert [box.min(), box.max()] == pytest.approx(np.quantile(model, [0.25, 0.75]))
    assert f"model {np.median(model):.3g}" in chart.description


def test_slots_stand_as_in_a_dental_chart_and_slots_without_teeth_have_no_bar(found: Validation) -> None:
    drawing = charts.slot_chart(found).drawing
    drawing.draw_without_rendering()
    legend = drawing.legends[0].get_window_extent()
    assert 0 <= legend.x0 < legend.x1 <= drawing.bbox.width
    upper, lower = drawing.axes
    for axes, first, last in ((upper, 18, 28), (lower, 48, 38)):
        shown = [int(label.get_text()) for label in axes.get_xticklabels()]
        assert (shown[0], shown[-1]) == (first, last)
        for method, heights in zip(COMPARED_METHODS, bars(axes), strict=True):
            for fdi, height in zip(shown, heights, strict=True):
                slot = SLOT_INDEX[fdi]
                add = found.figures[method]["add_mm"][found.measured[:, slot], slot]
                assert height == pytest.approx(add.mean() if len(add) else np.nan, nan_ok=True)


def test_the_worst_slot_is_said(found: Validation) -> None:
    found.figures["model"]["add_mm"][:, SLOT_INDEX[13]] = 9.0
    assert charts.slot_chart(found).description.endswith("worst slot of the model: 13")


def test_errors_expected_are_drawn_beside_those_made(found: Validation) -> None:
    assert charts.confidence_chart(replace(found, expected_add_mm=None)) is None
    made, expected = found.teeth("model"), np.where(found.measured, 1.0, np.nan)
    summary = {**found.metrics, "confidence": metrics.confidence(expected[found.measured], made)}
    chart = charts.confidence_chart(replace(found, expected_add_mm=expected, metrics=summary))
    assert chart is not None
    (axes,) = chart.drawing.axes
    made_bars, expected_bars = bars(axes)
    assert expected_bars == [1.0] * len(made_bars)
    assert np.mean(made_bars) == pytest.approx(made.mean(), rel=0.1)


def test_the_training_is_drawn_with_its_best_epoch_and_without_the_first_spikes(tmp_path: Path) -> None:
    folder = tmp_path / "plots" / "metrics"
    folder.mkdir(parents=True)
    assert charts.training_chart(tmp_path) is None
    (folder / "loss.tsv").write_text("step\tloss\n1\t4.0\n2\t2.0\n3\t1.5\n")
    values = [50.0] + [2.0] * 98 + [1.5]
    text = "".join(f"{step}\t{value}\n" for step, value in enumerate(values, 1))
    (folder / "val_add_mm.tsv").write_text(f"step\tval_add_mm\n{text}")
    chart = charts.training_chart(tmp_path)
    assert chart is not None
    upper, lower = chart.drawing.axes
    assert upper.get_yscale() == "log"
    assert np.asarray(lower.lines[1].get_xydata()).tolist() == [[100.0, 1.5]]
    assert lower.get_ylim()[1] < 3
    assert chart.description.endswith("best 1.500 mm at epoch 100")
