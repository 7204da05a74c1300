"""A shard of which nothing changed is not made again by rigid_transforms, and one that did always is."""

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from dentalign.cases import case_list, fetch, kept_manifests
from dentalign.cases.left_out import LeftOut
from dentalign.cases.sources import folder as folder_source
from dentalign.errors import DentalignError
from dentalign.geometry import stl
from dentalign.running.state_dir import state_dir
from tests.cases.test_rigid_transforms import SHARDS, Clinic
from tests.support.http_server import Server

Build = Callable[..., dict[str, Any]]
SETTLED_S = folder_source.SETTLED_S
pytestmark = pytest.mark.usefixtures("state")


@pytest.fixture
def clinic(tmp_path: Path, document: Build, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    """Twelve cases of four teeth, in files that count as long unchanged."""
    monkeypatch.setattr(folder_source, "SETTLED_S", -60.0)
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
    name = next(name for name in map("x{}".format, range(99)) if shard(name) == shard("c5"))
    clinic.earlier = [LeftOut(name, "", "fetch_json", "not_json", "s", "m", "f")]


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


def test_rows_of_the_list_are_counted_anew(clinic: Clinic) -> None:
    """Even where nothing else tells of them."""
    clinic.run()
    record = clinic.folder / "left_out.json"
    write = fetch.write_left_out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "write_left_out", lambda path, lines, rows: write(path, lines, [*rows, "c5"]))
        clinic.run()
    assert json.loads(record.read_bytes())["listed"].count("c5") == 2
    listed = {name: json.loads(content)["listed"] for name, content in written(clinic).items()}
    assert sum(listed.values()) == 13


def test_another_reason_for_what_was_left_out_before_is_seen(clinic: Clinic) -> None:
    for seen in ("3 keys", "4 keys"):
        clinic.earlier = [LeftOut("c5", "12", "fetch_json", "unknown_tooth_key", seen, "m", "f")]
        clinic.run()
        assert clinic.earlier[0] in clinic.manifest("c5").left_out


def test_a_mesh_behind_a_link_that_changes_is_seen(clinic: Clinic) -> None:
    elsewhere = clinic.stl / "elsewhere.stl"
    (clinic.stl / "c5" / "12.stl").rename(elsewhere)
    (clinic.stl / "c5" / "12.stl").symlink_to(elsewhere)
    clinic.run()
    before = written(clinic)
    elsewhere.write_bytes(b"mesh c5 99")
    clinic.run()
    assert written(clinic) != before


@pytest.mark.parametrize("change", [mesh_changes, mesh_is_gone, all_meshes_are_gone])
def test_a_link_to_nowhere_hides_no_change(clinic: Clinic, change: Callable[[Clinic], None]) -> None:
    (clinic.stl / "c5" / "lock").symlink_to("nobody@nowhere")  # as editors and browsers leave them
    clinic.run()
    before = written(clinic)
    assert clinic.run().unchanged_shards == 3
    change(clinic)
    clinic.run()
    assert written(clinic) != before


def test_a_link_that_led_nowhere_and_now_leads_to_a_mesh_is_seen(clinic: Clinic) -> None:
    (clinic.stl / "c5" / "12.stl").rename(clinic.stl / "elsewhere.stl")
    (clinic.stl / "c5" / "12.stl").symlink_to(clinic.stl / "not yet.stl")
    assert clinic.run().dropped_teeth == 1
    (clinic.stl / "elsewhere.stl").rename(clinic.stl / "not yet.stl")
    assert clinic.run().dropped_teeth == 0


