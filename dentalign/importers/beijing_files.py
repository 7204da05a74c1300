"""Which file is which in a folder of the Beijing set, and what its labels hold.

The names vary in the set; the rules are those of a loader that its authors published, and stricter where that
would take the first of several.
"""

import re

import numpy as np

from dentalign.errors import CaseDefect
from dentalign.geometry.rigid import Array
from dentalign.importers.source_folder import AGAIN, SourceFolder
from dentalign.teeth import is_known, is_upper

JAWS = {"upper": ("upper", "maxilla", "U"), "lower": ("lower", "mandib", "L")}


def marked_points(source: SourceFolder, name: str, jaw: str) -> dict[int, Array]:
    """FDI -> labelled points (N, 3) of one jaw."""
    segmentation = source.json_object(name).get("segmentation")
    if not isinstance(segmentation, dict):
        raise _damaged(source, name, "no object 'segmentation'")
    marked = {}
    for key, value in sorted(segmentation.items()):
        if not (key.isascii() and key.isdigit() and len(key) == 2 and is_known(int(key))):
            raise _damaged(source, name, "a key of 'segmentation' is no FDI number")
        if is_upper(int(key)) != (jaw == "upper"):
            raise _damaged(source, name, f"tooth {key} in the file of the {jaw} jaw")
        try:
            points = np.array(value["vertices"], dtype=np.float64).reshape(-1, 3)
        except (TypeError, ValueError, KeyError, IndexError):
            raise _damaged(source, name, f"tooth {key}: 'vertices' is no list of points") from None
        source.check_coordinates(name, points, int(key))
        if len(points):
            marked[int(key)] = points
    if not marked:
        raise _damaged(source, name, "no tooth is labelled")
    return marked


def _damaged(source: SourceFolder, name: str, seen: str) -> CaseDefect:
    return CaseDefect("damaged_labels", seen, AGAIN, file=source.location(name))


def scan_of(source: SourceFolder, folder: str, jaw: str) -> str:
    """The STL of a jaw; raises CaseDefect where there is none, or several."""
    return _one_of(source, folder, jaw, ".stl")


def labels_of(source: SourceFolder, folder: str, jaw: str) -> str:
    """The JSON of a jaw; raises CaseDefect where there is none, or several."""
    usual = join(folder, f"{jaw}_pred_landmarks.json")
    return usual if source.has(usual) else _one_of(source, folder, jaw, ".json")


def _one_of(source: SourceFolder, folder: str, jaw: str, suffix: str) -> str:
    """The one file of a jaw in a folder; raises CaseDefect where there is none, or several."""
    place = source.folder / folder
    names = sorted(file.name for file in place.iterdir()) if place.is_dir() else []
    fitting = [
        name for name in names if name.lower().endswith(suffix) and _jaw_of(name[: -len(suffix)]) == jaw
    ]
    if len(fitting) == 1:
        return join(folder, fitting[0])
    what = "scan (STL)" if suffix == ".stl" else "labels (JSON)"
    if fitting:
        seen = f"{len(fitting)} files may be the {what} of the {jaw} jaw"
        raise CaseDefect("several_files", seen, "leave one of them there", file=source.location(folder))
    seen = f"no {what} of the {jaw} jaw"
    raise CaseDefect("missing_file", seen, AGAIN, file=source.location(folder))


def _jaw_of(stem: str) -> str:
    """Upper or lower by a file's name, or "" where it does not say, or says both."""
    lowered = stem.lower()
    words = {jaw for jaw, (word, other, _) in JAWS.items() if word in lowered or other in lowered}
    letters = {jaw for jaw, (_, _, letter) in JAWS.items() if letter in re.split(r"[^A-Za-z]+", stem)}
    letters = letters or {jaw for jaw, (_, _, letter) in JAWS.items() if letter in stem}
    found = words or letters
    return found.pop() if len(found) == 1 else ""


def is_scan(file: str) -> bool:
    """Whether a file is a scan or its labels."""
    return file.lower().endswith((".stl", ".json"))


def join(folder: str, name: str) -> str:
    """The name of a file or folder in a folder, "" being the source itself."""
    return f"{folder}/{name}" if folder else name
