"""Tooth meshes and poses -> clouds: the same ordered points of a tooth at T1 and at T2."""

from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from dentalign.cases.crowns import Sampler, read_crowns
from dentalign.cases.findings import Findings
from dentalign.cases.left_out import LeftOut, to_list
from dentalign.cases.manifests import CaseEntry, Manifest, ToothEntry
from dentalign.cases.sources.meshes import MeshStore
from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout
from dentalign.errors import CaseDefect, DentalignError
from dentalign.geometry import stl
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2, Mouth
from dentalign.running import engines, profiling
from dentalign.running.engines import Engine
from dentalign.running.progress import track

STAGE = "sample_clouds"


@dataclass(frozen=True)
class MeshFile:
    """Mesh file: the path to read, and the location as the user knows it, which alone goes into outputs."""

    path: Path
    location: str


def mouth_of(
    sampler: Sampler, case: CaseEntry, files: Sequence[MeshFile], before: list[LeftOut]
) -> tuple[Mouth | None, list[LeftOut]]:
    """Sample the crowns of a case: its mouth, or None if it is excluded, and the new lines.

    files  : the mesh of each of the case's teeth
    before : lines of the case from rigid_transforms
    raises : DentalignError where a mesh is not the one that the manifest names
    """
    findings = Findings(case.case_id, STAGE, before)
    mouth = Mouth.empty(case_id=case.case_id, split=case.split)
    for lost in case.dropped:
        mouth.dropped[lost.slot], mouth.fdi[lost.slot] = True, lost.fdi
    meshes = {}
    for tooth, file in zip(case.teeth, files, strict=True):
        mouth.fdi[tooth.slot], meshes[tooth.slot] = tooth.fdi, (tooth, file)
        for stage, pose in ((T1, tooth.t1), (T2, tooth.t2)):
            if pose is not None:
                mouth.present[stage, tooth.slot], mouth.pose[stage, tooth.slot] = True, pose

    try:
        made: Mouth | None = read_crowns(mouth, lambda slot: _triangles(*meshes[slot]), sampler, findings)
    except CaseDefect as defect:
        findings.add(defect)
        made = None
    return made, findings.lines[len(before) :]


def _triangles(tooth: ToothEntry, mesh: MeshFile) -> tuple[Array, str]:
    file = mesh.location
    try:
        data = mesh.path.read_bytes()
    except OSError as error:  # whose text holds the path, and with it the real case id
        raise DentalignError(f"{file}: cannot be read: {error.strerror}") from None
    if stl.mesh_sha256(data) != tooth.mesh_sha256:
        raise DentalignError(
            f"{file}: has changed since rigid_transforms read it; run `dvc repro -f -s rigid_transforms`"
        )
    return stl.read_triangles(data, file=file, tooth=tooth.fdi), file


def make_clouds(
    manifest: str | Path, meshes: MeshStore, out: str | Path, sampler: Sampler, engine: Engine = "local"
) -> tuple[int, int]:
    """Write the clouds of one shard; returns how many cases are in it and how many lines were left out.

    raises: DentalignError where the manifest or a mesh is not what rigid_transforms wrote or read
    """
    shard = Manifest.load(manifest)
    left_out = list(shard.left_out)
    layout = Layout(sampler.sample.points)
    with (
        mouth_store.create(out, layout, {"shard": shard.shard}) as writer,
        # closing, so that an interruption does not wait for every case
        closing(sampled(shard, meshes, sampler, engine)) as mouths,
    ):
        teeth = 0
        for case, (mouth, lines) in zip(shard.cases, mouths, strict=True):
            left_out += lines
            if mouth is not None:
                writer.append(mouth)
                teeth += case.teeth_at_t1
            profiling.step()
        writer.write_record("left_out", to_list(left_out))
        writer.write_record("listed", {"cases": shard.listed, "teeth": teeth})
        return writer.rows, len(left_out)


def _mesh_file(meshes: MeshStore, name: str) -> MeshFile:
    try:
        path = meshes.mesh_path(name).absolute()  # a worker elsewhere has another working folder
        return MeshFile(path, meshes.location(name))
    except CaseDefect as defect:  # it was there when rigid_transforms made the manifest
        raise DentalignError(
            f"{meshes.location(name)}: {defect.seen}, and rigid_transforms had it; "
            "see to the store, then run `dvc repro -f -s rigid_transforms`"
        ) from defect


def sampled(
    shard: Manifest, meshes: MeshStore, sampler: Sampler, engine: Engine = "local"
) -> Generator[tuple[Mouth | None, list[LeftOut]], None, None]:
    """Apply `mouth_of` to the cases in order, in parallel if that pays."""
    cases = shard.cases
    before: dict[str, list[LeftOut]] = defaultdict(list)
    for line in shard.left_out:
        before[line.case_id].append(line)
    names = [[tooth.mesh for tooth in case.teeth] for case in cases]
    files = [[_mesh_file(meshes, name) for name in case] for case in names]
    lines = [before[case.case_id] for case in cases]
    calls = zip(repeat(sampler), cases, files, lines)
    workers = 1 if len(cases) < 4 else sampler.sample.workers
    with closing(engines.in_order(mouth_of, calls, engine, workers)) as rows:
        yield from track(rows, "sampling", len(cases))
