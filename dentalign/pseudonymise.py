"""Case store -> pseudonymous case store: keyed hashes in place of ids, codes of planners, and no free text.

DEST contains json/, stl/, cases.csv, left_out.csv, and in `.pseudonymise/` a note per case and the codes of
planners, with which a later run continues. Neither DEST nor any message contains the name of a case, patient
or planner.
"""

import hashlib
import hmac
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from dentalign.cases import case_document, case_list, fetch, left_out, planners
from dentalign.cases.case_list import PLANNER_CODE, ListedCase
from dentalign.cases.left_out import LeftOut
from dentalign.cases.settings import Limits
from dentalign.cases.sources.folder import LocalSource
from dentalign.errors import CaseDefect, Defect, DentalignError, NothingUsable, ParamError, ToothDefect
from dentalign.files import atomic, csv_table
from dentalign.files.hashing import sha256
from dentalign.geometry import mesh_file
from dentalign.running import pool, state_dir
from dentalign.running.locks import exclusive
from dentalign.running.progress import track
from dentalign.running.stage_code import code_digest

KEY_VARIABLE = "DENTALIGN_ID_KEY"
SHORTEST_KEY = 16
STAGE = "pseudonymise"
NOTES = ".pseudonymise"
_CODES = "planners.csv"  # the codes in use and the keyed hashes of the planners' names
_PREFIXES = {"case": "p-", "patient": "patient-", "planner": "planner-"}
_MESH = re.compile(r"[1-9][0-9]\.(stl|ply|obj)", re.IGNORECASE)


@dataclass(frozen=True)
class PseudonymiseResult:
    """Counts of one run of `pseudonymise`, and what was left out.

    listed    : rows of the case list, unusable rows included
    new       : cases that this run wrote to DEST
    unchanged : cases that DEST had already, from the same files
    meshes    : meshes of the new and the unchanged cases
    lines     : what was left out, sorted by case
    """

    listed: int
    new: int
    unchanged: int
    meshes: int
    lines: list[LeftOut]

    def __str__(self) -> str:
        """Summary in one line."""
        cases = len(left_out.excluded_cases(self.lines))
        parts = sum(not line.whole_case for line in self.lines)
        return (
            f"{self.listed} cases listed = {self.new} carried over + {self.unchanged} there already "
            f"+ {cases} left out; {self.meshes} meshes carried over, {parts} parts of cases left out"
        )


def pseudonymise(
    source: Path,
    dest: Path,
    *,
    cases: Path | None = None,
    map_file: Path | None = None,
    planners_file: Path | None = None,
    limits: Limits | None = None,
    keep: Sequence[str] = (),
) -> PseudonymiseResult:
    """Write the listed cases of a case store to `dest` under pseudonyms, by the key in DENTALIGN_ID_KEY.

    A later run continues: a case in `dest` whose files have not changed is not read again, and a case that is
    no longer listed is removed.

    source   : folder with json/, and stl/ or meshes/
    dest     : folder that is new, empty, or from an earlier run with this key
    cases    : case list (CSV); default: `cases.csv` of the store, else all cases in json/
    map_file : CSV `pseudonym,case_id` to write, readable only by its owner
    planners_file : CSV `code,planner` to write, likewise
    keep     : `fetch.keep`, the kinds of points that the copies keep beside the poses
    raises   : ParamError if the key is too short, or a path is not allowed for `dest` or one of these files;
               DentalignError if `dest` contains something else, or the store cannot be read; NothingUsable if
               no case can be carried over
    """
    key = _read_key()
    if source.resolve().is_relative_to(dest.resolve()) or dest.resolve().is_relative_to(source.resolve()):
        raise ParamError(f"{dest}: one of SRC and DEST contains the other; name a DEST elsewhere")
    listed, bad = _read_list(source, cases)
    named = {keyed_hash("case", case.case_id, key): case for case in listed}
    named = dict(sorted(named.items()))  # no order of files or times tells that of the ids
    documents, meshes = LocalSource(source / "json"), LocalSource(_mesh_folder(source))
    copier = _Copier(documents, meshes, dest, limits or Limits(), code_digest(__file__), tuple(keep))
    _claim(dest, key)
    if map_file is not None:
        rows = [[name, case.case_id] for name, case in named.items()]
        _write_map(map_file, dest, ["pseudonym", "case_id"], rows)
    with state_dir.kept_in(dest / NOTES), exclusive(dest):
        codes = _planner_codes(named, dest, key)
        if planners_file is not None:
            who = {codes[name]: case.planner for name, case in named.items() if case.planner}
            _write_map(planners_file, dest, planners.COLUMNS, sorted(who.items()))
        _remove_all_but(dest, named.keys())
        calls = [(case.case_id, name) for name, case in named.items()]
        with closing(pool.starmap(copier, calls, "local", workers=0)) as copies:
            copied = list(track(copies, STAGE, total=len(calls)))
        lines = bad + [line for copy in copied for line in copy.lines]
        left_out.write_csv(dest / "left_out.csv", lines)
        excluded = left_out.excluded_cases(lines)
        rows = [
            [name, keyed_hash("patient", case.patient_id, key), codes[name]]
            for name, case in named.items()
            if name not in excluded
        ]
        columns = 3 if any(codes.values()) else 2
        heading = ("case_id", "patient_id", "planner")[:columns]
        csv_table.write(dest / "cases.csv", heading, (row[:columns] for row in rows))
    if not rows:
        raise NothingUsable(
            f"{source}: no case can be carried over; the reasons are in {dest / 'left_out.csv'}"
        )
    unchanged = sum(copy.unchanged for copy in copied)
    return PseudonymiseResult(
        listed=len(listed) + len(bad),
        new=len(rows) - unchanged,
        unchanged=unchanged,
        meshes=sum(copy.meshes for copy in copied),
        lines=sorted(lines),
    )


