"""From tooth meshes and poses to clouds: ordered points of each tooth, the same at T1 and T2."""

from collections import defaultdict
from collections.abc import Generator, Mapping
from contextlib import closing
from itertools import repeat
from pathlib import Path

from dentalign.cases.crowns import Sampler, read_crowns
from dentalign.cases.findings import Findings
from dentalign.cases.left_out import LeftOut, to_list
from dentalign.cases.manifests import Manifest, ManifestCase
from dentalign.cases.sources.meshes import MeshStore
from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout
from dentalign.errors import CaseDefect, DentalignError, ToothDefect
from dentalign.geometry import mesh_file
from dentalign.geometry.rigid import Array
from dentalign.mouth import Mouth
from dentalign.running import pool, profiling
from dentalign.running.pool import Engine
from dentalign.running.progress import track

STAGE = "sample_clouds"


def sample_case(
    sampler: Sampler, case: ManifestCase, files: Mapping[int, tuple[Path, str]], before: list[LeftOut]
) -> tuple[Mouth | None, list[LeftOut]]:
    """Sample the crowns of a case.

    files   : slot -> (path of the mesh, its location as the user knows it); outputs have only the location
    before  : findings on the case by the pipeline stage rigid_transforms
    returns : the mouth, or None if the case is excluded; and the findings that are new
    raises  : DentalignError where a mesh cannot be read, or is not the one that the manifest lists
    """

    def read_mesh(slot: int) -> tuple[Array, str]:
        path, file = files[slot]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DentalignError(f"{file}: cannot be read: {error.strerror}") from None
        if mesh_file.mesh_sha256(data, file=file) != case.mesh_sha256[slot]:
            raise DentalignError(
                f"{file}: has changed since rigid_transforms read it; run `dvc repro -f -s rigid_transforms`"
            )
        return mesh_file.read_triangles(data, file=file, tooth=int(case.mouth.fdi[slot])), file

    findings = Findings(case.mouth.case_id, STAGE, before)
    try:
        mouth: Mouth | None = read_crowns(case.mouth, read_mesh, sampler, findings)
    except CaseDefect as defect:
        findings.add(defect)
        mouth = None
    return mouth, findings.lines[len(before) :]


def make_clouds(
    manifest: str | Path, meshes: MeshStore, out: str | Path, sampler: Sampler, engine: Engine = "local"
) -> tuple[int, int]:
    """Write the clouds of one shard; returns the numbers of cases and of entries in its list `left_out`.

    raises: DentalignError where the manifest or a mesh has changed since the pipeline stage rigid_transforms
    """
    shard = Manifest.load(manifest)
    left_out = list(shard.left_out)
    layout = Layout(sampler.sample.points, exported=bool(shard.keep))
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


def _files(case: ManifestCase, meshes: MeshStore) -> dict[int, tuple[Path, str]]:
    """Mesh files by slot: path to read, and location as the user knows it."""
    files = {}
    for slot in case.mesh_sha256:
        try:
            path, file = meshes.mesh_path(case.mouth.case_id, int(case.mouth.fdi[slot]))
            files[slot] = path.absolute(), file  # as a worker elsewhere has another working folder
        except ToothDefect as defect:  # it was there when rigid_transforms made the manifest
            raise DentalignError(
                f"{defect.file}: {defect.seen}, although rigid_transforms has read it; "
                "repair the case store, then run `dvc repro -f -s rigid_transforms`"
            ) from defect
    return files


def sampled(
    shard: Manifest, meshes: MeshStore, sampler: Sampler, engine: Engine = "local"
) -> Generator[tuple[Mouth | None, list[LeftOut]], None, None]:
    """Yield the results of `sample_case` in the order of the cases; parallel for four cases or more."""
    cases = shard.cases
    before: dict[str, list[LeftOut]] = defaultdict(list)
    for line in shard.left_out:
        before[line.case_id].append(line)
    files = [_files(case, meshes) for case in cases]
    lines = [before[case.mouth.case_id] for case in cases]
    calls = zip(repeat(sampler), cases, files, lines)
    workers = 1 if len(cases) < 4 else sampler.sample.workers
    with closing(pool.starmap(sample_case, calls, engine, workers)) as rows:
        yield from track(rows, "sampling", len(cases))
