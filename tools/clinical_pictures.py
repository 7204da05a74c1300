"""Draw docs/pictures/clinical/: what each clinical measure is taken from, on cases of the demo clinic.

    python -m tools.clinical_pictures

The crowns stand at T1, in the axes of their occlusal plane. Points, lines and figures are those with which
`dentalign.clinical` measures. Equal bytes for equal versions of matplotlib and Pillow.
"""

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from dentalign.cases import case_document
from dentalign.cases.crowns import Sampler
from dentalign.cases.findings import Findings
from dentalign.cases.reading import read_case
from dentalign.cases.settings import Limits, Sample
from dentalign.cases.sources.meshes import MeshStore
from dentalign.clinical import arch, bite
from dentalign.clinical.measures import measure
from dentalign.clinical.mouth_points import QUADRANTS, MouthPoints, arch_teeth, mouth_points
from dentalign.demo_clinic.clinic import make_clinic
from dentalign.files import atomic
from dentalign.geometry import rigid, stl
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1
from dentalign.reports.rendering import VIEWS, Body, draw
from dentalign.running.stage_code import ROOT
from dentalign.teeth import is_upper

FOLDER = ROOT / "docs" / "pictures" / "clinical"
CASE, CROSSBITE_CASE = "demo-0006", "demo-0003"
RED, BLUE, GREEN = "#c0392b", "#1f5fb4", "#1e8449"
UPPER, LOWER = (arch_teeth(name, 7) for name in ("upper", "lower"))
LEFT = [f for f in (*UPPER, *LOWER) if f // 10 in (2, 3)]
_WIDTH_IN, _DPI, _MARGIN_MM = 4.2, 100, 1.5


@dataclass(frozen=True)
class Line:
    """Points (N, 3) in the axes of the mouth, mm, joined by a line and marked unless `dashed`; its label."""

    points: Array
    colour: str
    label: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Picture:
    """Picture of one or more measures.

    view  : key of `rendering.VIEWS`
    teeth : FDI numbers of the crowns that are shown
    """

    name: str
    view: str
    teeth: list[int]
    lines: list[Line]


@dataclass(frozen=True)
class Shown:
    """Mouth to draw: its landmarks, crowns by FDI number, and measures by name."""

    points: MouthPoints
    bodies: Mapping[int, Body]
    found: Mapping[str, float]


def main(folder: Path = FOLDER) -> None:
    """Write all pictures into a folder."""
    with tempfile.TemporaryDirectory() as name:
        clinic = Path(name) / "clinic"
        make_clinic(clinic, cases=6, seed=7)
        mouth = read(clinic, CASE)
        shown = [*pictures(mouth), crossbite(read(clinic, CROSSBITE_CASE))]
        for picture in shown[:-1]:
            write(folder / f"{picture.name}.png", picture, mouth.bodies)
        write(folder / f"{shown[-1].name}.png", shown[-1], read(clinic, CROSSBITE_CASE).bodies)


def read(clinic: Path, case_id: str) -> Shown:
    """Read a case of the demo clinic at T1."""
    file = clinic / "json" / f"{case_id}.json"
    sampler = Sampler("+y", Sample(points=8, oversampling=2), Limits())
    with MeshStore(str(clinic / "stl"), Limits()) as meshes:
        document = case_document.read(file, case_id)
        mouth, crowns = read_case(document, str(file), meshes, sampler, Findings(case_id, "picture"))
    at_t1 = (mouth.landmarks, mouth.pose[T1], mouth.present[T1], mouth.fdi)
    points = mouth_points(*at_t1)
    bodies = {}
    for slot, triangles in crowns.items():
        vertices, faces = stl.merged(triangles)
        bodies[int(mouth.fdi[slot])] = Body(
            rigid.apply(mouth.pose[T1, slot], vertices) @ points.frame, np.asarray(faces, np.int64)
        )
    return Shown(points, bodies, measure(*at_t1)["measures"])


def pictures(mouth: Shown) -> Iterator[Picture]:
    """Make the pictures of all measures but the crossbites."""
    points, found = mouth.points, mouth.found
    yield overjet(mouth)
    yield midlines(mouth)
    for name, tooth, goal, lower in (
        (
            "molar",
            26,
            "Class I: the groove under the cusp",
            (_at(mouth, 36, "buccal_cusp", "distobuccal_cusp")),
        ),
        ("canine", 23, "Class I: the contact under the cusp", points.at(33, "distal_contact")),
    ):
        shift = f"{name} relation {found[f'{name}_relation_left_mm']:.1f} mm"
        yield relation(f"{name}_relation", mouth, tooth, lower, shift, goal)
    widths = [
        _width(mouth, fdi, RED if fdi in arch_teeth("lower", 3) else BLUE) for fdi in arch_teeth("lower", 6)
    ]
    widths[0] = _labelled(widths[0], "widths 6 to 6, overall ratio")
    widths[4] = _labelled(widths[4], "widths 3 to 3, anterior ratio")
    yield Picture("bolton", "lower_occlusal", LOWER, widths)
    gaps = [
        Line(np.array(arch.contact_points(points, *pair)), RED) for pair in pairwise(arch_teeth("lower", 3))
    ]
    gaps[0] = _labelled(gaps[0], f"five displacements, sum {found['irregularity_lower_mm']:.1f} mm")
    yield Picture("irregularity", "lower_occlusal", arch_teeth("lower", 4), gaps)
    yield crowding(mouth)
    yield spee(mouth)
    yield arch_size(mouth)
    yield from inclination(mouth)
    ridges = [
        Line(np.array([points.at(near, "distal_ridge"), points.at(far, "mesial_ridge")]), RED)
        for near, far in ((35, 36), (36, 37))
    ]
    ridges[0] = _labelled(ridges[0], "marginal ridges of neighbours, heights compared")
    yield Picture("marginal_ridges", "left", [35, 36, 37], ridges)


def overjet(mouth: Shown) -> Picture:
    """Overjet and overbite, from the left."""
    edges = {
        name: np.mean([bite.edge_point(mouth.points, 10 * q + 1, bite.LEVEL_MM) for q in quadrants], axis=0)
        for name, quadrants in QUADRANTS.items()
    }
    upper, lower = edges["upper"], edges["lower"]
    corner = np.array([upper[0], lower[1], upper[2]])
    over, deep = (mouth.found[f"{name}_mm"] for name in ("overjet", "overbite"))
    lines = [
        Line(np.array([upper, corner]), RED, f"overjet {over:.1f} mm"),
        Line(np.array([corner, lower]), BLUE, f"overbite {deep:.1f} mm"),
    ]
    return Picture("overjet_overbite", "left", [11, 21, 31, 41], lines)


def midlines(mouth: Shown) -> Picture:
    """Midlines of both arches beside their mid-planes, from the front."""
    lines, teeth = [], [*arch_teeth("upper", 3), *arch_teeth("lower", 3)]
    for name, colour in (("upper", RED), ("lower", BLUE)):
        near = [mouth.points.tip(10 * q + 1) for q in QUADRANTS[name]]
        up = np.array([0.0, 0.0, 7.0 if name == "upper" else -7.0])
        for x, label, dashed in (
            (
                bite.midline_x(mouth.points, name),
                f"{name} midline {mouth.found[f'{name}_midline_mm']:.1f} mm",
                False,
            ),
            (bite.mid_plane_mm(mouth.points, name), f"mid-plane, {name} arch", True),
        ):
            foot = np.array([x, min(p[1] for p in near), np.mean([p[2] for p in near])])
            lines.append(Line(np.array([foot, foot + up]), colour, label, dashed))
    return Picture("midlines", "frontal", teeth, lines)


def relation(name: str, mouth: Shown, upper: int, lower: Array, label: str, goal: str) -> Picture:
    """Molar or canine relation, from the left: upper cusp, and the place (3,) on the lower tooth."""
    cusp = mouth.points.at(upper, "buccal_cusp")
    level = np.array([lower[0], cusp[1], lower[2]])
    lines = [
        Line(np.array([level, lower]), RED, label),
        Line(np.array([cusp, level]), BLUE, goal, dashed=True),
    ]
    return Picture(name, "left", [f for f in LEFT if 3 <= f % 10 <= 7], lines)


def crossbite(mouth: Shown) -> Picture:
    """Crossbite: line of the lower edges and cusps, and the upper teeth that stand inside it."""
    pieces = bite.lower_line(mouth.points)
    lines = [Line(piece, BLUE, "" if k else "line of the lower arch", True) for k, piece in enumerate(pieces)]
    crossed, _ = bite.crossbites(mouth.points)
    for k, fdi in enumerate(UPPER):
        colour = RED if fdi in crossed else GREEN
        label = "" if k else "upper edges and cusps; red, in crossbite: " + ", ".join(map(str, crossed))
        lines.append(Line(mouth.points.tip(fdi)[None], colour, label))
    return Picture("crossbite", "lower_occlusal", LOWER, lines)


def crowding(mouth: Shown) -> Picture:
    """Crowding: widths of the teeth, and the smooth arch that they should stand on."""
    ends = [10 * quadrant + 6 for quadrant in QUADRANTS["lower"]]
    lines = [_width(mouth, fdi, RED) for fdi in arch_teeth("lower", 5)]
    lines[0] = _labelled(lines[0], f"widths; crowding {mouth.found['crowding_lower_mm']:.1f} mm")
    inner = [
        mouth.points.at(f, f"{side}_contact") for f in arch_teeth("lower", 5) for side in ("mesial", "distal")
    ]
    start, end = (mouth.points.at(f, "mesial_contact") for f in ends)
    curve = arch.smooth_arch(np.array([start, *inner, end])[:, :2])
    high = np.full((len(curve), 1), max(start[2], end[2]))
    lines.append(Line(np.concatenate([curve, high], axis=1), BLUE, "smooth arch between the molars", True))
    return Picture("crowding", "lower_occlusal", LOWER, lines)


def spee(mouth: Shown) -> Picture:
    """Curve of Spee, from the left."""
    points = mouth.points
    front, back = points.tip(31), points.at(37, "distobuccal_cusp")
    cusps = np.array([points.tip(f) for f in (33, 34, 35, 36)])
    feet = cusps.copy()
    feet[:, 2] = front[2] + (cusps[:, 1] - front[1]) / (back[1] - front[1]) * (back[2] - front[2])
    deepest = int(np.argmax(np.abs(feet - cusps)[:, 2]))
    lines = [
        Line(np.array([front, back]), BLUE, "edge of 31 to distobuccal cusp of 37", True),
        Line(
            np.array([feet[deepest], cusps[deepest]]),
            RED,
            f"curve of Spee {mouth.found['spee_left_mm']:.1f} mm",
        ),
    ]
    return Picture("spee", "left", [f for f in LEFT if not is_upper(f)], lines)


def arch_size(mouth: Shown) -> Picture:
    """Widths and length of the upper arch."""
    points, lines = mouth.points, []
    for number, position in enumerate((3, 4, 5, 6)):
        label = "" if number else "widths 3-3, 4-4, 5-5, 6-6"
        lines.append(Line(np.array([points.tip(10 + position), points.tip(20 + position)]), RED, label))
    start, end = (points.at(f, "mesial_contact") for f in (16, 26))
    front = (points.at(11, "mesial_contact") + points.at(21, "mesial_contact")) / 2
    along = (end - start) * [1, 1, 0]
    foot = start + along * ((front - start) @ along / (along @ along))
    lines.append(Line(np.array([start, end]), BLUE, "", True))
    label = f"arch length {mouth.found['arch_length_upper_mm']:.1f} mm"
    lines.append(Line(np.array([front, foot]), BLUE, label))
    return Picture("widths_length", "upper_occlusal", UPPER, lines)


def inclination(mouth: Shown) -> Iterator[Picture]:
    """Tip of a lateral incisor, from the front, and torque of a central one, from the left."""
    for name, fdi, view in (("tip", 12, "frontal"), ("torque", 21, "left")):
        low, high = (mouth.points.at(fdi, f"facial_{end}") for end in ("gingival", "occlusal"))
        middle, reach = (low + high) / 2, 1.6 * (high - low)
        upright = np.array([0.0, 0.0, float(np.linalg.norm(reach))])
        value = mouth.found[f"{name}_deg"][str(fdi)]  # type: ignore[index]
        lines = [
            Line(
                np.array([middle - reach, middle + reach]), RED, f"facial axis of {fdi}, {name} {value:.0f}°"
            ),
            Line(np.array([middle - upright, middle + upright]), BLUE, "upright on the occlusal plane", True),
        ]
        yield Picture(name, view, [fdi], lines)


def _at(mouth: Shown, fdi: int, *names: str) -> Array:
    """Mean (3,) of landmarks of a tooth."""
    return np.mean([mouth.points.at(fdi, name) for name in names], axis=0)


def _width(mouth: Shown, fdi: int, colour: str) -> Line:
    ends = ("mesial_contact", "distal_contact")
    return Line(np.array([mouth.points.at(fdi, name) for name in ends]), colour)


def _labelled(line: Line, label: str) -> Line:
    return Line(line.points, line.colour, label, line.dashed)


def write(path: Path, picture: Picture, bodies: Mapping[int, Body]) -> None:
    """Draw a picture and write it as a small PNG."""
    right, up = VIEWS[picture.view][:2]
    shown = [bodies[fdi] for fdi in picture.teeth]
    flat = _on_page([*(body.vertices for body in shown), *(line.points for line in picture.lines)], right, up)
    (left, bottom), (end, top) = flat.min(0) - _MARGIN_MM, flat.max(0) + _MARGIN_MM
    labels = [line for line in picture.lines if line.label]
    below = 0.22 * len(labels) + 0.08
    height = min(_WIDTH_IN * (top - bottom) / (end - left), 3.4)
    figure = Figure(figsize=(_WIDTH_IN, height + below), dpi=_DPI)
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        axes = figure.add_axes((0.0, below / (height + below), 1.0, height / (height + below)))
        draw(axes, shown, picture.view, (left, end, bottom, top))
        for line in picture.lines:
            x, y = _on_page([line.points], right, up).T
            axes.plot(x, y, color=line.colour, lw=2.0, ls="--" if line.dashed else "-",
                      marker=None if line.dashed else "o", ms=4.5)  # fmt: skip
        for number, line in enumerate(labels):
            y = (below - 0.16 - 0.22 * number) / (height + below)
            figure.text(0.03, y, "- -" if line.dashed else "—", color=line.colour, weight="bold", va="center")
            figure.text(0.10, y, line.label, fontsize=9.5, va="center")
        data = BytesIO()
        figure.savefig(data, format="png", facecolor="white", metadata={"Software": None})
    small = BytesIO()
    Image.open(data).convert("RGB").quantize(96, kmeans=1).save(small, format="png", optimize=True)
    atomic.write_bytes(path, small.getvalue())


def _on_page(parts: Iterable[Array], right: Array, up: Array) -> Array:
    """Points (N, 2) as seen on the page."""
    points = np.concatenate(list(parts))
    return np.stack([points @ right, points @ up], axis=1)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