def _read_list(source: Path, cases: Path | None) -> tuple[list[ListedCase], list[LeftOut]]:
    """Read the cases of the list, and the lines of unusable rows."""
    table = cases or source / "cases.csv"
    if cases is None and not table.is_file():
        listed, bad = case_list.find(source, STAGE)
        return listed, [replace(line, file=f"json: {line.case_id}") for line in bad]
    listed, bad = case_list.read(table, STAGE)
    return listed, [replace(line, file=f"{table.name}: {line.case_id}") for line in bad]


def _planner_codes(named: Mapping[str, ListedCase], dest: Path, key: bytes) -> dict[str, str]:
    """Code of the planner of each case, by pseudonym; codes in `dest` stay, their order tells nothing."""
    hashed = [
        replace(case, planner=keyed_hash("planner", planners.name_key(case.planner), key))
        if case.planner and not PLANNER_CODE.fullmatch(case.planner)
        else case
        for case in named.values()
    ]
    coded = planners.with_codes(hashed, dest / NOTES / _CODES)
    return {name: case.planner for name, case in zip(named, coded, strict=True)}


def keyed_hash(kind: str, text: str, key: bytes) -> str:
    """Pseudonym of an id, which reveals nothing without the key: a prefix, and 80 bits of HMAC-SHA256 in hex.

    kind : "case", "patient" or "planner"; a text has a different pseudonym for each kind

    Source: RFC 2104, doi:10.17487/RFC2104. A plain hash would not do: ids are few, so all can be tried.
    """
    message = f"dentalign {kind} {unicodedata.normalize('NFC', text)}".encode()
    return _PREFIXES[kind] + hmac.new(key, message, hashlib.sha256).hexdigest()[:20]


class _Copy(NamedTuple):
    """Result of a case: what was left out of it, number of meshes, and True if it was there already."""

    lines: list[LeftOut]
    meshes: int = 0
    unchanged: bool = False


