"""Dry run of the pipeline up to sample_clouds, to find what it would leave out of a data set."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from dentalign.cases import case_document, case_list, fetch, rigid_transforms
from dentalign.cases.case_list import Split
from dentalign.cases.crowns import Sampler
from dentalign.cases.data_set_check import Remark, remarks
from dentalign.cases.findings import Findings
from dentalign.cases.left_out import LeftOut, Totals, dropped_teeth, excluded_cases, printable
from dentalign.cases.manifests import Manifest
from dentalign.cases.reading import read_case
from dentalign.cases.settings import BuccalAxis, Fetch, Limits, Sample, Source
from dentalign.cases.sources.folder import LocalSource
from dentalign.cases.sources.location import open_source
from dentalign.cases.sources.meshes import MeshStore
from dentalign.dataset import clouds
from dentalign.errors import CaseDefect, NothingUsable, ParamError
from dentalign.mouth import T1, Mouth
from dentalign.running import state_dir, table

STAGE = "check"
COLUMNS = ("case", "tooth", "code", "seen", "fix")

# Whether points can be sampled does not depend on how many.
_FEW_POINTS = Sample(points=8, oversampling=2)
_NO_T2 = "no_t2_stage"  # code of a case that `dentalign predict` can use, and training cannot
_MESH_FOLDERS = ("stl", "meshes")


@dataclass(frozen=True)
class CheckResult:
    """Result of `check`.

    lines   : what would be left out, sorted by case
    totals  : counts of what was listed, used and left out
    splits  : number of usable cases in the train, val and test split
    remarks : remarks on the data set as a whole
    planners: number of usable cases by code of the planner, of the cases with a known one
    """

    lines: list[LeftOut]
    totals: Totals
    splits: dict[Split, int]
    remarks: tuple[Remark, ...] = ()
    planners: Counter[str] = field(default_factory=Counter)

    @property
    def for_predict(self) -> int:
        """Number of cases that have no T2: usable for `dentalign predict`, not for training."""
        return sum(line.code == _NO_T2 for line in self.lines)

    @property
    def all_good(self) -> bool:
        """True if every listed case and tooth would be used, and there are no remarks."""
        return not self.lines and not self.remarks


@dataclass(frozen=True)
class CaseLocations:
    """Locations of the cases to be checked: the list (CSV), the JSONs, the meshes.

    unusable : lines of files that cannot be a case and are therefore not in the list
    """

    cases: str
    json: str
    meshes: str
    unusable: tuple[LeftOut, ...] = ()


def check(
    places: CaseLocations,
    *,
    buccal_axis: BuccalAxis = "+y",
    limits: Limits | None = None,
    fetch_settings: Fetch | None = None,
) -> CheckResult:
    """Check the cases of a data set, see `read_cases`."""
    return read_cases(
        places, lambda mouth, document: None,
        buccal_axis=buccal_axis, limits=limits, fetch_settings=fetch_settings,
    )  # fmt: skip


def read_cases(
    places: CaseLocations,
    visit: Callable[[Mouth, Path], None],
    *,
    buccal_axis: BuccalAxis = "+y",
    limits: Limits | None = None,
    fetch_settings: Fetch | None = None,
    sample: Sample = _FEW_POINTS,
) -> CheckResult:
    """Run fetch_json, rigid_transforms and sample_clouds on cases, without keeping their outputs.

    visit  : called with the mouth of each usable case, and the file of its allow-listed document
    sample : settings with which crowns become the points of the mouths
    raises : DentalignError if the list, or the location of JSONs or meshes, does not exist. Unusable cases,
             even if all are, raise nothing: they are lines of the result.
    """
    limits = limits or Limits()
    # Not validated: a path of the command line may be no text, which params.yaml cannot hold.
    source = Source.model_construct(
        cases=places.cases, json_=places.json, meshes=places.meshes, buccal_axis=buccal_axis
    )
    # Each file that cannot be read or downloaded is a line of the result, however many there are.
    patient = (fetch_settings or Fetch()).model_copy(update={"max_failed_share": 1.0})
    with tempfile.TemporaryDirectory(prefix="dentalign-check-") as name, _state(places, name):
        folder = Path(name)
        try:
            fetch.fetch_cases(
                source.cases,
                source.json_,
                out=folder / "json",
                cases_out=folder / "cases.csv",
                left_out=folder / "left_out.json",
                fetch=patient,
                limits=limits,
                name_planners=False,
            )
            splits = dict(case_list.read_splits(folder / "cases.csv"))
            planners = case_list.read_planners(folder / "cases.csv")
        except NothingUsable:  # the reasons are in left_out.json
            splits, planners = {}, {}
        rows, lines = rigid_transforms.read_listed(folder / "left_out.json")
        rows += [line.case_id for line in places.unusable]
        lines += places.unusable
        entries, found = rigid_transforms.read_cases(
            folder / "json", splits, planners, source=source, fetch=patient, limits=limits
        )
        lines += found
        manifest = Manifest(STAGE, tuple(entries), tuple(lines), len(rows), tuple(patient.keep))
        sampler = Sampler(source.buccal_axis, sample, limits)
        mouths: list[Mouth] = []
        teeth_listed = 0
        with MeshStore(source.meshes, limits, patient) as meshes:
            lines = _without_t2(folder / "json", lines, meshes, sampler, patient.keep)
            sampled = clouds.sampled(manifest, meshes, sampler)
            for entry, (mouth, more) in zip(entries, sampled, strict=True):
                lines += more
                if mouth is not None:
                    visit(mouth, folder / "json" / f"{mouth.case_id}.json")
                    mouths.append(replace(mouth, points=mouth.points[:, :0]))
                    teeth_listed += entry.teeth_at_t1
        given = printable(open_source(places.json).prefix.rstrip("/"))
        lines = [replace(line, file=line.file.replace(str(folder / "json"), given)) for line in lines]
    totals = Totals(
        cases_listed=len(rows),
        cases_used=len(mouths),
        cases_excluded=len(excluded_cases(lines)),
        teeth_listed=teeth_listed,
        teeth_used=sum(int(mouth.present[T1].sum()) for mouth in mouths),
        teeth_dropped=len(dropped_teeth(lines)),
    )
    counts = {split: sum(mouth.split == split for mouth in mouths) for split in case_list.SPLITS}
    by_planner = Counter(mouth.planner for mouth in mouths if mouth.planner)
    found_remarks = tuple(remarks(mouths, lines, len(rows), limits))
    return CheckResult(sorted(lines), totals, counts, found_remarks, by_planner)


def _without_t2(
    json_dir: Path, lines: list[LeftOut], meshes: MeshStore, sampler: Sampler, keep: Sequence[str]
) -> list[LeftOut]:
    """Read cases without T2 as `dentalign predict` does, to list also what it would leave out of them."""
    cases = {line.case_id: line for line in lines if line.code == _NO_T2}
    lines = [line for line in lines if line.case_id not in cases]
    for case_id, line in cases.items():
        findings, file = Findings(case_id, line.stage), json_dir / f"{case_id}.json"
        try:
            document = case_document.read(file, case_id, ends_only=True, keep=keep)
            read_case(document, str(file), meshes, sampler, findings, plan=False)
            lines.append(line)
        except CaseDefect as defect:
            findings.add(defect)
        lines += findings.lines
    return lines


@contextmanager
def locate(source: Path, json: str | None = None, meshes: str | None = None) -> Iterator[CaseLocations]:
    """Yield where list, JSONs and meshes are, of a case store (a folder with json/ and stl/) or a case list.

    The case list of a store is a temporary file, which is removed at the end of the `with` block.

    json, meshes : locations of JSONs and meshes; None for the folders in the store, or beside the case list
    raises       : ParamError if `source` is a folder but no case store, if it is a store and `json` is not
                   None, or if there is no folder of meshes
    """
    if not source.is_dir():
        here = source.parent
        yield CaseLocations(str(source), json or str(here / "json"), meshes or _meshes_in(here))
        return
    if json is not None:
        raise ParamError("--json is for a case list as SOURCE; a case store has its own folder json/")
    if source.name == "json" and any(source.glob("*.[jJ][sS][oO][nN]")):
        raise ParamError(f"{source}: name the folder that holds json/: {source.resolve().parent}")
    if not (source / "json").is_dir():
        raise ParamError(f"{source}: neither a case store (a folder json/ of <case_id>.json) nor a case list")
    cases, bad = case_list.find(source, STAGE)
    with tempfile.TemporaryDirectory(prefix="dentalign-check-") as folder:
        listed = Path(folder) / "cases.csv"
        case_list.write(listed, cases)
        yield CaseLocations(str(listed), str(source / "json"), meshes or _meshes_in(source), tuple(bad))


def show(lines: Sequence[LeftOut], stream: IO[str]) -> None:
    """Print the lines under COLUMNS: a table on a terminal, else tab-separated text."""
    rows = [(line.case_id, line.tooth or "-", line.code, line.seen, line.fix) for line in lines]
    table.show(COLUMNS, rows, stream)


def _meshes_in(store: Path) -> str:
    for name in _MESH_FOLDERS:
        if (store / name).is_dir():
            return str(store / name)
    wanted = " or ".join(f"{name}/" for name in _MESH_FOLDERS)
    raise ParamError(f"{store}: no folder {wanted} with <case_id>/<FDI>.stl; name it with --meshes")


@contextmanager
def _state(places: CaseLocations, folder: str) -> Iterator[None]:
    """Cache files of a server as always; keep no state of local files."""
    sources = [open_source(places.json), open_source(places.meshes)]
    for source in sources:
        source.close()
    if any(not isinstance(source, LocalSource) for source in sources):
        yield
        return
    with state_dir.kept_in(Path(folder) / "state"):
        yield
