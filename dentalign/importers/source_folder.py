"""The downloaded files: found by name, read within bounds, named where they are not what they should be."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dentalign.cases.sources.folder import LocalSource
from dentalign.errors import CaseDefect, DentalignError, ToothDefect
from dentalign.geometry import stl

AGAIN = "download and unpack it again"
MAX_SCAN_MB, MAX_CROWN_MB, MAX_JSON_MB, MAX_TABLE_MB = 256.0, 64.0, 64.0, 1.0
# A scan of 300,000 vertices has some 2.4 million labels, instances and coordinates.
MOST_VALUES = 8_000_000
MAX_COORDINATE_MM = 1e4
MAX_DEPTH = 4  # of folders below the one that is named


class SourceFolder:
    """A folder of downloaded files; a link that leads out of it is refused."""

    def __init__(self, folder: Path):
        """Open it; raises DentalignError where there is no such folder."""
        if not folder.is_dir():
            raise DentalignError(f"{folder}: no such folder; unpack the download and name the folder")
        self.folder = folder
        self._source = LocalSource(folder)

    def folders(self) -> Iterator[tuple[str, list[str], list[str]]]:
        """Name below the source ("" for itself), folders and files of each; sorted, links not followed."""
        root = str(self.folder)
        for path, folders, files in os.walk(root):
            name = os.path.relpath(path, root).replace(os.sep, "/")
            name = "" if name == "." else name
            folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
            here = list(folders)
            linked = [f for f in folders if os.path.islink(os.path.join(path, f))]
            if name.count("/") + bool(name) >= MAX_DEPTH:
                folders.clear()
            yield name, here, sorted(f for f in files if not f.startswith("."))
            for folder in linked:  # named, so that what is in them is missed with a word
                yield (f"{name}/{folder}" if name else folder), [], []

    def location(self, name: str) -> str:
        """The path of a file, as the user knows it."""
        return self._source.location(name)

    def has(self, name: str) -> bool:
        """Whether there is such an entry, usable or not."""
        return os.path.lexists(self.folder / name)

    def read(self, name: str, max_mb: float) -> bytes:
        """The bytes of a file.

        raises: CaseDefect where it is missing, a link out of the folder, no plain file, empty or too large
        """
        try:
            size = self._source.path(name).stat().st_size
            if size > max_mb * 1e6:
                seen = f"{size / 1e6:.0f} MB, more than {max_mb:g} MB"
                raise CaseDefect("file_too_large", seen, AGAIN, file=self.location(name))
            data = self._source.read(name, int(max_mb * 1e6))
        except CaseDefect as defect:
            if defect.code in ("not_found", "unreadable"):
                mend = f"{AGAIN}; see to its access rights" if defect.code == "unreadable" else AGAIN
                raise CaseDefect("missing_file", defect.seen, mend, file=defect.file) from None
            raise
        if not data:
            raise CaseDefect("empty_file", "the file is empty", AGAIN, file=self.location(name))
        return data

    def stamp(self, name: str) -> str:
        """What changes when a file does: its size and time; "absent" where there is none."""
        try:
            status = os.stat(self.folder / name)
        except OSError:
            return "absent"
        return f"{status.st_size}-{status.st_mtime_ns}"

    def triangles(self, name: str, fdi: int = 0, max_mb: float = MAX_CROWN_MB) -> NDArray[np.float64]:
        """Triangles (F, 3, 3) of an STL file, in the file's unit; raises CaseDefect where it is none."""
        data = self.read(name, max_mb)
        try:
            with np.errstate(invalid="ignore"):  # NaN is refused below, without numpy's warning
                triangles = stl.read_triangles(data, file=self.location(name), tooth=fdi)
        except ToothDefect as defect:
            raise self.damaged_mesh(name, defect.seen, fdi) from None
        self.check_coordinates(name, triangles.reshape(-1, 3), fdi)
        edges = triangles[:, 1:] - triangles[:, :1]
        if not np.cross(edges[:, 0], edges[:, 1]).any():
            raise self.damaged_mesh(name, "all triangles have area 0", fdi)
        return triangles

    def damaged_mesh(self, name: str, seen: str, fdi: int = 0) -> CaseDefect:
        """The defect of a mesh file that cannot be used."""
        return CaseDefect(
            "damaged_mesh", f"no usable mesh: {seen}", AGAIN, file=self.location(name), tooth=fdi
        )

    def check_coordinates(self, name: str, points: NDArray[np.float64], fdi: int = 0) -> None:
        """Refuse what cannot be millimetres of a mouth; raises CaseDefect."""
        if not np.isfinite(points).all() or np.abs(points).max(initial=0.0) > MAX_COORDINATE_MM:
            raise self.damaged_mesh(name, f"a coordinate is no number or over {MAX_COORDINATE_MM:g} mm", fdi)

    def json_object(self, name: str) -> dict[str, Any]:
        """A JSON file that holds an object; raises CaseDefect where it is none, or has too many values."""
        data, file = self.read(name, MAX_JSON_MB), self.location(name)
        if sum(data.count(mark) for mark in (b",", b"{", b"[")) > MOST_VALUES:
            raise CaseDefect("damaged_json", f"more than {MOST_VALUES} values", AGAIN, file=file)
        try:
            values = json.loads(data.decode("utf-8-sig"), parse_int=float)
        except (ValueError, RecursionError) as error:  # also a wrong encoding
            seen = f"no usable JSON ({type(error).__name__}); it may be cut short"
            raise CaseDefect("damaged_json", seen, AGAIN, file=file) from None
        if not isinstance(values, dict):
            raise CaseDefect("damaged_json", "the JSON is no object", AGAIN, file=file)
        return values
