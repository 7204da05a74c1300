"""Charts: one drawing as PNG and as SVG that a page with a strict policy may hold."""

import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image

from dentalign.reports import page
from dentalign.reports.charts import COLOURS, Chart, empty, style


def chart(name: str = "curve", colour: str = COLOURS["model"], label: str = "mm", count: int = 3) -> Chart:
    """A rising curve with a dot at its end."""
    with style():
        drawing = empty(2.0)
        axes = drawing.subplots()
        axes.plot(np.arange(count), np.arange(count), color=colour)
        axes.plot(count - 1, count - 1, "o", color=colour)
        axes.set_xlabel(label)
    return Chart(name, "A curve", "it rises", drawing)


def parsed(chart_: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(chart_.svg())


def test_texts_are_text_and_the_description_is_there() -> None:
    svg = parsed(chart(label='<b> & "'))
    assert [text.text for text in svg.iter("text") if text.text == '<b> & "']
    assert svg.attrib["aria-label"] == "it rises"
    assert svg.attrib["viewBox"] == "0 0 360 144"


def test_nothing_in_it_needs_more_than_the_page_s_policy_allows() -> None:
    for element in parsed(chart()).iter():
        assert element.tag not in ("style", "script")
        assert "style" not in element.attrib
        assert not [value for value in element.attrib.values() if "http" in value]


def test_colours_are_the_variables_of_the_page() -> None:
    svg = chart().svg()
    assert 'stroke="var(--model)"' in svg
    assert 'fill="var(--ink)"' in svg
    assert "#" not in re.sub(r'(url\(|")#[pm]\w+', "", svg)  # no other colour: clip paths and markers alone
    light = page.ASSETS.joinpath("page.css").read_text("utf-8").split("@media")[0]
    assert {name: colour for name, colour in COLOURS.items() if f"--{name}: {colour};" in light} == COLOURS


def test_two_charts_of_a_page_have_no_id_in_common() -> None:
    first, second = (
        {element.attrib["id"] for element in parsed(chart(name)).iter() if "id" in element.attrib}
        for name in ("a", "b")
    )
    assert first
    assert not first & second
    targets = set(re.findall(r"#([pm]\w+)", chart("a").svg()))
    assert targets == first


def test_it_is_the_same_whatever_style_the_user_has_set(tmp_path: Path) -> None:
    plain = chart().svg()
    chart().write_png(tmp_path)
    written = (tmp_path / "curve.png").read_bytes()
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "red"}):
        assert chart().svg() == plain
        chart().write_png(tmp_path)
    assert (tmp_path / "curve.png").read_bytes() == written


def test_a_long_curve_is_simplified() -> None:
    path = max((e.attrib["d"] for e in parsed(chart(count=20_000)).iter("path")), key=len)
    assert len(path) < 1_000


def test_the_png_has_a_white_ground(tmp_path: Path) -> None:
    chart().write_png(tmp_path)
    with Image.open(tmp_path / "curve.png") as image:
        assert image.size == (1000, 400)
        assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


@pytest.mark.parametrize("tag", ["use", "clipPath"])
def test_what_it_refers_to_is_inside_it(tag: str) -> None:
    svg = parsed(chart())
    assert list(svg.iter(tag))
    ids = {element.attrib.get("id") for element in svg.iter()}
    assert all(element.attrib["href"].removeprefix("#") in ids for element in svg.iter("use"))
