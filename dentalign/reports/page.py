"""HTML pages that open from disk: one file has the style, the scripts, the 3D library and the teeth.

The templates are in `assets/`. All text from data is escaped by the template engine, or written as JSON that
cannot close its element. A content security policy allows only the scripts of the page, by their hashes, and
forbids the page to load anything.
"""

import base64
import functools
import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from dentalign.clinical.tables import ReportRow
from dentalign.files import atomic
from dentalign.reports.charts import Chart
from dentalign.reports.scene import Scene, SceneTooth, label_and_unit, tooth_name
from dentalign.reports.scene_mesh import pack
from dentalign.teeth import is_upper

ASSETS = Path(__file__).parent / "assets"
VIEWER_SCRIPTS = ("three/three.min.js", "tooth_meshes.js", "tooth_figures.js", "viewer.js", "tables.js")

# `dentalign view --export` puts the git revision here; in the file itself it stays empty.
REVISION_PLACE = "<!-- dentalign: revision -->"

# A colour scale ends at the first of these that 90 % of the teeth stay below: few steps, so that the
# colours of two reports can be compared.
_SCALE_ENDS = {"mm": (1.5, 3.0, 6.0, 12.0), "°": (5.0, 15.0, 30.0, 60.0)}


@dataclass(frozen=True)
class ClinicalTable:
    """Clinical measures for the report of a case: headings of the times, and the rows."""

    times: tuple[str, ...]
    rows: Sequence[ReportRow]


@dataclass(frozen=True)
class OrderOfWork:
    """Section of a case's report on its treatment stages: chart, sentences, and (contact, mm of enamel)."""

    chart: Chart
    words: Sequence[str]
    enamel: Sequence[tuple[str, float]]


def write_case(
    path: str | Path,
    scene: Scene,
    warnings: Sequence[str] = (),
    clinical: ClinicalTable | None = None,
    order: OrderOfWork | None = None,
) -> None:
    """Write the 3D report of one case as one self-contained HTML file, all or nothing.

    The surface of a tooth has at most `scene_mesh.MOST_FACES` faces, so that a full mouth stays under 5 MB.
    The same scene gives the same bytes.

    warnings : sentences at the head of the page
    clinical : clinical measures, a table below the picture; a click on a measure marks its points
    order    : section on the treatment stages
    """
    content = render_viewer(
        "case.html", [scene], case_id=scene.case_id, warnings=warnings, clinical=clinical, order=order
    )
    atomic.write_bytes(path, content)


def render_viewer(template: str, scenes: Sequence[Scene], *, ends: Mapping[str, float] | None = None,
                  **values: Any) -> bytes:  # fmt: skip
    """Render a page with the 3D viewer, from a template in `assets/`; the same input gives the same bytes.

    scenes : cases that the reader can choose; the first one is shown at the start
    ends   : name of a figure -> end of its colour scale, for scales that are the same in all reports
    values : variables of the template, which escapes them
    """
    data = page_data(scenes, ends or {})
    return render(template, VIEWER_SCRIPTS, data=data, three_licence=_asset("three/LICENSE"), **values)


def render(template: str, scripts: Sequence[str], **values: Any) -> bytes:
    """Render a page from a template and scripts in `assets/`; the same input gives the same bytes."""
    style, sources = _asset("page.css"), [_asset(name) for name in scripts]
    page = environment().get_template(template).render(
        policy=_policy(sources, style),
        style=Markup(style),
        scripts=[Markup(source) for source in sources],
        revision_place=Markup(REVISION_PLACE),
        **values,
    )  # fmt: skip
    return page.encode("utf-8")


@functools.cache
def environment(autoescape: bool = True) -> Environment:
    """Template engine for `assets/`; autoescape=False is only for templates that are not HTML."""
    made = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["plain"] = plain
    made.tests["in_parts"] = lambda name: "." in name
    made.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False, "separators": (",", ":")}
    return made


def plain(text: object) -> str:
    """Replace the characters of a text that control, reorder or hide what is shown, line breaks included."""
    hidden = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in hidden else c for c in str(text))


def page_data(scenes: Sequence[Scene], ends: Mapping[str, float]) -> dict[str, Any]:
    """Make the input of the viewer as plain JSON values; equal lists of faces are written once.

    ends : name of a figure -> end of its colour scale, in its unit; other figures get one by their values
    """
    faces: dict[bytes, int] = {}
    written = [_scene(scene, faces) for scene in scenes]
    names = dict.fromkeys(name for scene in scenes for name in scene.figure_names())
    return {
        "faces": [_base64(content) for content in faces],
        "figures": {name: _figure(name, scenes, ends) for name in names},
        "scenes": written,
    }


def _scene(scene: Scene, faces: dict[bytes, int]) -> dict[str, Any]:
    return {
        "case": plain(scene.case_id),
        "states": [[key, plain(label)] for key, label in scene.states],
        "teeth": [_tooth(tooth, faces) for tooth in scene.teeth],
        "figures": list(scene.figure_names()),
        "colourBy": list(scene.colour_by),
        "notes": [plain(note) for note in scene.notes],
    }


def _tooth(tooth: SceneTooth, faces: dict[bytes, int]) -> dict[str, Any]:
    mesh = pack(tooth)
    return {
        "fdi": int(tooth.fdi),
        "name": tooth_name(tooth.fdi),
        "arch": "upper" if is_upper(tooth.fdi) else "lower",
        "vertices": _base64(mesh.steps.tobytes()),
        "centre": list(mesh.centre_mm),
        "step": mesh.step_mm,
        "faces": faces.setdefault(mesh.faces.tobytes(), len(faces)),
        "poses": {key: _pose(np.asarray(pose, dtype=np.float64)) for key, pose in tooth.poses.items()},
        "values": {name: float(f"{value:.6g}") for name, value in tooth.figures.items()},
    }


def _pose(matrix: NDArray[np.float64]) -> list[float]:
    """Translation, mm, and quaternion x, y, z, w with w >= 0, for lerp and slerp."""
    from scipy.spatial.transform import Rotation

    quaternion = Rotation.from_matrix(matrix[:3, :3]).as_quat(canonical=True)
    return [*np.round(matrix[:3, 3], 5).tolist(), *np.round(quaternion, 7).tolist()]


def _figure(name: str, scenes: Sequence[Scene], ends: Mapping[str, float]) -> dict[str, Any]:
    """Label, unit and colour scale of a figure; the scale of one with negative values is centred on 0."""
    label, unit = label_and_unit(name)
    values = np.array([t.figures[name] for scene in scenes for t in scene.teeth if name in t.figures])
    reach = float(np.quantile(np.abs(values), 0.9))
    steps = _SCALE_ENDS[unit]
    end = ends.get(name) or next((step for step in steps if reach <= step), steps[-1])
    return {"label": label, "unit": unit, "end": end, "signed": bool((values < 0).any())}


def _policy(scripts: Sequence[str], style: str) -> str:
    def hashed(text: str) -> str:
        return f"'sha256-{_base64(hashlib.sha256(text.encode('utf-8')).digest())}'"

    allowed = " ".join(hashed(script) for script in scripts) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src {hashed(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


@functools.cache
def _asset(name: str) -> str:
    text = (ASSETS / name).read_text(encoding="utf-8")
    if "</script" in text.lower() or "<!--" in text or "</style" in text.lower():
        raise ValueError(f"{name}: would close the element it stands in")
    return text


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
