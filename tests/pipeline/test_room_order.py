"""Imports run one way through the rooms of the package and its modules, and their picture is clear."""

from itertools import pairwise
from pathlib import Path

from tools import module_layers

# From the bottom up. A room may import the rooms before it; a new room gets its line here.
ORDER = (
    "starter",
    "files",
    "running",
    "geometry",
    "mouth",
    "planning",
    "clinical",
    "cases",
    "dataset",
    "training",
    "autoencoder",
    "alignment",
    "reports",
    "validation",
    "prediction",
    "check",
    "describe",
    "doctor",
    "demo_clinic",
    "importers",
    "export",
    "serving",
    "pseudonymise",
    "repair",
    "settings",
    "cli",
)


def test_no_room_imports_one_above_it() -> None:
    uses = module_layers.uses()
    assert set(uses) == set(ORDER)
    upward = [
        (room, other)
        for room, others in uses.items()
        for other in others
        if ORDER.index(other) > ORDER.index(room)
    ]
    assert not upward


def test_no_module_imports_itself_by_way_of_others() -> None:
    imports = module_layers.imports()

    def below(file: Path) -> set[Path]:
        found: set[Path] = set()
        waiting = list(imports[file])
        while waiting:
            if (one := waiting.pop()) not in found:
                found.add(one)
                waiting += imports[one]
        return found

    assert not [file for file in imports if file in below(file)]


def test_no_line_and_no_room_of_the_picture_lies_over_another_room() -> None:
    graph = module_layers.built_on(module_layers.uses())
    rows, pieces = module_layers.routed(graph, module_layers.layers(graph))
    x = module_layers.places(rows, pieces)
    for row in rows:
        for left, right in pairwise(sorted(row, key=x.__getitem__)):
            assert x[right] - x[left] >= module_layers._apart(left, right) - 1e-6
