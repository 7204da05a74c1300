"""Scenes for the tests of reports: the mouth of a made-up patient, with a prediction that is a little off."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dentalign.demo_clinic import clinic
from dentalign.geometry import rigid
from dentalign.reports.scene import Scene, SceneTooth

STATES = (("t1", "T1"), ("predicted", "predicted T2"), ("t2", "true T2"))
EXTRACTED, PRIMARY, ITS_SLOT = 14, 75, 35


@functools.cache
def full_mouth() -> Scene:
    """28 teeth; tooth 14 is at T1 only, and 35 is still its primary tooth 75."""
    case = clinic.make_case(1, seed=3, complete=True)
    rng = np.random.default_rng(5)
    teeth = []
    for fdi, crown in case.patient.mouth.items():
        t1, t2 = case.t1[fdi], case.t2[fdi]
        poses = {"t1": t1}
        figures: dict[str, float] = {}
        if fdi != EXTRACTED:
            predicted = t2.copy()
            predicted[:3, 3] += rng.normal(0, 0.3, 3)
            poses |= {"predicted": predicted, "t2": t2}
            figures = {
                "movement_mm": float(np.linalg.norm(predicted[:3, 3] - t1[:3, 3])),
                "vertical_mm": float(predicted[2, 3] - t1[2, 3]),
                "rotation_deg": float(rigid.angle_deg(predicted[:3, :3] @ t1[:3, :3].T)),
            }
        number = PRIMARY if fdi == ITS_SLOT else fdi
        teeth.append(SceneTooth(number, crown.vertices, crown.faces, poses, figures))
    notes = (f"Extracted in the plan, at T1 only: {EXTRACTED}.",)
    return Scene("clinic-0001", STATES, tuple(teeth), ("movement_mm", "vertical_mm"), notes)


def tooth(fdi: int = 11, **changes: Any) -> SceneTooth:
    """A tetrahedron as a tooth, at T1 only."""
    vertices = np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 0], [0, 0, 6]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    return replace(SceneTooth(fdi, vertices, faces, {"t1": np.eye(4)}), **changes)


def at(x: float, y: float, z: float) -> NDArray[np.float64]:
    """A pose without a turn, mm."""
    pose = np.eye(4)
    pose[:3, 3] = x, y, z
    return pose


class Page(HTMLParser):
    """The elements of a page as a browser's parser cuts them: (tag, attributes, text)."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(text)
        self.close()

    @classmethod
    def of(cls, path: Path) -> "Page":
        return cls(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        if tag not in ("meta", "input", "br", "wbr"):
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self.elements[self._open.pop()][0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        for index in self._open:
            self.elements[index][2].append(data)

    def all(self, tag: str, **attributes: str) -> Iterator[tuple[Mapping[str, str | None], str]]:
        """Attributes and text, that of inner elements included, of the elements of a kind."""
        for name, given, text in self.elements:
            if name == tag and all(given.get(key) == value for key, value in attributes.items()):
                yield given, "".join(text)

    def text(self, tag: str, **attributes: str) -> str:
        """The text of the only such element."""
        (found,) = self.all(tag, **attributes)
        return found[1]
