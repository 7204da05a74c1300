"""Tooth meshes `<case_id>/<FDI>.stl`, .ply or .obj: files of a folder, or local copies of remote files.

A folder is listed to find the mesh, so its extension may be in upper or lower case. From a server or object
store the name is requested with each of `REMOTE_EXTENSIONS` until a file is found, mostly with the first.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from dentalign.cases.settings import Fetch, Limits
from dentalign.cases.sources.base import CaseSource, Unreachable, check_size
from dentalign.cases.sources.location import open_source
from dentalign.errors import CaseDefect, ToothDefect
from dentalign.files import atomic
from dentalign.files.hashing import sha256
from dentalign.geometry import mesh_file
from dentalign.running.state_dir import state_dir

REMOTE_EXTENSIONS = (*mesh_file.KINDS, *(kind.upper() for kind in mesh_file.KINDS))

_CROWN = re.compile(rf"([1-9][0-9])\.({'|'.join(mesh_file.KINDS)})", re.IGNORECASE)
_MOST_NAMES = 3  # in an error

Found = TypeVar("Found")


class MeshUnreachable(ToothDefect):
    """Defect of a mesh that could not be read or downloaded now, but may be later."""


class MeshStore:
    """Meshes of a directory, a URL prefix or a `.url` file. Safe to use from several threads.

    A mesh is named by its folder below the prefix and the FDI number of its tooth. The folder is the case id,
    or "" if the meshes of a single case are right below the prefix.
    """

    def __init__(self, location: str, limits: Limits, fetch: Fetch | None = None):
        """Open the store; raises as `location.open_source`."""
        self._source: CaseSource = open_source(location, fetch)
        self._limit = int(limits.max_mesh_mb * 1e6)
        self._mirror = state_dir() / "meshes" / sha256(self._source.prefix)[:32]

    @property
    def is_local(self) -> bool:
        """True if the meshes are files of a folder."""
        return self._source.is_local

    def mesh_path(self, folder: str, fdi: int) -> tuple[Path, str]:
        """Return the local file of a mesh, and its path or URL; a local copy is used without a request.

        raises: ToothDefect if there is no mesh, or several, or if it is too large or damaged; MeshUnreachable
                if it could not be read or downloaded now
        """
        names = self._names(folder, fdi)
        mirrored = [name for name in names if (self._mirror / name).is_file()]
        return self._first(names if self.is_local else mirrored[:1] or names, fdi, self._as_local)

    def refresh(self, folder: str, fdi: int) -> str:
        """Return the SHA-256 of a mesh as it is at its source; update the local copy of a remote mesh.

        Digest and local copy are without the free text of a mesh file (`mesh_file.without_text`).

        raises: as `mesh_path`; also ToothDefect for a file over limits.max_mesh_mb, or for a remote file that
                is not a mesh and is therefore not kept
        """
        return self._first(self._names(folder, fdi), fdi, self._refresh)

    def _names(self, folder: str, fdi: int) -> list[str]:
        """Names that the mesh may have; in a folder the one that it has. Raises as `mesh_path`."""
        below = f"{folder}/" if folder else ""
        try:
            listed = self._source.names(folder)
        except Unreachable as failure:  # of an unreadable folder the defect of the file tells more
            listed = None if failure.code != "not_found" else []
        if listed is None:
            return [f"{below}{fdi}.{extension}" for extension in REMOTE_EXTENSIONS]
        crowns = [name for name in listed if _CROWN.fullmatch(name)]
        found = [name for name in crowns if name.startswith(f"{fdi}.")]
        if len(found) == 1:
            return [below + found[0]]
        file = self._source.location(f"{below}{found[0] if found else f'{fdi}.stl'}")
        if found:
            seen = f"several meshes of one tooth: {', '.join(found)}"
            raise ToothDefect("several_meshes", seen, "keep one of them", file=file, tooth=fdi)
        seen, fix = "the mesh is missing", "export the mesh, or take the tooth out of the case"
        if not listed and folder:
            seen = f"the mesh is missing: the folder {folder} is missing or empty"
        # What has the number in its name; else what is no crown of another tooth.
        others = [name for name in listed if name not in crowns and not name.startswith(".")]
        near = [name for name in others if re.search(rf"(?<!\d){fdi}(?!\d)", name)] or others
        if near:
            more = f" and {len(near) - _MOST_NAMES} more" if len(near) > _MOST_NAMES else ""
            shown = ", ".join(near[:_MOST_NAMES]).encode("utf-8", "backslashreplace").decode("utf-8")
            seen += f"; there is {shown}{more}"
            kind = mesh_file.kind_of(near[0])
            wanted = f"name it {fdi}.{kind}" if kind in mesh_file.KINDS else f"save it as {fdi}.stl"
            fix = f"if that is the tooth, {wanted}; else {fix}"
        raise ToothDefect("missing_mesh", seen, fix, file=file, tooth=fdi)

    def _first(self, names: list[str], fdi: int, read: Callable[[str, int], Found]) -> Found:
        """Read the first of the names that is there; raises as `mesh_path`."""
        for name in names:
            try:
                return read(name, fdi)
            except CaseDefect as defect:
                if defect.code == "not_found":
                    continue
                kind = MeshUnreachable if isinstance(defect, Unreachable) else ToothDefect
                code = f"mesh_{defect.code}"
                raise kind(code, defect.seen, defect.fix, file=defect.file, tooth=fdi) from defect
        last = ", ".join(name.rpartition("/")[2] for name in names)
        seen, fix = f"the mesh is missing: no {last}", "export the mesh, or take the tooth out of the case"
        raise ToothDefect("missing_mesh", seen, fix, file=self._source.location(names[0]), tooth=fdi)

    def _as_local(self, name: str, fdi: int) -> tuple[Path, str]:
        path = self._source.local_path(name)
        if path is None:
            path = self._mirror / name
            if not path.is_file():
                self._refresh(name, fdi)
        return path, self._source.location(name)

    def _refresh(self, name: str, fdi: int) -> str:
        file = self._source.location(name)
        if self.is_local:
            return mesh_file.mesh_sha256(self._source.read(name, self._limit), file=file)
        mirrored, note = self._mirror / name, self._mirror / f"{name}.json"
        known = _read_note(note)
        if known and not (mirrored.is_file() and _sha256(mirrored) == known["sha256"]):
            known = None  # the mirror is damaged
        try:
            content = self._source.read_if_changed(name, self._limit, known["validator"] if known else None)
        except Unreachable as failure:
            if failure.code == "not_found":  # what the source no longer has is not kept here
                note.unlink(missing_ok=True)
                mirrored.unlink(missing_ok=True)
            raise
        if content is None and known:
            check_size(mirrored.stat().st_size, self._limit, file)
            return str(known["sha256"])
        assert content is not None  # without a known validator the source gives the file
        note.unlink(missing_ok=True)  # never a note of other bytes than those beside it
        mirrored.unlink(missing_ok=True)
        data = mesh_file.without_text(content.data, file=file, tooth=fdi)
        digest = mesh_file.mesh_sha256(data, file=file)
        atomic.write_bytes(mirrored, data)
        if content.validator is not None:
            atomic.write_text(note, json.dumps({"validator": content.validator, "sha256": digest}))
        return digest

    def close(self) -> None:
        """Close connections and end all waits for a retry."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self.close()


def _sha256(path: Path) -> str:
    return mesh_file.mesh_sha256(path.read_bytes(), file=path.name)


def _read_note(path: Path) -> dict[str, Any] | None:
    try:
        note = json.loads(path.read_bytes())
        return {"validator": str(note["validator"]), "sha256": str(note["sha256"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none yet, or damaged: the mesh is fetched again
