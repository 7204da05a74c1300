"""Content of the 3D report of one case: teeth, their poses in each state (T1, T2, ..), and their figures.

Coordinates are millimetres. A tooth's surface is tooth-local; a pose carries it to the head frame
(right-handed, x to the patient's left, y to posterior, z up).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dentalign.teeth import PRIMARY

UNITS = {"mm": "mm", "deg": "°"}

_QUADRANTS = ("upper right", "upper left", "lower left", "lower right")
_PERMANENT = ("central incisor", "lateral incisor", "canine", "first premolar", "second premolar",
              "first molar", "second molar", "third molar")  # fmt: skip
_PRIMARY = ("central incisor", "lateral incisor", "canine", "first molar", "second molar")


@dataclass(frozen=True)
class SceneTooth:
    """One tooth of a scene.

    fdi      : FDI number in the file; a primary tooth keeps its own number
    vertices : (V, 3) float, tooth-local, mm
    faces    : (F, 3) int, outward winding
    poses    : key of a state -> (4, 4), tooth-local -> head, mm; without the states in which there is no
               tooth
    figures  : name -> value, shown when the tooth is chosen; the name ends in the unit, a key of `UNITS`
    """

    fdi: int
    vertices: NDArray[np.floating]
    faces: NDArray[np.integer]
    poses: Mapping[str, NDArray[np.floating]]
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """Case to show in 3D, with one arch or both.

    case_id   : any text
    states    : (key, label) of each state, in the order of time. The slider starts at the first state and
                ends at one that the reader chooses. A key that begins with "stage" is an intermediate
                treatment stage: the teeth pass it on the way to the next state, and it cannot be chosen
    teeth     : at least one; each FDI number once
    colour_by : names of figures by which the teeth can be coloured; the first is used when the report opens
    notes     : sentences shown beside the picture, such as which teeth were left out
    raises    : ValueError if a figure of `colour_by` is in no tooth
    """

    case_id: str
    states: tuple[tuple[str, str], ...]
    teeth: tuple[SceneTooth, ...]
    colour_by: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if missing := [name for name in self.colour_by if name not in self.figure_names()]:
            raise ValueError(f"case {self.case_id!r}: no tooth has the figure {missing[0]!r} to colour by")

    def figure_names(self) -> tuple[str, ...]:
        """Names of all figures of the teeth, each once, in the order of the teeth."""
        return tuple(dict.fromkeys(name for tooth in self.teeth for name in tooth.figures))


def label_and_unit(name: str) -> tuple[str, str]:
    """Split the name of a figure into words and unit: "translation_error_mm" -> ("translation error", "mm").

    A bound has its percentage after the unit: "add_mm_90" -> ("ADD, 90 % are below", "mm").

    raises: ValueError if the name does not end in a key of `UNITS`, or in one and a percentage
    """
    plain, _, percent = name.rpartition("_")
    bounded = percent.isdecimal()
    words, _, suffix = (plain if bounded else name).rpartition("_")
    if not words or suffix not in UNITS:
        raise ValueError(f"a figure's name must end in its unit ({', '.join(UNITS)}), got {name!r}")
    label = " ".join("ADD" if word == "add" else word for word in words.split("_"))
    return f"{label}, {percent} % are below" if bounded else label, UNITS[suffix]


def tooth_name(fdi: int) -> str:
    """Name of a tooth (ISO 3950): 16 -> "upper right first molar"; right is the patient's."""
    side, kind = _QUADRANTS[(fdi // 10 - 1) % 4], fdi % 10 - 1
    return f"{side} primary {_PRIMARY[kind]}" if fdi in PRIMARY else f"{side} {_PERMANENT[kind]}"
