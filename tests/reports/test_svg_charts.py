"""Charts: what is drawn stands where the numbers are."""

from xml.etree import ElementTree

import numpy as np
import pytest

from dentalign.reports.svg_charts import WIDTH, Bars, Box, Line, bars, boxes, lines


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def texts(svg: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in svg.iter("text")]


def number(element: ElementTree.Element, name: str) -> float:
    return float(element.attrib[name])


def test_a_curve_rises_where_its_values_do_and_ends_at_its_last_point() -> None:
    steps = np.arange(1.0, 5001.0)
    svg = parsed(lines([Line("model", steps, steps)], says="it rises", x_label="epoch", y_label="mm"))
    (curve,) = svg.iter("polyline")
    points = np.array([point.split(",") for point in curve.attrib["points"].split()], dtype=float)
    assert len(points) < 1000
    assert (np.diff(points[:, 0]) >= 0).all()
    assert (np.diff(points[:, 1]) <= 0).all()  # y counts downwards
    assert points[-1, 0] == pytest.approx(WIDTH - 8, abs=0.1)
    assert svg.attrib["aria-label"] == "it rises"
    assert {"epoch", "mm"} < set(texts(svg))


def test_equal_ratios_are_equal_distances_on_a_logarithmic_axis() -> None:
    line = Line("model", np.arange(3.0), np.array([100.0, 10.0, 1.0]))
    svg = parsed(lines([line], says="", x_label="", y_label="", log_y=True))
    y = [float(point.split(",")[1]) for point in next(svg.iter("polyline")).attrib["points"].split()]
    assert y[1] - y[0] == pytest.approx(y[2] - y[1], abs=0.11)


def test_a_spike_is_cut_at_the_top_and_a_constant_curve_is_drawn() -> None:
    line = Line("model", np.arange(3.0), np.array([50.0, 1.0, 1.0]))
    svg = parsed(lines([line], says="", x_label="", y_label="", y_top=2.0))
    assert min(float(p.split(",")[1]) for p in next(svg.iter("polyline")).attrib["points"].split()) >= 0
    flat = parsed(lines([Line("model", np.ones(1), np.ones(1))], says="", x_label="", y_label=""))
    assert len(list(flat.iter("polyline"))) == 1


def test_a_bar_is_as_high_as_its_value_and_a_missing_one_is_not_drawn() -> None:
    groups = [Bars("model", np.array([1.0, np.nan])), Bars("identity", np.array([2.0, 4.0]))]
    svg = parsed(bars(groups, ["11", "12"], says="", y_label="", top=4.0))
    drawn = list(svg.iter("rect"))
    assert len(drawn) == 3
    one, two, four = (number(rectangle, "height") for rectangle in drawn)
    assert [two / one, four / one] == pytest.approx([2, 4], rel=0.01)
    assert {"11", "12"} < set(texts(svg))


def test_a_box_spans_the_quartiles_on_the_axis() -> None:
    values = np.linspace(0, 10, 101)
    svg = parsed(boxes([Box("model", "model", values)], says="", x_label="mm"))
    box = next(svg.iter("rect"))
    whole = WIDTH - 38 - 8
    assert number(box, "x") == pytest.approx(38 + 0.25 * whole, abs=0.1)
    assert number(box, "width") == pytest.approx(0.5 * whole, abs=0.1)
    assert "model: median 5.00" in texts(svg)


def test_text_in_a_chart_is_escaped() -> None:
    text = lines([Line("model", np.arange(2.0), np.arange(2.0))], says='"<b>', x_label="<i>", y_label="&")
    assert "<b>" not in text
    assert "<i>" not in text
    assert parsed(text).attrib["aria-label"] == '"<b>'
