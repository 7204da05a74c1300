"""The content of a 3D report of one case: teeth, the states they stand in, and their figures.

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
    raises    : ValueError where no tooth has a figure of `colour_by`
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
    """The name of a tooth (ISO 3950): 16 -> "upper right first molar"; right is the patient's."""
    side, kind = _QUADRANTS[(fdi // 10 - 1) % 4], fdi % 10 - 1
    return f"{side} primary {_PRIMARY[kind]}" if fdi in PRIMARY else f"{side} {_PERMANENT[kind]}"
