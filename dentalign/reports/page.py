"""One HTML file that opens from disk: style, scripts, the 3D library and the teeth are all inside it.

The sources are in `report_assets/`. Everything that comes from data is escaped by the template engine or
written as JSON that cannot close its element; a content security policy lets nothing but our own scripts
run, by their hashes, and nothing be loaded.
"""

import base64
import functools
import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from dentalign.reports import tooth_names
from dentalign.reports.scene import Scene, SceneTooth, label_and_unit
from dentalign.reports.scene_mesh import pack
from dentalign.teeth import is_upper

ASSETS = Path(__file__).parent / "report_assets"
SCRIPTS = ("three/three.min.js", "tooth_meshes.js", "tooth_figures.js", "viewer.js", "tables.js")

# Where `dentalign view` writes the git revision; in the file itself it stays empty.
REVISION_PLACE = "<!-- dentalign: revision -->"

# A scale ends at the first of these that 90 % of the teeth stay below: few steps, so that the colours
# of two reports can be compared.
_SCALE_ENDS = {
    "mm": (1.5, 3.0, 6.0, 12.0),
    "°": (5.0, 15.0, 30.0, 60.0),
    "%": (100.0,),
    "share, 0 to 1": (1.0,),
}


def render(template: str, scenes: Sequence[Scene], *, ends: Mapping[str, float] | None = None,
           **values: Any) -> bytes:  # fmt: skip
    """A page from a template in `report_assets/`; the same input, the same bytes.

    scenes : shown by the page's 3D viewer, the first one at the start
    ends   : figure name -> where its colour scale ends, for figures whose scale is to be the same everywhere
    values : what the template asks for, escaped there
    """
    style = _asset("viewer.css")
    scripts = [_asset(name) for name in SCRIPTS]
    rendered = (
        _environment()
        .get_template(template)
        .render(
            policy=_policy(scripts, style),
            style=Markup(style),
            scripts=[Markup(script) for script in scripts],
            data=page_data(scenes, ends or {}),
            revision_place=Markup(REVISION_PLACE),
            three_licence=_asset("three/LICENSE"),
            **values,
        )
    )
    return rendered.encode("utf-8")


def plain(text: object) -> str:
    """Text as one line without control characters, and without those that reorder or hide what is shown."""
    hidden = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in hidden else c for c in str(text))


def page_data(scenes: Sequence[Scene], ends: Mapping[str, float]) -> dict[str, Any]:
    """What the viewer reads, plain JSON. Equal lists of faces are written once."""
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
        "name": tooth_names.name(tooth.fdi),
        "arch": "upper" if is_upper(tooth.fdi) else "lower",
        "vertices": _base64(mesh.steps.tobytes()),
        "middle": list(mesh.middle_mm),
        "step": mesh.step_mm,
        "faces": faces.setdefault(mesh.faces.tobytes(), len(faces)),
        "poses": {key: _pose(np.asarray(pose, dtype=np.float64)) for key, pose in tooth.poses.items()},
        "values": {name: _rounded(float(value)) for name, value in tooth.figures.items()},
    }


def _pose(matrix: NDArray[np.float64]) -> list[float]:
    """Translation, mm, and quaternion x, y, z, w with w >= 0: what slerp and lerp go between."""
    from scipy.spatial.transform import Rotation

    quaternion = Rotation.from_matrix(matrix[:3, :3]).as_quat(canonical=True)
    return [*np.round(matrix[:3, 3], 5).tolist(), *np.round(quaternion, 7).tolist()]


def _figure(name: str, scenes: Sequence[Scene], ends: Mapping[str, float]) -> dict[str, Any]:
    """Label, unit and colour scale of a figure; a figure with negative values has its white in the middle."""
    label, unit = label_and_unit(name)
    found = np.array([t.figures[name] for scene in scenes for t in scene.teeth if name in t.figures])
    reach = float(np.quantile(np.abs(found), 0.9))
    steps = _SCALE_ENDS[unit]
    end = ends.get(name) or next((step for step in steps if reach <= step), steps[-1])
    return {"label": label, "unit": unit, "end": end, "signed": bool((found < 0).any())}


def _policy(scripts: Sequence[str], style: str) -> str:
    def hashed(text: str) -> str:
        return f"'sha256-{_base64(hashlib.sha256(text.encode('utf-8')).digest())}'"

    return (
        f"default-src 'none'; script-src {' '.join(hashed(s) for s in scripts)}; style-src {hashed(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


@functools.cache
def _asset(name: str) -> str:
    text = (ASSETS / name).read_text(encoding="utf-8")
    if "</script" in text.lower() or "<!--" in text or "</style" in text.lower():
        raise ValueError(f"{name}: would close the element it stands in")
    return text


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = plain
    environment.policies["json.dumps_kwargs"] = {
        "sort_keys": True,
        "allow_nan": False,
        "separators": (",", ":"),
    }
    return environment


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
