"""The manifests of rigid_transforms: content, shards, defects, hashes, and the mirror of remote meshes."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dentalign.cases import case_document, case_list, fetch, rigid_transforms
from dentalign.cases.left_out import LeftOut
from dentalign.cases.manifests import Manifest, ManifestCase, path_of
from dentalign.cases.rigid_transforms import ManifestCounts
from dentalign.cases.settings import Fetch, Limits, Source
from dentalign.cases.sources.meshes import MeshStore
from dentalign.errors import DentalignError, NothingUsable, ToothDefect
from dentalign.geometry import rigid, stl
from dentalign.mouth import T1, T2
from dentalign.teeth import SLOT_INDEX
from tests.support.http_server import Reply, Server
from tests.support.realteeth_defects import CODES, IN_THE_MESH

Build = Callable[..., dict[str, Any]]
Serve = Callable[[], Server]
SHARDS = ("shard-000", "shard-001", "shard-002")
REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("state")


def mesh(text: str) -> bytes:
    """A binary STL of one triangle, another one for each text."""
    corners = np.frombuffer(hashlib.sha256(text.encode()).digest()[:9], np.uint8).reshape(3, 3)
    return stl.as_binary(corners, np.array([[0, 1, 2]]))


class Clinic:
    """Sanitised cases and meshes in a folder, and the stage run on them."""

    def __init__(self, folder: Path):
        self.folder, self.out = folder, folder / "transforms"
        self.json, self.stl = folder / "json", folder / "stl"
        self.json.mkdir()
        self.stl.mkdir()
        self.splits: dict[str, str] = {}
        self.earlier: list[LeftOut] = []

    def add(self, given: dict[str, Any], teeth: tuple[int, ...] = (11, 12, 21, 36)) -> None:
        case_id = given["CaseID"]
        (self.json / f"{case_id}.json").write_bytes(
            case_document.canonical(case_document.parse(json.dumps(given).encode(), case_id))
        )
        self.splits[case_id] = "train"
        (self.stl / case_id).mkdir()
        for fdi in teeth:
            (self.stl / case_id / f"{fdi}.stl").write_bytes(mesh(f"{case_id} {fdi}"))

    def run(
        self,
        meshes: str | None = None,
        axis: str = "+y",
        max_mesh_mb: float = 1.0,
        **fetch_options: Any,
    ) -> Any:
        case_list.write_splits(self.folder / "cases.csv", self.splits)
        fetch.write_left_out(
            self.folder / "left_out.json", self.earlier, [*self.splits, *(e.case_id for e in self.earlier)]
        )
        source = {
            "cases": "",
            "json": "",
            "meshes": meshes or str(self.stl),
            "buccal_axis": axis,
        }
        settings: dict[str, Any] = {
            "concurrency": 3,
            "timeout_s": 2.0,
            "retries": 0,
            "backoff_s": 0.01,
        } | fetch_options
        return rigid_transforms.make_manifests(
            self.json,
            self.folder / "cases.csv",
            self.folder / "left_out.json",
            self.out,
            source=Source.model_validate(source),
            fetch=Fetch(**settings),
            limits=Limits(max_mesh_mb=max_mesh_mb),
            shards=SHARDS,
        )

    def manifest(self, case_id: str) -> Manifest:
        return Manifest.load(path_of(self.out, case_list.shard_of(case_id, SHARDS)))

    def entry(self, case_id: str) -> ManifestCase:
        (entry,) = [case for case in self.manifest(case_id).cases if case.mouth.case_id == case_id]
        return entry

    def reasons(self, case_id: str) -> list[tuple[str, str]]:
        return [
            (line.tooth, line.code) for line in self.manifest(case_id).left_out if line.case_id == case_id
        ]


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    return Clinic(tmp_path)


def test_a_manifest_holds_poses_and_hashes_of_its_cases(clinic: Clinic, document: Build, pose: Build) -> None:
    given = document("a", teeth=(11, 55, 36))
    del given["Staging"][2]["ToothTransforms"]["36"]
    clinic.add(given, teeth=(11, 55, 36))
    assert clinic.run() == ManifestCounts(cases=1, excluded=0, dropped_teeth=0)
    entry = clinic.entry("a")
    slots = {11: SLOT_INDEX[11], 36: SLOT_INDEX[36], 55: SLOT_INDEX[15]}
    assert {int(entry.mouth.fdi[slot]): slot for slot in entry.mesh_sha256} == slots
    assert entry.mesh_sha256[slots[11]] == hashlib.sha256(mesh("a 11")).hexdigest()
    for stage, y in ((T1, 0), (T2, 2)):
        wanted = rigid.from_rotation(np.eye(3), [11, y, 0])
        np.testing.assert_array_equal(entry.mouth.pose[stage, slots[11]], wanted)
    assert entry.mouth.present[:, slots[36]].tolist() == [True, False]  # 36 is extracted
    assert entry.mouth.points.shape == (32, 0, 3)


def test_every_shard_is_written_with_its_own_cases_and_the_same_bytes_each_time(
    clinic: Clinic, document: Build
) -> None:
    for index in range(2):
        clinic.add(document(f"c{index}"))
    clinic.run()
    first = {path.name: path.read_bytes() for path in clinic.out.iterdir()}
    assert sorted(first) == [f"{shard}.json" for shard in SHARDS]
    found = {name: [case.mouth.case_id for case in Manifest.load(clinic.out / name).cases] for name in first}
    assert found == {
        f"{shard}.json": [case for case in ("c0", "c1") if case_list.shard_of(case, SHARDS) == shard]
        for shard in SHARDS
    }
    clinic.run(concurrency=1)
    assert {path.name: path.read_bytes() for path in clinic.out.iterdir()} == first


def test_many_cases_are_read_side_by_side_with_the_same_bytes_and_the_same_reasons(
    clinic: Clinic, document: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(20):
        clinic.add(document(f"c{index:02}"))
    file = clinic.stl / "c07" / "12.stl"
    file.unlink()
    file.symlink_to(file)  # leads round in a circle, so that it cannot be read
    monkeypatch.setattr(rigid_transforms, "_FEW_CASES", 1)
    found = {}
    for cores in (1, 3):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert clinic.run() == ManifestCounts(cases=20, excluded=0, dropped_teeth=1)
        assert clinic.reasons("c07") == [("12", "mesh_unreadable")]
        found[cores] = {path.name: path.read_bytes() for path in clinic.out.iterdir()}
        with pytest.raises(DentalignError, match=r"1 meshes could not be read or downloaded.*12\.stl"):
            clinic.run(max_failed_share=0.0)
    assert found[1] == found[3]


def test_one_changed_mesh_changes_one_shard(clinic: Clinic, document: Build) -> None:
    for index in range(12):
        clinic.add(document(f"c{index}"))
    clinic.run()
    first = {path.stem: path.read_bytes() for path in clinic.out.iterdir()}
    (clinic.stl / "c5" / "12.stl").write_bytes(b"another")
    clinic.run()
    changed = {path.stem for path in clinic.out.iterdir() if path.read_bytes() != first[path.stem]}
    assert changed == {case_list.shard_of("c5", SHARDS)}


def test_what_earlier_stages_left_out_is_passed_on_to_the_shard_it_belongs_to(
    clinic: Clinic, document: Build
) -> None:
    clinic.add(document("a"))
    clinic.earlier = [LeftOut(f"x{i}", "", "fetch_json", "not_json", "s", "m", "f") for i in range(9)]
    clinic.run()
    for line in clinic.earlier:
        assert line in clinic.manifest(line.case_id).left_out
    assert sum(len(Manifest.load(path).left_out) for path in clinic.out.iterdir()) == 9


def test_a_missing_or_too_large_mesh_drops_its_tooth(clinic: Clinic, document: Build) -> None:
    clinic.add(document("a"), teeth=(11, 12, 36))
    (clinic.stl / "a" / "12.stl").write_bytes(b"x" * 2_000)
    assert clinic.run(max_mesh_mb=0.001).dropped_teeth == 2
    entry = clinic.entry("a")
    assert entry.mouth.fdi[entry.mouth.present[T1]].tolist() == [36, 11]
    assert entry.mouth.fdi[entry.mouth.dropped].tolist() == [12, 21]
    assert clinic.reasons("a") == [("12", "mesh_too_large"), ("21", "missing_mesh")]


def test_drops_for_poses_and_meshes_count_together(clinic: Clinic, document: Build, pose: Build) -> None:
    teeth = (11, 12, 13, 14, 15, 16)
    given = document("a", teeth=teeth)
    for fdi in ("11", "12", "13"):
        given["Staging"][0]["ToothTransforms"][fdi] = pose(q=(0, 0, 0, 0))
    clinic.add(given, teeth=(11, 12, 13, 14))
    clinic.add(document("b"))
    assert clinic.run().excluded == 1
    assert [code for tooth, code in clinic.reasons("a") if not tooth] == ["too_many_dropped"]
    assert len(clinic.reasons("a")) == 1 + 5


def test_a_case_whose_file_is_gone_is_left_out(clinic: Clinic, document: Build) -> None:
    clinic.add(document("a"))
    clinic.splits["b"] = "train"
    clinic.run()
    assert clinic.reasons("b") == [("", "not_found")]


def test_no_usable_case_is_an_error_of_its_own_and_leaves_no_output(clinic: Clinic, document: Build) -> None:
    clinic.add(document("a"), teeth=())
    with pytest.raises(NothingUsable, match="missing"):
        clinic.run()
    assert not clinic.out.exists()


def test_the_other_buccal_axis_gives_poses_for_turned_points(clinic: Clinic, document: Build) -> None:
    clinic.add(document("a"))
    clinic.run()
    ours = clinic.entry("a").mouth
    clinic.run(axis="-y")
    wanted = ours.pose[ours.present] @ np.diag([-1.0, -1, 1, 1])
    np.testing.assert_array_equal(clinic.entry("a").mouth.pose[ours.present], wanted)


def test_remote_meshes_are_mirrored_and_asked_for_again_only_by_their_etag(
    clinic: Clinic, document: Build, serve: Serve
) -> None:
    server = serve()
    clinic.add(document("a"))
    for path in clinic.stl.rglob("*.stl"):
        server.put(f"stl/{path.relative_to(clinic.stl)}", path.read_bytes())
    clinic.run()
    local = clinic.manifest("a")
    url = f"{server.url}/stl"
    clinic.run(url)
    assert clinic.manifest("a").cases[0].mesh_sha256 == local.cases[0].mesh_sha256
    assert server.answered == [200] * 4

    server.put("stl/a/12.stl", mesh("another"))
    server.answered.clear()
    clinic.run(url)
    assert sorted(server.answered) == [200, 304, 304, 304]
    server.answered.clear()
    with MeshStore(url, Limits()) as store:
        file, location = store.mesh_path("a", 12)
        assert location == f"{url}/a/12.stl"
        assert file.read_bytes() == mesh("another")
        assert server.answered == []

        file.write_bytes(b"damaged")
        assert store.refresh("a", 12) == hashlib.sha256(mesh("another")).hexdigest()
        assert file.read_bytes() == mesh("another")
        file.unlink()
        assert store.mesh_path("a", 12)[0].read_bytes() == mesh("another")
        with pytest.raises(ToothDefect, match="missing_mesh"):
            store.mesh_path("a", 99)


def test_meshes_of_a_server_are_asked_for_side_by_side(clinic: Clinic, document: Build, serve: Serve) -> None:
    server = serve()
    for case_id in ("a", "b"):
        clinic.add(document(case_id))
    for path in clinic.stl.rglob("*.stl"):
        server.put(f"{path.relative_to(clinic.stl)}", path.read_bytes())
    two, answer = threading.Barrier(2, timeout=20), server.reply

    def when_two_wait(path: str, headers: dict[str, str]) -> Reply:
        two.wait()
        return answer(path, headers)

    server.reply = when_two_wait  # type: ignore[method-assign]
    assert clinic.run(server.url, timeout_s=30.0, concurrency=2).cases == 2


def test_a_store_of_meshes_that_fails_stops_the_run(clinic: Clinic, document: Build, serve: Serve) -> None:
    server = serve()
    clinic.add(document("a", teeth=(11, 12, 13, 14, 15)), teeth=(11, 12, 13, 14, 15))
    for path in clinic.stl.rglob("*.stl"):
        server.put(f"{path.relative_to(clinic.stl)}", path.read_bytes())
    for fdi in (11, 12):
        server.script[f"/a/{fdi}.stl"] = [Reply(503)]
    server.script["/a/11.stl"] *= 5
    server.script["/a/12.stl"] *= 5
    with pytest.raises(
        DentalignError, match=r"2 meshes .* downloaded, more than the share fetch\.max_failed_share = 0\.2"
    ):
        clinic.run(server.url)
    assert clinic.run(server.url, max_failed_share=0.5).dropped_teeth == 2
    assert clinic.reasons("a") == [("11", "mesh_unreachable"), ("12", "mesh_unreachable")]


def test_a_link_out_of_the_mesh_folder_is_not_followed(clinic: Clinic, document: Build) -> None:
    clinic.add(document("a"))
    (clinic.stl / "a" / "11.stl").unlink()
    (clinic.stl / "a" / "11.stl").symlink_to(clinic.folder / "cases.csv")
    clinic.run()
    assert clinic.reasons("a") == [("11", "mesh_link_out_of_folder")]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format_version": 2}', '{"format_version": 1, "shard": "s"}']
)
def test_a_file_that_is_no_manifest_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(DentalignError, match=r"m\.json"):
        Manifest.load(tmp_path / "m.json")


def test_the_two_stages_read_realteeth_and_name_each_defect(realteeth: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(
        f"source: {{cases: list.csv, json: '{realteeth}/json', meshes: '{realteeth}/stl'}}\n"
        "fetch: {}\nlimits: {}\nshards: [shard-000, shard-001]\n"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    commands = [
        ["-m", "dentalign.cli", "list", str(realteeth), "--out", "list.csv"],
        [str(REPOSITORY / "stages" / "fetch_json.py")],
        [str(REPOSITORY / "stages" / "rigid_transforms.py")],
    ]
    said = ""
    for command in commands:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said = done.stderr
    assert said == "rigid_transforms: 27 cases, 1 excluded, 5 teeth dropped -> data/transforms\n"

    manifests = [Manifest.load(path) for path in sorted((tmp_path / "data" / "transforms").iterdir())]
    entries = {case.mouth.case_id: case.mouth for manifest in manifests for case in manifest.cases}
    lines = [line for manifest in manifests for line in manifest.left_out]
    assert "rt-900008-copy" in {line.case_id for line in lines if line.code == "case_id_differs"}
    for defect in json.loads((realteeth / "defects.json").read_text(encoding="utf-8")):
        name, case_id = defect["defect"], defect["case_id"]
        found = [(line.tooth, line.code) for line in lines if line.case_id == case_id]
        if defect["expect"] == "accept" or name in IN_THE_MESH or name == "duplicate_case_id":
            assert found == [], name
            assert entries[case_id].present[T1].sum() >= 24, name
        else:
            assert found == [CODES[name]], name
            assert (case_id in entries) == bool(found[0][0]), name

    for mouth in entries.values():  # the arches come out right: upper above lower, patient's left at +x
        here = np.flatnonzero(mouth.present[T1])
        height, across = (dict(zip(mouth.fdi[here], mouth.pose[T1, here, k, 3], strict=True)) for k in (2, 0))
        assert height[16 if 16 in height else 17] > height[46 if 46 in height else 47]
        assert across[23 if 23 in across else 24] > across[13 if 13 in across else 14]


def test_realteeth_poses_agree_with_its_own_generator(realteeth: Path) -> None:
    """The same head pose, by scipy, from the JSON as it stands."""
    from scipy.spatial.transform import Rotation

    from dentalign.cases.poses import stage_poses

    def matrix(pose: dict[str, Any]) -> Any:
        q = [float(pose["rotation"][key]) for key in "xyzw"]
        t = [float(pose["translation"][key]) for key in "xyz"]
        return rigid.from_rotation(Rotation.from_quat(q).as_matrix(), t)

    for path in sorted(realteeth.glob("json/rt-00*.json")):
        raw = json.loads(path.read_text())
        poses = stage_poses(case_document.read(path, path.stem))
        stage = raw["Staging"][0]
        (key,) = [key for key in stage if key.endswith(("ToothTransforms", "ToothTransformsHead"))]
        for fdi, pose in poses.t1.items():
            expected = matrix(stage[key][str(fdi)])
            if key == "RelativeToothTransforms":
                jaw, top = (
                    ("Maxillary", "maxilla") if fdi // 10 in (1, 2, 5, 6) else ("Mandibular", "mandibular")
                )
                expected = matrix(stage.get(f"{jaw}Transform") or raw[f"{top}RelativeTransform"]) @ expected
            np.testing.assert_allclose(pose, expected, atol=1e-9)
