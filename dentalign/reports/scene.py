"""The content of a 3D report of one case: teeth, the states they stand in, and their figures.

Coordinates are millimetres. A tooth's surface is tooth-local; a pose carries it to the head frame
(right-handed, x to the patient's left, y to posterior, z up).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dentalign.teeth import PRIMARY, is_known

UNITS = {"mm": "mm", "deg": "°", "percent": "%", "share": "share, 0 to 1"}

_QUADRANTS = ("upper right", "upper left", "lower left", "lower right")
_PERMANENT = ("central incisor", "lateral incisor", "canine", "first premolar", "second premolar",
              "first molar", "second molar", "third molar")  # fmt: skip
_PRIMARY = ("central incisor", "lateral incisor", "canine", "first molar", "second molar")

_RIGID_WITHIN = 1e-3  # of a rotation matrix: more than rounding, less than any scale or shear worth the name


@dataclass(frozen=True)
class SceneTooth:
    """One tooth.

    fdi      : as in the file: a primary tooth keeps its number
    vertices : (V, 3) float, tooth-local mm
    faces    : (F, 3) int, outward winding
    poses    : state key -> (4, 4), tooth-local -> head, mm; a tooth may lack a state (extracted)
    figures  : name -> number, shown when the tooth is chosen; a name ends in its unit, one of `UNITS`
    """

    fdi: int
    vertices: NDArray[np.floating]
    faces: NDArray[np.integer]
    poses: Mapping[str, NDArray[np.floating]]
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """One case, one arch or both.

    case_id   : any text
    states    : (key, label) in the order of time; the slider starts at the first. Every other state can be
                chosen as its end, except those whose key begins with "stage": intermediate stages, which
                stand before the state they lead to and which the teeth pass on the way
    teeth     : at least one, each FDI number once
    colour_by : names of figures that may colour the teeth; the first is on when the report opens
    notes     : plain sentences shown beside the picture, such as which teeth were left out
    raises    : ValueError, naming case and tooth, where the parts do not fit together
    """

    case_id: str
    states: tuple[tuple[str, str], ...]
    teeth: tuple[SceneTooth, ...]
    colour_by: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        keys = [key for key, _ in self.states]
        if not keys or len(set(keys)) < len(keys):
            raise ValueError(f"case {self.case_id!r}: states must have different keys, got {keys}")
        numbers = [tooth.fdi for tooth in self.teeth]
        if not numbers or len(set(numbers)) < len(numbers):
            raise ValueError(f"case {self.case_id!r}: teeth must be different ones, got {numbers}")
        for tooth in self.teeth:
            if fault := _fault_of(tooth, keys):
                raise ValueError(f"case {self.case_id!r}, tooth {tooth.fdi}: {fault}")
        known = {name for tooth in self.teeth for name in tooth.figures}
        if missing := [name for name in self.colour_by if name not in known]:
            raise ValueError(f"case {self.case_id!r}: no tooth has the figure {missing[0]!r} to colour by")

    def figure_names(self) -> tuple[str, ...]:
        """Names of the figures that any tooth has, each once, in the order of the teeth."""
        return tuple(dict.fromkeys(name for tooth in self.teeth for name in tooth.figures))


def label_and_unit(name: str) -> tuple[str, str]:
    """A figure's name in words, and its unit: "translation_error_mm" -> ("translation error", "mm").

    raises: ValueError where the name does not end in one of `UNITS`
    """
    words, _, suffix = name.rpartition("_")
    if not words or suffix not in UNITS:
        raise ValueError(f"a figure's name must end in its unit ({', '.join(UNITS)}), got {name!r}")
    return " ".join("ADD" if word == "add" else word for word in words.split("_")), UNITS[suffix]


def tooth_name(fdi: int) -> str:
    """The name of a tooth (ISO 3950): 16 -> "upper right first molar"; right is the patient's.

    raises: ValueError where the notation has no such number
    """
    if not is_known(fdi):
        raise ValueError(f"{fdi} is not a number of the FDI notation")
    side, kind = _QUADRANTS[(fdi // 10 - 1) % 4], fdi % 10 - 1
    return f"{side} primary {_PRIMARY[kind]}" if fdi in PRIMARY else f"{side} {_PERMANENT[kind]}"


def _fault_of(tooth: SceneTooth, keys: list[str]) -> str:
    """The first fault of a tooth, in words; empty where there is none."""
    if not is_known(tooth.fdi):
        return "not a number of the FDI notation"
    vertices, faces = np.asarray(tooth.vertices), np.asarray(tooth.faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or not len(vertices) or not np.isfinite(vertices).all():
        return f"vertices must be finite and (V, 3), got {vertices.shape}"
    if faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
        return f"faces must be (F, 3), got {faces.shape}"
    if not np.issubdtype(faces.dtype, np.integer) or faces.min() < 0 or faces.max() >= len(vertices):
        return f"faces must number vertices from 0 to {len(vertices) - 1}"
    if not tooth.poses or (unknown := [key for key in tooth.poses if key not in keys]):
        return f"poses must be of the states {keys}, got {unknown if tooth.poses else 'none'}"
    for key, pose in tooth.poses.items():
        matrix = np.asarray(pose, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            return f"the pose {key!r} must be finite and (4, 4), got {matrix.shape}"
        rotation = matrix[:3, :3]
        if np.abs(rotation.T @ rotation - np.eye(3)).max() > _RIGID_WITHIN or np.linalg.det(rotation) < 0:
            return f"the pose {key!r} is not rigid"
    for name, value in tooth.figures.items():
        try:
            label_and_unit(name)
        except ValueError as error:
            return str(error)
        if not np.isfinite(value):
            return f"the figure {name} is {value}"
    return ""
