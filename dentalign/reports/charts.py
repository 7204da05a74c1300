"""Charts made with matplotlib: PNG files, and SVG elements in the light or dark colours of their page."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from dentalign.reports.rendering import save_png

# Light colours of page.css, under the names of its variables. An SVG element refers to the variable.
COLOURS = {
    "ink": "#1d2530",
    "quiet": "#56606d",
    "line": "#d5d9df",
    "model": "#b5342a",
    "identity": "#858585",
    "mean_motion": "#3f6f9f",
    "ridge": "#3d8a5a",
    "arch_motion": "#8a63ab",
    "expected": "#b0832b",
}
_VARIABLES = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
_WIDTH_IN = 5.0  # 360 units of SVG, the width of a phone: there texts have about the sizes below, in pixels

_STYLE = {
    **matplotlib.rcParamsDefault,  # the same bytes whatever style the user has set
    "axes.axisbelow": True,
    "axes.edgecolor": COLOURS["quiet"],
    "axes.facecolor": "none",
    "axes.labelcolor": COLOURS["ink"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": COLOURS["ink"],
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "figure.facecolor": "none",
    "font.size": 10.5,
    "grid.color": COLOURS["line"],
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "text.color": COLOURS["ink"],
    "xtick.bottom": False,
    "xtick.color": COLOURS["quiet"],
    "ytick.color": COLOURS["quiet"],
    "ytick.left": False,
}


def style() -> AbstractContextManager[None]:
    """Context manager that gives the charts made in its block the style of the reports."""
    context: AbstractContextManager[None] = matplotlib.rc_context(_STYLE)
    return context


def empty(height_in: float) -> Figure:
    """Make an empty figure of the reports' width; its layout leaves room for titles, labels and legends."""
    return Figure(figsize=(_WIDTH_IN, height_in), dpi=200, layout="constrained")


@dataclass(frozen=True)
class Chart:
    """A finished chart.

    name        : name of its file without ending; unique on a page
    title       : short heading, shown above the chart
    description : the chart in words, for readers who do not see it
    drawing     : the figure
    """

    name: str
    title: str
    description: str
    drawing: Figure

    def write_png(self, folder: Path) -> None:
        """Write `<name>.png`; the same chart gives the same bytes."""
        with style():
            save_png(self.drawing, folder / f"{self.name}.png")

    def svg(self) -> Markup:
        """Make an `<svg>` element without style attributes, which the pages' security policy forbids.

        The same chart gives the same text. Ids of clip paths and markers are made from `name`.
        """
        buffer = BytesIO()
        with style(), matplotlib.rc_context({"svg.hashsalt": self.name}):
            metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            self.drawing.savefig(buffer, format="svg", metadata=metadata)
        root = ElementTree.fromstring(buffer.getvalue())
        for definitions in root.iter("{http://www.w3.org/2000/svg}defs"):
            for sheet in definitions.findall("{http://www.w3.org/2000/svg}style"):
                definitions.remove(sheet)
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
            for declaration in filter(None, element.attrib.pop("style", "").split(";")):
                name, value = (part.strip() for part in declaration.split(":", 1))
                if name != "font-family":
                    element.set(name, _VARIABLES.get(value, value))
            if (target := element.attrib.pop("{http://www.w3.org/1999/xlink}href", None)) is not None:
                element.set("href", target)
            if element.tag == "g":
                element.attrib.pop("id", None)
        root.attrib = {
            "class": "chart",
            "viewBox": root.attrib["viewBox"],
            "role": "img",
            "aria-label": self.description,
        }
        return Markup(ElementTree.tostring(root, encoding="unicode"))
