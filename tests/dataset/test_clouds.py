"""Clouds of a real case: T1 and T2 are the same points moved; a bad mesh costs its tooth, not the case."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dentalign.cases.crowns import Sampler
from dentalign.cases.manifests import Manifest, ManifestCase
from dentalign.cases.settings import Limits, Sample
from dentalign.cases.sources.meshes import MeshStore
from dentalign.dataset.clouds import make_clouds
from dentalign.dataset.mouth_store import MouthStore
from dentalign.demo_clinic.clinic import make_clinic
from dentalign.errors import DentalignError
from dentalign.geometry import rigid, stl
from dentalign.mouth import T1, T2, Mouth
from dentalign.teeth import SLOT_INDEX

POSE = rigid.from_rotation(rigid.rotation_matrix(np.array([0.1, -0.2, 0.3])), np.array([10.0, -5.0, 2.0]))
MOVED = rigid.from_rotation(np.eye(3), np.array([1.0, 0.0, 0.0])) @ POSE
TEETH = (11, 21, 16, 36, 46)


@pytest.fixture(scope="session")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clinic") / "clinic"
    make_clinic(folder, cases=1, seed=3)
    return folder


@pytest.fixture
def meshes(clinic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(clinic / "stl" / "demo-0001", tmp_path / "stl" / "demo-0001")
    return Path("stl")


def clouds(meshes: Path, cases: int = 1, **sampler: str) -> Path:
    mouth = Mouth.empty(split="train")
    hashes = {}
    for fdi in TEETH:
        slot = SLOT_INDEX[fdi]
        hashes[slot] = stl.mesh_sha256((meshes / "demo-0001" / f"{fdi}.stl").read_bytes())
        mouth.fdi[slot], mouth.present[:, slot] = fdi, (True, fdi != 16)
        mouth.pose[T1, slot], mouth.pose[T2, slot] = POSE, MOVED if fdi != 16 else np.eye(4)
    ids = ["demo-0001", *(f"demo-{number:04d}" for number in range(2, cases + 1))]
    for case_id in ids[1:]:
        shutil.copytree(meshes / ids[0], meshes / case_id)
    entries = (ManifestCase(replace(mouth, case_id=case_id), hashes, len(TEETH)) for case_id in ids)
    Manifest("s", tuple(entries), (), cases).save("manifest.json")
    return make(meshes, **sampler)


def make(meshes: Path, buccal_axis: str = "+y") -> Path:
    settings = Sampler(buccal_axis, Sample(points=64), Limits())  # type: ignore[arg-type]
    with MeshStore(str(meshes), Limits()) as store:
        make_clouds("manifest.json", store, "clouds.h5", settings)
    return Path("clouds.h5")


def test_an_extracted_tooth_is_input_and_not_label(meshes: Path) -> None:
    with MouthStore(clouds(meshes)) as store:
        mouth = store.mouth(0)
    assert mouth.present.sum(1).tolist() == [5, 4]
    assert not mouth.present[T2, SLOT_INDEX[16]]
    assert np.allclose(mouth.pose[T1, SLOT_INDEX[36]], POSE)


def test_points_lie_on_the_mesh_in_tooth_local_millimetres(meshes: Path) -> None:
    import trimesh

    with MouthStore(clouds(meshes)) as store:
        points = store.mouth(0).points[SLOT_INDEX[36]]
    mesh = trimesh.load_mesh(meshes / "demo-0001" / "36.stl")
    triangles = np.asarray(mesh.triangles)
    for point in points.astype(float):
        nearest = trimesh.triangles.closest_point(triangles, np.tile(point, (len(triangles), 1)))
        assert np.linalg.norm(nearest - point, axis=1).min() < 1e-4


def test_a_truncated_mesh_drops_its_tooth_and_is_listed_by_the_name_the_user_gave(meshes: Path) -> None:
    file = meshes / "demo-0001" / "46.stl"
    file.write_bytes(file.read_bytes()[:5000])
    with MouthStore(clouds(meshes)) as store:
        mouth, lines = store.mouth(0), store.record("left_out")
    assert mouth.dropped[SLOT_INDEX[46]]
    assert not mouth.present[T1, SLOT_INDEX[46]]
    assert [(line["tooth"], line["code"], line["file"]) for line in lines] == [
        ("46", "truncated_mesh", "stl/demo-0001/46.stl")
    ]


def test_a_crown_in_metres_is_named(meshes: Path) -> None:
    from dentalign.geometry import stl

    file = meshes / "demo-0001" / "46.stl"
    triangles = stl.read_triangles(file.read_bytes(), file="", tooth=46) / 1000
    stl.write_binary(file, triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3))
    with MouthStore(clouds(meshes)) as store:
        assert [line["code"] for line in store.record("left_out")] == ["mesh_size"]


def test_a_mesh_that_changed_after_rigid_transforms_ends_the_stage(meshes: Path) -> None:
    clouds(meshes)
    shutil.copy(meshes / "demo-0001" / "36.stl", meshes / "demo-0001" / "46.stl")
    with pytest.raises(DentalignError, match=r"46\.stl: has changed"):
        make(meshes)


def test_a_crown_exported_with_buccal_at_minus_y_gives_the_same_points(meshes: Path) -> None:
    with MouthStore(clouds(meshes)) as store:
        ours = store.mouth(0).points[SLOT_INDEX[11]]
    for fdi in TEETH:
        file = meshes / "demo-0001" / f"{fdi}.stl"
        triangles = stl.read_triangles(file.read_bytes(), file="", tooth=fdi) * [-1, -1, 1]
        stl.write_binary(file, triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3))
    with MouthStore(clouds(meshes, buccal_axis="-y")) as store:
        assert np.array_equal(store.mouth(0).points[SLOT_INDEX[11]], ours)


def test_several_processes_write_the_same_bytes_as_one(meshes: Path) -> None:
    several = clouds(meshes, cases=6).read_bytes()
    with MeshStore(str(meshes), Limits()) as store:
        one = Sampler("+y", Sample(points=64, workers=1), Limits())
        make_clouds("manifest.json", store, "one.h5", one)
    assert Path("one.h5").read_bytes() == several


def test_left_out_lines_hold_no_path_of_this_machine(meshes: Path, tmp_path: Path) -> None:
    (meshes / "demo-0001" / "46.stl").write_bytes(b"")
    with MouthStore(clouds(meshes)) as store:
        assert str(tmp_path) not in json.dumps(store.record("left_out"))
