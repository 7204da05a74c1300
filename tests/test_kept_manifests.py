"""A shard of which nothing changed is not made again by rigid_transforms, and one that did always is."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Server
from test_rigid_transforms import SHARDS, Clinic

from dentalign.cases import case_list, case_source, kept_manifests
from dentalign.cases.left_out import LeftOut
from dentalign.errors import DentalignError
from dentalign.state import state_dir

Build = Callable[..., dict[str, Any]]
pytestmark = pytest.mark.usefixtures("state")


@pytest.fixture
def clinic(tmp_path: Path, document: Build, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    """Twelve cases of four teeth, in files that count as long unchanged."""
    monkeypatch.setattr(case_source, "SETTLED_S", -60.0)
    clinic = Clinic(tmp_path)
    for index in range(12):
        clinic.add(document(f"c{index}"))
    return clinic


def written(clinic: Clinic) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in clinic.out.iterdir()}


def shard(case_id: str) -> str:
    return case_list.shard_of(case_id, SHARDS)


def test_nothing_is_made_again_where_nothing_changed(clinic: Clinic) -> None:
    assert clinic.run().unchanged_shards == 0
    first = written(clinic)
    again = clinic.run()
    assert (again.unchanged_shards, again.cases) == (3, 12)
    assert written(clinic) == first


def mesh_changes(clinic: Clinic) -> None:
    (clinic.stl / "c5" / "12.stl").write_bytes(b"mesh c5 99")  # as long as before


def mesh_changes_and_keeps_its_time(clinic: Clinic) -> None:
    mesh = clinic.stl / "c5" / "12.stl"
    before = mesh.stat()
    mesh.write_bytes(b"mesh c5 99")
    os.utime(mesh, ns=(before.st_atime_ns, before.st_mtime_ns))


def mesh_is_gone(clinic: Clinic) -> None:
    (clinic.stl / "c5" / "12.stl").unlink()


def all_meshes_are_gone(clinic: Clinic) -> None:
    shutil.rmtree(clinic.stl / "c5")


def mesh_is_a_link_to_another(clinic: Clinic) -> None:
    (clinic.stl / "c5" / "12.stl").unlink()
    (clinic.stl / "c5" / "12.stl").symlink_to(clinic.stl / "c6" / "12.stl")


def poses_change(clinic: Clinic) -> None:
    file = clinic.json / "c5.json"
    document = json.loads(file.read_bytes())
    document["Staging"][0]["ToothTransforms"]["12"]["translation"]["x"] += 0.5
    file.write_text(json.dumps(document), encoding="utf-8")


def case_is_gone(clinic: Clinic) -> None:
    del clinic.splits["c5"]


def split_changes(clinic: Clinic) -> None:
    clinic.splits["c5"] = "val"


def list_names_one_more_that_is_no_case(clinic: Clinic) -> None:
    clinic.earlier = [LeftOut("c5", "12", "fetch_json", "unknown_tooth_key", "s", "m", "f")]


@pytest.mark.parametrize(
    "change",
    [
        mesh_changes, mesh_changes_and_keeps_its_time, mesh_is_gone, all_meshes_are_gone,
        mesh_is_a_link_to_another, poses_change, case_is_gone, split_changes,
        list_names_one_more_that_is_no_case,
    ],
)  # fmt: skip
def test_a_change_is_seen_and_only_its_shard_made_again(
    clinic: Clinic, change: Callable[[Clinic], None]
) -> None:
    clinic.run()
    before = written(clinic)
    change(clinic)
    assert clinic.run().unchanged_shards == 2
    after = written(clinic)
    assert {name for name in after if after[name] != before[name]} == {f"{shard('c5')}.json"}
    shutil.rmtree(state_dir())
    assert clinic.run().unchanged_shards == 0
    assert written(clinic) == after


def test_another_reason_for_what_was_left_out_before_is_seen(clinic: Clinic) -> None:
    for seen in ("3 keys", "4 keys"):
        clinic.earlier = [LeftOut("c5", "12", "fetch_json", "unknown_tooth_key", seen, "m", "f")]
        clinic.run()
        assert clinic.earlier[0] in clinic.manifest("c5").left_out


def test_a_mesh_behind_a_link_that_changes_is_seen(clinic: Clinic) -> None:
    mesh_is_a_link_to_another(clinic)
    (clinic.stl / "c6" / "12.stl").rename(clinic.stl / "elsewhere.stl")
    (clinic.stl / "c5" / "12.stl").unlink()
    (clinic.stl / "c5" / "12.stl").symlink_to(clinic.stl / "elsewhere.stl")
    clinic.run()
    (clinic.stl / "elsewhere.stl").write_bytes(b"mesh c6 99")
    before = written(clinic)
    clinic.run()
    assert written(clinic) != before


def test_other_parameters_make_all_again(clinic: Clinic) -> None:
    clinic.run()
    assert clinic.run(axis="-y").unchanged_shards == 0
    assert clinic.run(axis="-y", max_mesh_mb=2.0).unchanged_shards == 0


def test_other_code_makes_all_again(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    clinic.run()
    monkeypatch.setattr(kept_manifests, "code_digest", lambda: "of other code")
    assert clinic.run().unchanged_shards == 0


def test_a_damaged_one_is_made_again(clinic: Clinic) -> None:
    clinic.run()
    before = written(clinic)
    for number, file in enumerate(sorted((state_dir() / "transforms").iterdir())):
        content = file.read_bytes()
        file.write_bytes((content[:-9], content.replace(b"1.0", b"2.0"), b"\xff")[number])
    assert clinic.run().unchanged_shards == 0
    assert written(clinic) == before


def test_files_that_changed_just_now_are_read_next_time_too(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case_source, "SETTLED_S", 3600.0)
    clinic.run()
    assert clinic.run().unchanged_shards == 0


def test_meshes_of_a_remote_store_are_always_asked_for(clinic: Clinic, serve: Callable[[], Server]) -> None:
    server = serve()
    for path in clinic.stl.rglob("*.stl"):
        server.put(f"{path.relative_to(clinic.stl)}", path.read_bytes())
    clinic.run(server.url)
    server.answered.clear()
    assert clinic.run(server.url).unchanged_shards == 0
    assert server.answered == [304] * 48


def test_what_is_kept_of_a_shard_that_is_no_more_is_deleted(clinic: Clinic) -> None:
    kept = kept_manifests.KeptManifests(["shard-000", "old"])
    kept.keep("old", kept.key("x"), b"names a case", kept_manifests.Counts(1, 0, 0, 4))
    clinic.run()
    names = {file.name for file in (state_dir() / "transforms").iterdir()}
    assert names == {f"{name}.json" for name in SHARDS}


def test_meshes_that_were_not_asked_for_again_count_in_the_share_that_may_fail(
    clinic: Clinic, document: Build
) -> None:
    """Whether a store passes for being down must not depend on what is kept."""
    clinic.run()
    clinic.add(document("new"))
    folder = clinic.stl / "new"
    for mesh in list(folder.iterdir()):  # one that leads round in a circle cannot be read
        mesh.unlink()
        mesh.symlink_to(mesh)
    assert clinic.run(max_failed_share=0.1).cases == 12
    assert ("12", "mesh_unreadable") in clinic.reasons("new")
    with pytest.raises(DentalignError, match="4 meshes could not be had"):
        clinic.run(max_failed_share=0.05)
