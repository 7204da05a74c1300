"""One imported case to its place, whole or not at all, and only if the pipeline would take it."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dentalign import check
from dentalign.cases.case_list import ListedCase, write
from dentalign.cases.left_out import LeftOut
from dentalign.errors import CaseDefect
from dentalign.geometry import stl
from dentalign.importers.import_record import FOLDER
from dentalign.importers.imported_case import ImportedCase

HEADER = b"dentalign import, tooth-local, mm"
_MEND = "the download of this case cannot be used as it is"


def write_case(dest: Path, case_id: str, case: ImportedCase) -> list[LeftOut]:
    """Write `json/<case_id>.json` and `stl/<case_id>/` below `dest`; an earlier version is replaced.

    returns: teeth that the pipeline will drop, if any
    raises : CaseDefect where `dentalign check` would exclude the case, or T2 stands in no head frame
    """
    json_file, meshes = dest / "json" / f"{case_id}.json", dest / "stl" / case_id
    with _part(dest) as part:
        (part / "json").mkdir(parents=True)
        (part / "stl" / case_id).mkdir(parents=True)
        text = json.dumps(case.document(case_id), separators=(",", ":"), allow_nan=False)
        (part / "json" / json_file.name).write_text(text, encoding="utf-8")
        for fdi, crown in case.crowns.items():
            data = stl.as_binary(crown.vertices, crown.faces, HEADER)
            (part / "stl" / case_id / f"{fdi}.stl").write_bytes(data)
        lines = _checked(part, case_id)
        json_file.parent.mkdir(exist_ok=True)
        meshes.parent.mkdir(exist_ok=True)
        remove(dest, case_id)  # the JSON first: a case without one is none
        os.replace(part / "stl" / case_id, meshes)
        os.replace(part / "json" / json_file.name, json_file)
    return lines


def remove(dest: Path, case_id: str) -> None:
    """Take a case away, its JSON first."""
    (dest / "json" / f"{case_id}.json").unlink(missing_ok=True)
    shutil.rmtree(dest / "stl" / case_id, ignore_errors=True)


def remove_parts(dest: Path) -> None:
    """Remove what a killed run left; only for who knows that no other run is alive."""
    for part in (dest / FOLDER).glob("part-*"):
        shutil.rmtree(part)


@contextmanager
def _part(dest: Path) -> Iterator[Path]:
    part = dest / FOLDER / f"part-{os.getpid()}"
    shutil.rmtree(part, ignore_errors=True)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _checked(part: Path, case_id: str) -> list[LeftOut]:
    """Lines of teeth from the pipeline's own check; raises CaseDefect for what excludes the case."""
    write(part / "cases.csv", [ListedCase(case_id, case_id)])
    places = check.CaseLocations(str(part / "cases.csv"), str(part / "json"), str(part / "stl"))
    checked = check.check(places)
    whole = [line for line in checked.lines if line.whole_case]
    if whole or not checked.totals.cases_used:
        line = (whole or checked.lines)[0]
        raise CaseDefect(line.code, line.seen, _MEND)
    return [
        LeftOut(case_id, line.tooth, "import", line.code, line.seen, line.mend, "") for line in checked.lines
    ]
