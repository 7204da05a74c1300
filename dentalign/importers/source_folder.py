"""Folder that cases are imported from: find its files, read them within limits, make their defects."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dentalign.cases.sources.folder import LocalSource
from dentalign.errors import CaseDefect, DentalignError, ToothDefect
from dentalign.geometry import mesh_file

AGAIN, EXPORT_AGAIN = "download and unpack it again", "export it again"
MAX_SCAN_MB, MAX_CROWN_MB, MAX_JSON_MB, MAX_TABLE_MB = 256.0, 64.0, 64.0, 1.0
# A scan of 300,000 vertices has some 2.4 million labels, instances and coordinates.
MOST_VALUES = 8_000_000
MAX_COORDINATE_MM = 1e4


class SourceFolder:
    """Folder that cases are imported from; links that lead out of it are refused.

    Files are named by their path relative to the folder.

    again : fix named in the defect of a damaged file, such as "download and unpack it again"
    """

    def __init__(self, folder: Path, again: str = AGAIN):
        """Open the folder; raises DentalignError if there is no such folder."""
        if not folder.is_dir():
            raise DentalignError(f"{folder}: no such folder; name the folder of the unpacked files")
        self.folder, self.again = folder, again
        self._source = LocalSource(folder)

    def find(self, pattern: str) -> list[str]:
        """Find files and folders by a glob pattern: relative paths, sorted, without hidden ones.

        A linked folder may match, but nothing inside it, so that its case is listed as left out.
        """
        names = [path.relative_to(self.folder) for path in self.folder.glob(pattern)]
        hidden = (".", "__MACOSX")
        return sorted(n.as_posix() for n in names if not any(part.startswith(hidden) for part in n.parts))

    def location(self, name: str) -> str:
        """Path of a file as messages show it."""
        return self._source.location(name)

    def has(self, name: str) -> bool:
        """True if there is a file, folder or link of that name, usable or not."""
        return os.path.lexists(self.folder / name)

    def read(self, name: str, max_mb: float) -> bytes:
        """Read the bytes of a file.

        raises: CaseDefect if it is missing, a link out of the folder, no plain file, empty or too large
        """
        try:
            size = self._source.local_path(name).stat().st_size
            if size > max_mb * 1e6:
                raise self.defect("file_too_large", name, f"{size / 1e6:.0f} MB, more than {max_mb:g} MB")
            data = self._source.read(name, int(max_mb * 1e6))
        except CaseDefect as defect:
            if defect.code in ("not_found", "unreadable"):
                rights = "; check its access rights" if defect.code == "unreadable" else ""
                fix = f"{self.again}{rights}"
                raise CaseDefect("missing_file", defect.seen, fix, file=defect.file) from None
            raise
        if not data:
            raise self.defect("empty_file", name, "the file is empty")
        return data

    def stamp(self, name: str) -> str:
        """Text with size and modification time of a file, to detect a change; "absent" if there is none."""
        try:
            status = os.stat(self.folder / name)
        except OSError:
            return "absent"
        return f"{status.st_size}-{status.st_mtime_ns}"

    def triangles(self, name: str, fdi: int = 0, max_mb: float = MAX_CROWN_MB) -> NDArray[np.float64]:
        """Read the triangles (F, 3, 3) of an STL, PLY or OBJ file, in the file's unit.

        fdi    : tooth that the file belongs to, for the defect; 0: none
        raises : CaseDefect if the file cannot be used, or all triangles have area 0
        """
        vertices, faces = self.surface(name, fdi, max_mb)
        triangles = vertices[faces]
        edges = triangles[:, 1:] - triangles[:, :1]
        if not np.cross(edges[:, 0], edges[:, 1]).any():
            raise self.damaged_mesh(name, "all triangles have area 0", fdi)
        return triangles

    def surface(self, name: str, fdi: int = 0, max_mb: float = MAX_SCAN_MB) -> mesh_file.Surface:
        """Read vertices (V, 3), in the order of the file, and faces (F, 3); otherwise as `triangles`."""
        data = self.read(name, max_mb)
        try:
            with np.errstate(invalid="ignore"):  # NaN is refused by the reader, without numpy's warning
                vertices, faces = mesh_file.read(data, file=self.location(name), tooth=fdi)
        except ToothDefect as defect:
            if defect.code == "empty_mesh":
                raise self.defect("empty_file", name, defect.seen, fdi) from None
            raise self.damaged_mesh(name, defect.seen, fdi) from None
        self.check_coordinates(name, vertices, fdi)
        return vertices, faces

    def json_object(self, name: str) -> dict[str, Any]:
        """Read a JSON file; raises CaseDefect if it is no object, damaged, or has over 8 million values."""
        data = self.read(name, MAX_JSON_MB)
        if sum(data.count(mark) for mark in (b",", b"{", b"[")) > MOST_VALUES:
            raise self.defect("damaged_json", name, f"more than {MOST_VALUES} values")
        try:
            values = json.loads(data.decode("utf-8-sig"), parse_int=float)
        except (ValueError, RecursionError) as error:  # also a wrong encoding
            seen = f"no usable JSON ({type(error).__name__}); it may be truncated"
            raise self.defect("damaged_json", name, seen) from None
        if not isinstance(values, dict):
            raise self.defect("damaged_json", name, "the JSON is not an object")
        return values

    def check_coordinates(self, name: str, points: NDArray[np.float64], fdi: int = 0) -> None:
        """Raise CaseDefect if a coordinate of points (N, 3) is not finite, or over 10 m."""
        if not np.isfinite(points).all() or np.abs(points).max(initial=0.0) > MAX_COORDINATE_MM:
            seen = f"a coordinate is not finite or over {MAX_COORDINATE_MM:g} mm"
            raise self.damaged_mesh(name, seen, fdi)

    def damaged_mesh(self, name: str, seen: str, fdi: int = 0) -> CaseDefect:
        """Make the defect of a damaged mesh file."""
        return self.defect("damaged_mesh", name, f"no usable mesh: {seen}", fdi)

    def defect(self, code: str, name: str, seen: str, fdi: int | None = None) -> CaseDefect:
        """Make a defect of a file whose fix is a new copy of the file."""
        return CaseDefect(code, seen, self.again, file=self.location(name), tooth=fdi)