def test_a_file_that_could_not_be_read_is_tried_again(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share that fails for a moment must not cost a case for good."""
    real = stl.mesh_sha256
    with monkeypatch.context() as patch:
        patch.setattr(stl, "mesh_sha256", lambda data: _fails() if b"c5" in data else real(data))
        assert clinic.run(max_failed_share=1.0).cases == 11
    assert clinic.run().cases == 12


def _fails() -> str:
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


def test_a_case_whose_document_is_not_there_is_looked_for_again(clinic: Clinic) -> None:
    (clinic.json / "c5.json").rename(clinic.folder / "c5.json")
    assert clinic.run().cases == 11
    assert clinic.run().unchanged_shards == 2
    (clinic.folder / "c5.json").rename(clinic.json / "c5.json")
    assert clinic.run().cases == 12


def test_missing_meshes_are_no_reason_to_make_a_shard_again(clinic: Clinic) -> None:
    all_meshes_are_gone(clinic)
    assert clinic.run().cases == 11
    assert clinic.run().unchanged_shards == 3


def test_other_parameters_make_all_again(clinic: Clinic) -> None:
    clinic.run()
    assert clinic.run(axis="-y").unchanged_shards == 0
    assert clinic.run(axis="-y", max_mesh_mb=2.0).unchanged_shards == 0


def test_lines_name_the_files_of_this_run(clinic: Clinic, document: Build, pose: Build) -> None:
    given = document("bad")
    given["Staging"][0]["ToothTransforms"]["12"] = pose(q=(0, 0, 0, 0))
    clinic.add(given)
    clinic.run()
    clinic.json = clinic.json.rename(clinic.folder / "elsewhere")
    clinic.run()
    assert [line.file for line in clinic.manifest("bad").left_out] == [
        f"{clinic.json / 'bad.json'}: Staging[0]"
    ]


def test_other_code_makes_all_again(clinic: Clinic, tmp_path: Path) -> None:
    """The code of whatever module of ours is loaded."""
    module = tmp_path / "rules.py"
    for content, unchanged in (("LIMIT = 1", 0), ("LIMIT = 1", 3), ("LIMIT = 2", 0)):
        module.write_text(content)
        loaded = ModuleType("dentalign.rules")
        loaded.__file__ = str(module)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "dentalign.rules", loaded)
            assert clinic.run().unchanged_shards == unchanged


def test_another_person_behind_a_pseudonym_is_seen(
    clinic: Clinic, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("outside") / "map.csv"
    names = pseudonyms_of(clinic, file, lambda number: f"c{number}")
    clinic.run(pseudonym_map=names)
    assert clinic.run(pseudonym_map=names).unchanged_shards == 3
    before = written(clinic)
    pseudonyms_of(clinic, file, lambda number: f"c{(number + 1) % 12}")
    clinic.run(pseudonym_map=names)
    assert written(clinic) != before


def pseudonyms_of(clinic: Clinic, file: Path, case_of: Callable[[int], str]) -> str:
    """Cases under other names than their meshes."""
    clinic.splits = {f"p-{number}": "train" for number in range(12)}
    rows = []
    for number in range(12):
        document = json.loads((clinic.folder / "json" / f"c{number}.json").read_bytes())
        (clinic.json / f"p-{number}.json").write_text(json.dumps(document | {"CaseID": f"p-{number}"}))
        rows.append(f"p-{number},{case_of(number)}\n")
    file.write_text("pseudonym,case_id\n" + "".join(rows))
    file.chmod(0o600)
    return str(file)


def test_a_damaged_one_is_made_again(clinic: Clinic) -> None:
    clinic.run()
    before = written(clinic)
    for number, file in enumerate(sorted((state_dir() / "transforms").iterdir())):
        content = file.read_bytes()
        file.write_bytes((content[:-9], content.replace(b"1.0", b"2.0"), b"\xff")[number])
    assert clinic.run().unchanged_shards == 0
    assert written(clinic) == before


@pytest.mark.parametrize(("later_s", "settled"), [(1.5, False), (2.5, True)])
def test_files_that_changed_just_now_are_read_next_time_too(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, later_s: float, settled: bool
) -> None:
    """A second change within the coarsest tick of a file system's clock would not be seen."""
    monkeypatch.setattr(folder_source, "SETTLED_S", SETTLED_S)
    mesh_changes(clinic)
    newest = (clinic.stl / "c5" / "12.stl").stat().st_ctime
    monkeypatch.setattr(folder_source, "time", SimpleNamespace(time=lambda: newest + later_s))
    clinic.run()
    assert (clinic.run().unchanged_shards == 3) == settled


def test_meshes_of_a_remote_store_are_always_asked_for(clinic: Clinic, serve: Callable[[], Server]) -> None:
    server = serve()
    for path in clinic.stl.rglob("*.stl"):
        server.put(f"{path.relative_to(clinic.stl)}", path.read_bytes())
    clinic.run(server.url)
    server.answered.clear()
    assert clinic.run(server.url).unchanged_shards == 0
    assert server.answered == [304] * 48


def test_what_is_kept_of_a_shard_that_is_no_more_is_deleted(clinic: Clinic) -> None:
    counts = kept_manifests.Counts(1, 0, 0, 4)
    kept_manifests.replace({"old": kept_manifests.KeptManifest(b"names a case", "key", counts)}, ())
    assert kept_manifests.find("old", "key")
    clinic.run()
    assert kept() == {f"{name}.json" for name in SHARDS}


def kept() -> set[str]:
    return {file.name for file in (state_dir() / "transforms").iterdir()}


def test_nothing_is_kept_of_a_shard_of_which_nothing_new_can_be_kept(
    clinic: Clinic, serve: Callable[[], Server]
) -> None:
    """A case that is taken out later must not stay in what was kept long before."""
    clinic.run()
    server = serve()
    for path in clinic.stl.rglob("*.stl"):
        server.put(f"{path.relative_to(clinic.stl)}", path.read_bytes())
    clinic.run(server.url)
    assert kept() == set()


def test_where_nothing_can_be_kept_the_manifests_are_there_all_the_same(clinic: Clinic) -> None:
    state_dir().mkdir(exist_ok=True)
    (state_dir() / "transforms").write_text("in the way")
    assert clinic.run().cases == 12
    assert len(written(clinic)) == 3


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
