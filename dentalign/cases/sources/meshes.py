"""Tooth meshes `<case_id>/<FDI>.stl` as local files: in their folder, or in a mirror of a remote store."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dentalign.cases.settings import Fetch, Limits
from dentalign.cases.sources.base import CaseSource, check_size
from dentalign.cases.sources.location import open_source
from dentalign.errors import CaseDefect, ToothDefect
from dentalign.files import atomic
from dentalign.files.hashing import sha256
from dentalign.geometry import stl
from dentalign.running.state_dir import state_dir


class MeshStore:
    """Meshes of a directory, a URL prefix or a `.url` file. Safe to use from several threads."""

    def __init__(self, location: str, limits: Limits, fetch: Fetch | None = None):
        """Open the store; raises as `location.open_source`."""
        self._source: CaseSource = open_source(location, fetch)
        self._limit = int(limits.max_mesh_mb * 1e6)
        self._mirror = state_dir() / "meshes" / sha256(self._source.prefix)[:32]

    @staticmethod
    def name(case_id: str, fdi: int) -> str:
        """Name of a tooth's mesh below the prefix."""
        return f"{case_id}/{fdi}.stl"

    @property
    def is_local(self) -> bool:
        """True if the meshes are files of a folder."""
        return self._source.is_local

    def location(self, name: str) -> str:
        """Path or URL of a mesh, as the user knows it."""
        return self._source.location(name)

    def mesh_path(self, name: str) -> Path:
        """Return the mesh as a local file; a mirrored one is not asked for again.

        raises: CaseDefect, of the kind Unreachable if the mesh could not be had
        """
        if (path := self._source.local_path(name)) is not None:
            return path
        mirrored = self._mirror / name
        if not mirrored.is_file():
            self.refresh(name)
        return mirrored

    def refresh(self, name: str) -> str:
        """Return the SHA-256 of the mesh as it is now at its source; mirror a remote one if it changed.

        Both are without the free text of an STL file (`stl.without_text`).

        raises: as `mesh_path`, and CaseDefect for a file over limits.max_mesh_mb
        """
        if self.is_local:
            return stl.mesh_sha256(self._source.read(name, self._limit))
        mirrored, note = self._mirror / name, self._mirror / f"{name}.json"
        known = _read_note(note)
        if known and not (mirrored.is_file() and _sha256(mirrored) == known["sha256"]):
            known = None  # the mirror is damaged
        content = self._source.read_if_changed(name, self._limit, known["validator"] if known else None)
        if content is None and known:
            check_size(mirrored.stat().st_size, self._limit, self.location(name))
            return str(known["sha256"])
        assert content is not None  # without a known validator the source gives the file
        data = stl.without_text(content.data)
        digest = stl.mesh_sha256(data)
        note.unlink(missing_ok=True)  # never a note of other bytes than those beside it
        atomic.write_bytes(mirrored, data)
        if content.validator is not None:
            atomic.write_text(note, json.dumps({"validator": content.validator, "sha256": digest}))
        return digest

    def tooth_defect(self, defect: CaseDefect, name: str, fdi: int) -> ToothDefect:
        """Make the defect of a tooth whose mesh cannot be had: it costs the tooth, not the case."""
        if defect.code == "not_found":
            seen, fix = "the mesh is missing", "export the mesh, or take the tooth out of the case"
            return ToothDefect("missing_mesh", seen, fix, file=self.location(name), tooth=fdi)
        return ToothDefect(f"mesh_{defect.code}", defect.seen, defect.fix, file=defect.file, tooth=fdi)

    def close(self) -> None:
        """Close connections, and wake what waits for a retry."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self.close()


def _sha256(path: Path) -> str:
    return stl.mesh_sha256(path.read_bytes())


def _read_note(path: Path) -> dict[str, Any] | None:
    try:
        note = json.loads(path.read_bytes())
        return {"validator": str(note["validator"]), "sha256": str(note["sha256"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none yet, or damaged: the mesh is fetched again
