"""Small charts as inline SVG, readable at a phone's width; their colours come from the style sheet.

Every chart is 360 units wide, so that a phone shows it at its own size. The same input, the same text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

Array = NDArray[np.float64]

WIDTH = 360.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 38.0, 8.0, 10.0, 34.0
_MOST_POINTS = 600  # of a line: more than its pixels


@dataclass(frozen=True)
class Line:
    """A curve; `style` is its class in the style sheet."""

    style: str
    x: Array
    y: Array


@dataclass(frozen=True)
class Bars:
    """One bar per category; NaN where there is none."""

    style: str
    values: Array


@dataclass(frozen=True)
class Box:
    """The distribution of some values, named at its left."""

    style: str
    label: str
    values: Array


def lines(
    curves: Sequence[Line], *, says: str, x_label: str, y_label: str, log_y: bool = False,
    y_top: float | None = None, mark: tuple[float, float] | None = None,
) -> Markup:  # fmt: skip
    """Curves over a common x axis.

    says  : the chart in words, for who does not see it
    log_y : logarithmic y axis; values must be positive
    y_top : where the y axis ends; default: above the highest value
    mark  : a point to set a dot on
    """
    x = np.concatenate([curve.x for curve in curves])
    y = np.concatenate([curve.y for curve in curves])
    top = float(y.max()) if y_top is None else y_top
    if log_y:
        positive = y[y > 0]
        bottom = float(positive.min()) if len(positive) else top / 10
        ticks = [t for t in _log_ticks(bottom, top) if bottom <= t <= top] or [bottom, top]
    else:
        bottom = 0.0 if y.min() < 0.5 * top else float(y.min())
        ticks = _ticks(bottom, top)
        top = max(top, ticks[-1]) if y_top is None else top
        ticks = [tick for tick in ticks if tick <= top]
    frame = _Frame(says, 220.0, (float(x.min()), float(x.max())), (bottom, top), log_y)
    frame.y_axis(ticks, y_label)
    frame.x_axis(_ticks(float(x.min()), float(x.max())), x_label)
    for curve in curves:
        step = -(-len(curve.x) // _MOST_POINTS)
        kept = np.unique(np.append(np.arange(0, len(curve.x), step), len(curve.x) - 1))
        points = " ".join(
            f"{frame.x(a):.1f},{frame.y(min(max(b, bottom), top)):.1f}"
            for a, b in zip(curve.x[kept].tolist(), curve.y[kept].tolist(), strict=True)
        )
        SubElement(frame.svg, "polyline", {"class": f"line {curve.style}", "points": points})
    if mark is not None:
        place = {"cx": f"{frame.x(mark[0]):.1f}", "cy": f"{frame.y(mark[1]):.1f}", "r": "4"}
        SubElement(frame.svg, "circle", {"class": "fill model", **place})
    return frame.text()


def bars(groups: Sequence[Bars], categories: Sequence[str], *, says: str, y_label: str, top: float) -> Markup:
    """Groups of bars side by side, from 0 to `top`, a group per category."""
    frame = _Frame(says, 170.0, (-0.5, len(categories) - 0.5), (0.0, top), False, bottom=20.0)
    frame.y_axis([tick for tick in _ticks(0.0, top) if tick <= top], y_label)
    wide = 0.84 / len(groups)
    for number, category in enumerate(categories):
        frame.label(frame.x(number), frame.low + 13, category, "middle")
        for k, group in enumerate(groups):
            value = float(group.values[number])
            if np.isfinite(value):
                left, y = frame.x(number - 0.42 + k * wide), frame.y(min(value, top))
                frame.rectangle(group.style, left, y, frame.x(wide) - frame.x(0), frame.low - y)
    return frame.text()


def boxes(rows: Sequence[Box], *, says: str, x_label: str) -> Markup:
    """A box from the first to the third quartile, a line at the median, whiskers from 5 % to 95 %."""
    shares = [0.05, 0.25, 0.5, 0.75, 0.95]
    found = [np.quantile(row.values, shares).tolist() for row in rows]
    ticks = _ticks(0.0, max(max(line) for line in found) or 1.0)
    frame = _Frame(says, 44.0 + 40.0 * len(rows), (0.0, ticks[-1]), (0.0, 1.0), False)
    frame.x_axis(ticks, x_label, grid=True)
    for number, (row, (p5, p25, p50, p75, p95)) in enumerate(zip(rows, found, strict=True)):
        middle = _TOP + 40.0 * number + 24.0
        frame.label(_LEFT, middle - 13, f"{row.label}: median {p50:.2f}", "start", "")
        style = f"box {row.style}"
        for a, b in ((p5, p25), (p75, p95)):
            frame.line(style, frame.x(a), middle, frame.x(b), middle)
        for value in (p5, p95):
            frame.line(style, frame.x(value), middle - 4, frame.x(value), middle + 4)
        frame.rectangle(style, frame.x(p25), middle - 7, max(frame.x(p75) - frame.x(p25), 0.5), 14.0)
        frame.line(style, frame.x(p50), middle - 7, frame.x(p50), middle + 7)
    return frame.text()


class _Frame:
    """An empty chart with its axes: data coordinates to those of the picture."""

    def __init__(
        self, says: str, height: float, x_range: tuple[float, float], y_range: tuple[float, float],
        log_y: bool, bottom: float = _BOTTOM,
    ):  # fmt: skip
        size = f"0 0 {WIDTH:g} {height:g}"
        self.svg = Element("svg", {"class": "chart", "viewBox": size, "role": "img", "aria-label": says})
        self.low, self._height = height - bottom, height
        self._x_range, self._log_y = x_range, log_y
        self._y_range = (np.log(y_range[0]), np.log(y_range[1])) if log_y else y_range

    def x(self, value: float) -> float:
        low, high = self._x_range
        return _LEFT + (value - low) / max(high - low, 1e-12) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y_range
        along = float(np.log(max(value, 1e-300))) if self._log_y else value
        return float(self.low - (along - low) / max(high - low, 1e-12) * (self.low - _TOP))

    def line(self, style: str, x1: float, y1: float, x2: float, y2: float) -> None:
        places = dict(zip(("x1", "y1", "x2", "y2"), (f"{v:.1f}" for v in (x1, y1, x2, y2)), strict=True))
        SubElement(self.svg, "line", {"class": style, **places})

    def rectangle(self, style: str, left: float, top: float, wide: float, high: float) -> None:
        numbers = (f"{value:.1f}" for value in (left, top, wide, high))
        place = dict(zip(("x", "y", "width", "height"), numbers, strict=True))
        SubElement(self.svg, "rect", {"class": f"fill {style}", **place})

    def label(self, x: float, y: float, text: str, anchor: str, style: str = "small") -> None:
        place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
        SubElement(self.svg, "text", {"class": style, **place}).text = text

    def x_axis(self, ticks: Iterable[float], label: str, grid: bool = False) -> None:
        self.line("axis", _LEFT, self.low, WIDTH - _RIGHT, self.low)
        for tick in ticks:
            if self._x_range[0] <= tick <= self._x_range[1]:
                self.line(
                    "grid" if grid else "axis",
                    self.x(tick),
                    _TOP if grid else self.low,
                    self.x(tick),
                    self.low + 3,
                )
                self.label(self.x(tick), self.low + 13, f"{tick:g}", "middle")
        self.label((_LEFT + WIDTH - _RIGHT) / 2, self._height - 5, label, "middle", "")

    def y_axis(self, ticks: Iterable[float], label: str) -> None:
        for tick in ticks:
            self.line("grid", _LEFT, self.y(tick), WIDTH - _RIGHT, self.y(tick))
            self.label(_LEFT - 4, self.y(tick) + 3, f"{tick:g}", "end")
        middle = (_TOP + self.low) / 2
        place = {
            "x": "9",
            "y": f"{middle:.1f}",
            "text-anchor": "middle",
            "transform": f"rotate(-90 9 {middle:.1f})",
        }
        SubElement(self.svg, "text", place).text = label

    def text(self) -> Markup:
        return Markup(tostring(self.svg, encoding="unicode"))


def _ticks(low: float, high: float) -> list[float]:
    return [
        float(t)
        for t in MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        if t >= low - 1e-12
    ]


def _log_ticks(low: float, high: float) -> list[float]:
    return [float(t) for t in LogLocator(subs=(1, 2, 5)).tick_values(low, high)]
