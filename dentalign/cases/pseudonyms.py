"""Keyed hashes in place of case ids, and the map back, which never lies in the project.

The key comes from the environment and is needed where the names are given, by `fetch_json`. What follows
works with the pseudonym; only to open a mesh the real id is looked up in the map.
"""

import csv
import hashlib
import hmac
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dentalign.cases.case_list import ListedCase
from dentalign.cases.sources.base import BaseSource, CaseSource, Content
from dentalign.errors import CaseDefect, DentalignError, ParamError
from dentalign.files import atomic
from dentalign.running.state_dir import state_dir

KEY_VARIABLE = "DENTALIGN_ID_KEY"
SHORTEST_KEY = 16
_HEADING = ["pseudonym", "case_id"]


def pseudonym(case_id: str, key: bytes) -> str:
    """A case id that tells nothing without the key: `p-` and 80 bits of HMAC-SHA256, hexadecimal.

    Source: RFC 2104, doi:10.17487/RFC2104. A plain hash would not do: ids are few and can be tried.
    """
    return "p-" + hmac.new(key, b"dentalign case " + case_id.encode("utf-8"), hashlib.sha256).hexdigest()[:20]


def replace_ids(cases: Iterable[ListedCase], map_file: str) -> tuple[list[ListedCase], dict[str, str]]:
    """The cases under pseudonyms, sorted by them, and the map pseudonym -> real id; writes the map.

    The patient stays who it is, so that the split does not change; it is not written anywhere.

    map_file : CSV outside the project, replaced as a whole, readable for its owner alone
    raises   : ParamError where the key or the file's place will not do
    """
    path = _outside(map_file)
    key = os.environ.get(KEY_VARIABLE, "").encode("utf-8")
    if len(key) < SHORTEST_KEY:
        raise ParamError(
            f"source.pseudonym_map is set, so {KEY_VARIABLE} must hold a secret of at least {SHORTEST_KEY} "
            "characters, such as `openssl rand -hex 32` makes; keep it, other keys give other pseudonyms"
        )
    renamed, real = [], {}
    for case in cases:
        name = pseudonym(case.case_id, key)
        if name in real:
            raise DentalignError("two cases got one pseudonym; take another key")
        real[name] = case.case_id
        renamed.append(ListedCase(name, case.patient_id))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADING)
    writer.writerows(sorted(real.items()))
    with atomic.replacing(path) as part:
        part.touch(0o600, exist_ok=False)
        part.write_text(text.getvalue(), encoding="utf-8", newline="")
    return sorted(renamed), real


def read_map(map_file: str) -> dict[str, str]:
    """The map pseudonym -> real id; raises DentalignError where it is not there, ParamError if inside."""
    path = _outside(map_file)
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
        if rows[:1] != [_HEADING]:
            raise ValueError
        return dict(rows[1:])
    except (OSError, ValueError, csv.Error) as error:
        raise DentalignError(
            f"{map_file}: no map of pseudonyms ({type(error).__name__}); bring it here, or make it with "
            "`dvc repro -f fetch_json`"
        ) from None


def _outside(map_file: str) -> Path:
    path = Path(map_file).expanduser().resolve()
    if path.is_relative_to(state_dir().parent.resolve()):
        raise ParamError(
            f"source.pseudonym_map: {map_file} lies in the project, where it could be added to git or DVC; "
            "name a file outside"
        )
    return path


class Renamed(BaseSource):
    """A source whose files are asked for by pseudonym; what it says names the pseudonym only."""

    def __init__(self, source: CaseSource, real: Mapping[str, str]):
        self._source, self._real = source, real
        self.prefix, self.is_local = source.prefix, source.is_local

    def read(self, name: str, limit: int) -> bytes:
        """As CaseSource.read."""
        with self._real_name(name) as real:
            return self._source.read(real, limit)

    def validator(self, name: str) -> str | None:
        """As CaseSource.validator."""
        with self._real_name(name) as real:
            return self._source.validator(real)

    def read_if_changed(self, name: str, limit: int, known: str | None) -> Content | None:
        """As CaseSource.read_if_changed."""
        with self._real_name(name) as real:
            return self._source.read_if_changed(real, limit, known)

    def local_path(self, name: str) -> Path | None:
        """As CaseSource.local_path; the path holds the real id and must not be shown."""
        with self._real_name(name) as real:
            return self._source.local_path(real)

    def folder_state(self, folder: str) -> str | None:
        """As CaseSource.folder_state."""
        return self._source.folder_state(self._real[folder]) if folder in self._real else None

    def close(self) -> None:
        """As CaseSource.close."""
        self._source.close()

    @contextmanager
    def _real_name(self, name: str) -> Iterator[str]:
        """`<pseudonym>.json` or `<pseudonym>/<FDI>.stl` under its real name; errors get the other one."""
        case, separator, rest = name.partition("/")
        case_id, suffix = (case, separator + rest) if separator else (Path(name).stem, Path(name).suffix)
        if case_id not in self._real:
            raise DentalignError(
                f"the map of pseudonyms has no {case_id}: it is of another run or key; "
                "make both again with `dvc repro -f fetch_json`"
            )
        try:
            yield self._real[case_id] + suffix
        except CaseDefect as defect:
            raise defect.at(self.location(name)) from None
