"""Listed cases -> sanitised JSON files, one per case, and the list of what was left out."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from dentalign.cases import case_document, case_list, planners
from dentalign.cases.case_list import ListedCase
from dentalign.cases.left_out import LeftOut, to_list
from dentalign.cases.settings import Fetch, Limits
from dentalign.cases.sources.base import CaseSource, Unreachable
from dentalign.cases.sources.location import open_source
from dentalign.errors import CaseDefect, DentalignError, NothingUsable, ToothDefect
from dentalign.files import atomic, hashing
from dentalign.running import pool
from dentalign.running.locks import exclusive
from dentalign.running.progress import track
from dentalign.running.state_dir import state_dir

STAGE = "fetch_json"
CACHE_FORMAT = 3
UNKNOWN_TOOTH = "?"


@dataclass(frozen=True)
class FetchResult:
    """Counts of one run of `fetch_cases`.

    cases     : cases written, the unchanged ones included
    unchanged : cases that did not change at the source since the last run
    left_out  : cases and unusable rows of the case list that were left out
    planners  : number of cases by code of the planner, of the cases with a known one
    """

    cases: int
    unchanged: int
    left_out: int
    planners: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Sanitised:
    """Case as it is written, and the number of its tooth keys that are not FDI numbers."""

    data: bytes
    unknown_tooth_keys: int


@dataclass(frozen=True)
class _Outcome:
    case: ListedCase
    kept: _Sanitised | None = None
    unchanged: bool = False
    defect: CaseDefect | None = None


def fetch_cases(
    cases: str | Path,
    source: str,
    *,
    out: str | Path,
    cases_out: str | Path,
    left_out: str | Path,
    fetch: Fetch,
    limits: Limits,
    name_planners: bool = True,
) -> FetchResult:
    """Fetch every listed case; write the sanitised cases, their splits, and the list of what was left out.

    cases     : case list (CSV)
    source    : location of `<case_id>.json`: directory, URL prefix, or `.url` file with a URL prefix in it
    out       : directory of `<case_id>.json`, replaced as a whole
    cases_out : CSV `case_id,split` of the cases in `out`, with the code of the `planner` if any is known
    left_out  : JSON, see `write_left_out`; written even if no case is usable
    name_planners : if False, the table of planners' names beside the list is read but not written, see
                    `planners.with_codes`
    raises    : NothingUsable if no case is usable; DentalignError if the list cannot be read, or if more than
                fetch.max_failed_share of the listed cases could not be read or downloaded (malformed ones do
                not count). Cases that were fetched before stay in the cache.
    """
    listed, lines = case_list.read(cases, STAGE)
    listed = planners.with_codes(listed, planners.table_beside(cases), write=name_planners)
    rows = [case.case_id for case in listed] + [line.case_id for line in lines]
    splits: dict[str, str] = {}
    codes: dict[str, str] = {}
    unchanged = 0
    failures: list[Unreachable] = []
    with ExitStack() as stack:
        stack.enter_context(exclusive(out))
        store = stack.enter_context(open_source(source, fetch))
        part = stack.enter_context(atomic.replacing(out))
        part.mkdir()
        one = _Fetcher(store, limits.max_json_mb, fetch.keep)
        calls = ((case,) for case in listed)
        outcomes = stack.enter_context(
            closing(pool.starmap_threads(one, calls, fetch.concurrency, store.close))
        )
        for outcome in track(outcomes, "fetch", total=len(listed)):
            case_id = outcome.case.case_id
            if outcome.kept is not None:
                (part / f"{case_id}.json").write_bytes(outcome.kept.data)
                splits[case_id] = outcome.case.split
                if outcome.case.planner:
                    codes[case_id] = outcome.case.planner
                unchanged += outcome.unchanged
                file = store.location(store.spelled(f"{case_id}.json"))
                unknown = unknown_tooth_keys(outcome.kept.unknown_tooth_keys, file)
                lines += [LeftOut.of(case_id, STAGE, defect) for defect in unknown]
            if outcome.defect is not None:
                lines.append(LeftOut.of(case_id, STAGE, outcome.defect))
                if isinstance(outcome.defect, Unreachable):
                    failures.append(outcome.defect)
                    _stop_if_too_many(failures, len(listed), fetch.max_failed_share)
        write_left_out(left_out, lines, rows)
        if not splits:
            reasons = _first(f"{line.case_id}: {line.seen}" for line in sorted(lines))
            raise NothingUsable(f"{cases}: no case is usable{reasons}")
    case_list.write_splits(cases_out, splits, codes)
    excluded = sum(line.whole_case for line in lines)
    return FetchResult(len(splits), unchanged, excluded, Counter(codes.values()))


def write_left_out(path: str | Path, lines: Iterable[LeftOut], listed: Iterable[str]) -> None:
    """Write the JSON list of what was left out.

    lines  : what was left out
    listed : rows of the case list, each by its case id, or by "line N" if it is unusable
    """
    record = {"listed": sorted(listed), "left_out": to_list(lines)}
    atomic.write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


class _Fetcher:
    """Fetches one case through the cache; safe to use from several threads."""

    def __init__(self, source: CaseSource, max_mb: float, keep: Sequence[str]):
        self._source, self._keep_points = source, keep
        self._limit, self._max_mb = int(max_mb * 1e6), max_mb
        self._cache = state_dir() / "fetch" / hashing.sha256(source.prefix)[:32]
        # Documents that another version of the allow-list let through are fetched again.
        self._rules = " ".join([hashing.sha256_file(case_document.__file__), *sorted(set(keep))])

    def __call__(self, case: ListedCase) -> _Outcome:
        usual = f"{case.case_id}.json"
        validator, cached = self._cached(case.case_id)
        try:
            name = self._source.spelled(usual)
            content = self._source.read_if_changed(name, self._limit, validator)
            if content is None and cached is not None:
                return _Outcome(case, cached, unchanged=True)
            assert content is not None
            file = self._source.location(name)
            document = case_document.parse(
                content.data, case.case_id, file, self._max_mb, keep=self._keep_points
            )
        except CaseDefect as defect:
            if not isinstance(defect, Unreachable) or defect.code == "not_found":
                (self._cache / usual).unlink(missing_ok=True)  # what the source no longer has
            return _Outcome(case, defect=defect)
        kept = _Sanitised(case_document.canonical(document), document.unknown_tooth_keys)
        self._keep(case.case_id, content.validator, len(content.data), kept)
        return _Outcome(case, kept)

    def _cached(self, case_id: str) -> tuple[str | None, _Sanitised | None]:
        """Return the cached case and its validator; both None if there is none that still holds."""
        try:
            entry = json.loads((self._cache / f"{case_id}.json").read_bytes())
            intact = entry.pop("sha256") == hashing.sha256_json(entry)
            same_rules = (entry["format"], entry["rules"]) == (CACHE_FORMAT, self._rules)
            if not intact or not same_rules or entry["bytes"] > self._limit:
                return None, None
            kept = _Sanitised(str(entry["document"]).encode(), int(entry["unknown_tooth_keys"]))
            return str(entry["validator"]), kept
        except (OSError, ValueError, KeyError, TypeError):
            return None, None  # not there, or damaged: the case is fetched again

    def _keep(self, case_id: str, validator: str | None, size: int, kept: _Sanitised) -> None:
        if validator is None:
            return
        entry: dict[str, Any] = {
            "format": CACHE_FORMAT,
            "rules": self._rules,
            "validator": validator,
            "bytes": size,
            "unknown_tooth_keys": kept.unknown_tooth_keys,
            "document": kept.data.decode(),
        }
        entry["sha256"] = hashing.sha256_json(entry)
        atomic.write_text(self._cache / f"{case_id}.json", json.dumps(entry))


def _stop_if_too_many(failures: list[Unreachable], listed: int, share: float) -> None:
    if len(failures) > share * listed:
        raise DentalignError(
            f"{len(failures)} of {listed} listed cases could not be read or downloaded so far, more than "
            f"the share fetch.max_failed_share = {share:g}{_first(str(failure) for failure in failures)}"
        )


def _first(reasons: Iterable[str], count: int = 3) -> str:
    text = "; ".join(islice(reasons, count))
    return f"; first: {text}" if text else ""


def unknown_tooth_keys(count: int, file: str = "") -> list[ToothDefect]:
    """Make a list with one defect for `count` tooth keys that are not FDI numbers; empty if `count` is 0."""
    if not count:
        return []
    seen = f"{count} tooth keys that are not FDI numbers"
    fix = "give these teeth FDI numbers in the planning system; leave supernumerary teeth out"
    return [ToothDefect("unknown_tooth_key", seen, fix, file=file, tooth=UNKNOWN_TOOTH)]
