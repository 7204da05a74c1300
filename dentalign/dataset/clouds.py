"""Tooth meshes and poses -> clouds: the same ordered points of a tooth at T1 and at T2."""

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dentalign.cases.left_out import NO_TEETH_OF_T1, LeftOut, to_list
from dentalign.cases.manifests import CaseEntry, Manifest, ToothEntry
from dentalign.cases.settings import BuccalAxis, Limits
from dentalign.cases.slots import refuse_nothing_left, refuse_too_many_dropped, to_our_frame
from dentalign.cases.sources.meshes import MeshStore
from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout
from dentalign.dataset.settings import Sample
from dentalign.errors import CaseDefect, Defect, DentalignError, ToothDefect
from dentalign.geometry import sampling, stl
from dentalign.mouth import T1, T2, Mouth
from dentalign.running import engines, profiling
from dentalign.running.engines import Engine
from dentalign.running.progress import track
from dentalign.teeth import SLOT_COUNT

STAGE = "sample_clouds"


@dataclass(frozen=True)
class MeshFile:
    """A mesh: where it can be read, and what the user calls it (no path of this machine in outputs)."""

    path: Path
    location: str


@dataclass(frozen=True)
class Sampler:
    """How teeth become points; sent to worker processes.

    buccal_axis : where buccal points in the exporter's tooth-local frame, "+y" (ours) or "-y"
    """

    buccal_axis: BuccalAxis
    sample: Sample
    limits: Limits

    def tooth(self, tooth: ToothEntry, mesh: MeshFile) -> np.ndarray:
        """Points of one tooth, as `points`, of the mesh that the manifest names.

        raises: ToothDefect where the mesh cannot be used; DentalignError where it is not the mesh
                that the manifest names
        """
        file = mesh.location
        try:
            with profiling.span("read"):
                data = mesh.path.read_bytes()
        except OSError as error:  # whose text holds the path, and with it the real case id
            raise DentalignError(f"{file}: cannot be read: {error.strerror}") from None
        if stl.mesh_sha256(data) != tooth.mesh_sha256:
            raise DentalignError(
                f"{file}: has changed since rigid_transforms read it; run `dvc repro -f -s rigid_transforms`"
            )
        return self.points(stl.read_triangles(data, file=file, tooth=tooth.fdi), file, tooth.fdi)

    def points(self, triangles: np.ndarray, file: str, fdi: int) -> np.ndarray:
        """Ordered points (P, 3) float64 on a crown, tooth-local mm, our frame.

        triangles : (F, 3, 3) mm in the exporter's tooth-local frame
        raises    : ToothDefect where the mesh cannot be used
        """
        self._check_size(triangles, file, fdi)
        ours = triangles @ to_our_frame(self.buccal_axis).T  # first, so that the frame changes no point
        try:
            with profiling.span("sample"):
                points = sampling.sample_surface(
                    ours, self.sample.points, self.sample.oversampling, self.sample.seed
                )
        except ValueError:
            raise ToothDefect(
                "mesh_without_area", "all triangles have area 0", "export the mesh again",
                file=file, tooth=fdi,
            ) from None  # fmt: skip
        with profiling.span("order"):
            return sampling.order(points)

    def _check_size(self, triangles: np.ndarray, file: str, fdi: int) -> None:
        low, high = triangles.min((0, 1)), triangles.max((0, 1))
        extent, away = float((high - low).max()), float(np.abs([low, high]).max())
        limits = self.limits
        if not limits.min_crown_mm <= extent <= limits.max_crown_mm:
            wanted = f"{limits.min_crown_mm:g} to {limits.max_crown_mm:g} mm"
            seen = f"the mesh is {extent:.3g} mm long; a crown is {wanted}"
            raise ToothDefect("mesh_size", seen, "check the unit of the export (mm)", file=file, tooth=fdi)
        if away > limits.max_from_origin_mm:
            seen = f"the mesh reaches {away:.3g} mm from its origin"
            raise ToothDefect(
                "mesh_far_off", seen, "export meshes in tooth-local coordinates", file=file, tooth=fdi
            )

    def case(
        self, case: CaseEntry, files: Sequence[MeshFile], lost_before: int
    ) -> tuple[Mouth | None, list[LeftOut]]:
        """The mouth of a case, or None where too little of it is left; and what was left out.

        files       : the mesh of each of the case's teeth
        lost_before : teeth that rigid_transforms dropped, those without a slot included
        """
        mouth = Mouth(
            points=np.zeros((SLOT_COUNT, self.sample.points, 3), np.float32),
            pose=np.tile(np.eye(4), (2, SLOT_COUNT, 1, 1)),
            present=np.zeros((2, SLOT_COUNT), bool),
            case_id=case.case_id,
            split=case.split,
        )
        lines: list[LeftOut] = []
        for lost in case.dropped:
            mouth.dropped[lost.slot], mouth.fdi[lost.slot] = True, lost.fdi
        for tooth, mesh in zip(case.teeth, files, strict=True):
            slot = tooth.slot
            mouth.fdi[slot] = tooth.fdi
            try:
                mouth.points[slot] = self.tooth(tooth, mesh)
            except Defect as defect:
                lines.append(LeftOut.of(case.case_id, STAGE, defect))
                mouth.dropped[slot] = True
                continue
            for stage, pose in ((T1, tooth.t1), (T2, tooth.t2)):
                if pose is not None:
                    mouth.present[stage, slot], mouth.pose[stage, slot] = True, pose
        try:
            refuse_too_many_dropped(lost_before + len(lines), self.limits.max_dropped_teeth)
            refuse_nothing_left(*mouth.present)
        except CaseDefect as defect:
            return None, [*lines, LeftOut.of(case.case_id, STAGE, defect)]
        return mouth, lines


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
    """`Sampler.case` of the cases in order, computed in parallel where that pays, see `engines`."""
    cases = shard.cases
    dropped = Counter(
        line.case_id for line in shard.left_out if line.tooth and line.code not in NO_TEETH_OF_T1
    )
    before = [dropped[case.case_id] for case in cases]
    names = [[tooth.mesh for tooth in case.teeth] for case in cases]
    files = [[_mesh_file(meshes, name) for name in case] for case in names]
    calls = zip(cases, files, before, strict=True)
    workers = 1 if len(cases) < 4 else sampler.sample.workers
    with closing(engines.in_order(sampler.case, calls, engine, workers)) as rows:
        yield from track(rows, "sampling", len(cases))