@dataclass(frozen=True)
class _Copier:
    """Carries one case over; sent to worker processes.

    code : digest of this program, which another version need not agree with
    """

    documents: LocalSource
    meshes: LocalSource
    dest: Path
    limits: Limits
    code: str
    keep: tuple[str, ...]

    def __call__(self, case_id: str, name: str) -> _Copy:
        document, meshes = self.dest / "json" / f"{name}.json", self.dest / "stl" / name
        note = self.dest / NOTES / f"{name}.json"
        try:
            files, others = self._mesh_names(case_id)
            state = self._state(case_id, files)
            known = _read_note(note)
            there = len(list(meshes.glob("*")))
            if known and known["state"] == state and document.is_file() and there == known["meshes"]:
                return _Copy(left_out.from_list(known["left_out"]), there, unchanged=True)
            note.unlink(missing_ok=True)
            given = self.documents.spelled(f"{case_id}.json")
            data = self.documents.read(given, int(self.limits.max_json_mb * 1e6))
            read = case_document.parse(data, case_id, max_mb=self.limits.max_json_mb, keep=self.keep)
        except CaseDefect as defect:
            for earlier in (document, note):
                earlier.unlink(missing_ok=True)
            shutil.rmtree(meshes, ignore_errors=True)
            if defect.code == "case_id_differs":  # its fix quotes an id
                defect.fix = "export it again under its own name, or remove it if it is a copy"
            return _Copy([LeftOut.of(name, STAGE, defect.at(f"json/{name}.json"))])
        lines, count = [], 0

        def leave_out(defect: Defect, file: str) -> None:
            lines.append(LeftOut.of(name, STAGE, defect.at(file)))

        for unknown in fetch.unknown_tooth_keys(read.unknown_tooth_keys):
            leave_out(unknown, f"json/{name}.json")
        if others:
            seen = f"{others} files that are no <FDI>.stl, .ply or .obj"
            stray = ToothDefect(
                "not_a_mesh", seen, "rename them if they are meshes", tooth=fetch.UNKNOWN_TOOTH
            )
            leave_out(stray, f"stl/{name}")
        shutil.rmtree(meshes, ignore_errors=True)
        for file in files:
            try:
                atomic.write_bytes(meshes / file, self._mesh(case_id, file))
                count += 1
            except Defect as defect:
                tooth = ToothDefect(f"mesh_{defect.code}", defect.seen, defect.fix, tooth=int(file[:2]))
                leave_out(defect if defect.tooth else tooth, f"stl/{name}/{file}")
        # The document last, then the note: a case without a document is none.
        atomic.write_bytes(document, case_document.canonical(read.model_copy(update={"case_id": name})))
        content = {"state": state, "meshes": count, "left_out": left_out.to_list(lines)}
        atomic.write_text(note, json.dumps(content))
        return _Copy(lines, count)

    def _mesh_names(self, case_id: str) -> tuple[list[str], int]:
        """Names of the case's meshes, sorted, and the number of other files in their folder."""
        try:
            folder = os.listdir(Path(self.meshes.prefix) / case_id)
        except OSError:
            return [], 0  # the pipeline says which meshes are missing
        found = [name for name in folder if not name.startswith(".")]
        files = sorted(name for name in found if _MESH.fullmatch(name))
        return files, len(found) - len(files)

    def _state(self, case_id: str, files: list[str]) -> str:
        """Digest that changes when a file of the case does, the limits, or the program; raises CaseDefect."""
        given = self.documents.spelled(f"{case_id}.json")
        parts = [self.code, self.limits.model_dump_json(), *self.keep, self.documents.version(given)]
        for file in files:
            try:
                parts.append(f"{file} {self.meshes.version(f'{case_id}/{file}')}")
            except CaseDefect as defect:
                parts.append(f"{file} {defect.code}")
        return sha256("\n".join(parts))

    def _mesh(self, case_id: str, file: str) -> bytes:
        data = self.meshes.read(f"{case_id}/{file}", int(self.limits.max_mesh_mb * 1e6))
        return mesh_file.without_text(data, file=file, tooth=int(file[:2]))


def _read_key() -> bytes:
    key = os.environ.get(KEY_VARIABLE, "").encode("utf-8")
    if len(key) < SHORTEST_KEY:
        raise ParamError(
            f"{KEY_VARIABLE} must be a secret of at least {SHORTEST_KEY} characters, such as the output of "
            "`openssl rand -hex 32`; keep it, because another key gives other pseudonyms"
        )
    return key


def _mesh_folder(store: Path) -> Path:
    for name in ("stl", "meshes"):
        if (store / name).is_dir():
            return store / name
    raise ParamError(f"{store}: no folder stl/ or meshes/ with <case_id>/<FDI>.stl; is it a case store?")


def _claim(dest: Path, key: bytes) -> None:
    """Mark a new folder with the key's digest; raises DentalignError where `dest` is something else."""
    mark, digest = dest / NOTES / "key", hmac.new(key, b"dentalign key", hashlib.sha256).hexdigest()[:20]
    if mark.is_file():
        if mark.read_text(encoding="ascii", errors="replace") != digest:
            raise DentalignError(
                f"{dest}: made with another key; set {KEY_VARIABLE} to that key, or name another DEST"
            )
        return
    if dest.exists() and (not dest.is_dir() or any(child.name != NOTES for child in dest.iterdir())):
        raise DentalignError(f"{dest}: contains something else; name a new or empty folder")
    atomic.write_text(mark, digest)


def _write_map(map_file: Path, dest: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table with mode 0600; raises ParamError where others may get at it."""
    path = map_file.expanduser().resolve()
    for folder in path.parents:
        if folder == dest.resolve() or (folder / ".git").exists() or (folder / ".dvc").exists():
            raise ParamError(
                f"{map_file}: is in {folder} and could be handed on with it; name a file outside of DEST "
                "and of every git and DVC project"
            )
    with atomic.replacing(path) as part:
        part.touch(0o600, exist_ok=False)
        part.write_text(csv_table.text(columns, rows), encoding="utf-8", newline="")


def _remove_all_but(dest: Path, names: Set[str]) -> None:
    """Remove cases that are not listed (any longer), and what a killed run left half written."""
    for folder in (dest / "json", dest / "stl", dest / NOTES):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name.removesuffix(".json") not in {*names, "key", "locks", _CODES}:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _read_note(path: Path) -> dict[str, Any] | None:
    try:
        note = json.loads(path.read_bytes())
        return {"state": str(note["state"]), "meshes": int(note["meshes"]), "left_out": note["left_out"]}
    except (OSError, ValueError, TypeError, KeyError):
        return None  # none yet, or damaged: the case is carried over again
