"""Where a tooth's mesh is looked for, in a folder and on a server, and what is said if it is not there."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh

from dentalign.cases.settings import Fetch, Limits
from dentalign.cases.sources.meshes import MeshStore, MeshUnreachable
from dentalign.errors import ToothDefect
from dentalign.geometry import mesh_file
from tests.support.http_server import Reply, Server
from tests.support.personal_data import leaks

pytestmark = pytest.mark.usefixtures("state")
Serve = Callable[[], Server]
BALL = trimesh.creation.icosphere(1, 4.0)
QUICK = Fetch(timeout_s=2.0, retries=0, backoff_s=0.01)


def ball(kind: str) -> bytes:
    data = BALL.export(file_type=kind)
    return data if isinstance(data, bytes) else str(data).encode()


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        kind = mesh_file.kind_of(name)
        (folder / name).write_bytes(ball(kind if kind in mesh_file.KINDS else "stl"))


def defect_of(store: MeshStore, folder: str = "a", fdi: int = 11) -> ToothDefect:
    with pytest.raises(ToothDefect) as caught:
        store.refresh(folder, fdi)
    with pytest.raises(ToothDefect, match=caught.value.code):
        store.mesh_path(folder, fdi)
    assert caught.value.tooth == fdi
    return caught.value


# --- a folder


@pytest.mark.parametrize("name", ["11.stl", "11.STL", "11.Stl", "11.ply", "11.PLY", "11.obj", "11.Obj"])
@pytest.mark.parametrize("folder", ["a", ""])
def test_a_mesh_is_found_by_its_number_in_any_format_and_letter_case(
    tmp_path: Path, name: str, folder: str
) -> None:
    below = f"{folder}/" if folder else ""
    put(tmp_path, below + name, f"{below}21.stl", f"{below}notes.txt", f"{below}111.stl")
    with MeshStore(str(tmp_path), Limits()) as store:
        path, location = store.mesh_path(folder, 11)
        assert location == f"{tmp_path}/{below}{name}"
        triangles = mesh_file.read_triangles(path.read_bytes(), file=location, tooth=11)
        np.testing.assert_allclose(triangles, BALL.triangles, atol=1e-6)
        assert store.refresh(folder, 11) == mesh_file.mesh_sha256(path.read_bytes(), file=name)


@pytest.mark.parametrize("second", ["11.ply", "11.STL", "11.OBJ"])
def test_two_meshes_of_one_tooth_drop_it_and_no_other(tmp_path: Path, second: str) -> None:
    put(tmp_path, "a/11.stl", f"a/{second}", "a/12.stl")
    with MeshStore(str(tmp_path), Limits()) as store:
        defect = defect_of(store)
        assert defect.code == "several_meshes"
        assert "11.stl" in defect.seen and second in defect.seen
        assert store.refresh("a", 12)


@pytest.mark.parametrize(
    ("there", "named", "fix"),
    [
        (["11_crown.stl", "21.stl", "notes.txt"], "there is 11_crown.stl", "name it 11.stl"),
        (["AAnL_end_11.PLY", "21.stl"], "there is AAnL_end_11.PLY", "name it 11.ply"),
        (["11.stl.gz"], "there is 11.stl.gz", "save it as 11.stl"),
        (["11.vtp", "12.vtp"], "there is 11.vtp", "save it as 11.stl"),
        (["8.obj", "9.obj"], "there is 8.obj, 9.obj", "name it 11.obj"),
        ([f"t{n}.stl" for n in range(1, 8)], "t1.stl, t2.stl, t3.stl and 4 more", "name it 11.stl"),
    ],
)
def test_a_missing_mesh_names_what_does_lie_there(
    tmp_path: Path, there: list[str], named: str, fix: str
) -> None:
    put(tmp_path, *(f"a/{name}" for name in there))
    with MeshStore(str(tmp_path), Limits()) as store:
        defect = defect_of(store)
    assert defect.code == "missing_mesh"
    assert defect.seen.endswith(named)
    assert defect.fix.startswith(f"if that is the tooth, {fix}; else")
    assert defect.file == f"{tmp_path}/a/11.stl"


@pytest.mark.parametrize("there", [["21.stl", "12.ply"], ["._11.stl", ".DS_Store"]])
def test_a_missing_mesh_names_no_crown_of_another_tooth_and_nothing_hidden(
    tmp_path: Path, there: list[str]
) -> None:
    put(tmp_path, "b/11.stl", *(f"a/{name}" for name in there))
    with MeshStore(str(tmp_path), Limits()) as store:
        assert defect_of(store).seen == "the mesh is missing"


def test_a_name_that_is_not_utf8_can_be_said(tmp_path: Path) -> None:
    put(tmp_path, "a/11_\udcff.stl")
    with MeshStore(str(tmp_path), Limits()) as store:
        assert "11_\\udcff.stl" in defect_of(store).seen


def test_a_bad_mesh_has_a_digest_so_that_its_reader_can_say_what_is_wrong(tmp_path: Path) -> None:
    put(tmp_path, "a/11.ply")
    (tmp_path / "a" / "11.ply").write_bytes(b"Jane Doe")
    with MeshStore(str(tmp_path), Limits()) as store:
        assert len(store.refresh("a", 11)) == 64


def test_a_missing_folder_of_meshes_is_named(tmp_path: Path) -> None:
    put(tmp_path, "b/11.stl")
    with MeshStore(str(tmp_path), Limits()) as store:
        assert defect_of(store).seen == "the mesh is missing: the folder a is missing or empty"


# --- a server


def test_the_usual_name_costs_one_request_and_others_are_tried_in_turn(serve: Serve) -> None:
    server = serve()
    for name in ("11.stl", "12.ply", "13.OBJ"):
        server.put(f"a/{name}", ball(mesh_file.kind_of(name)))
    with MeshStore(server.url, Limits(), QUICK) as store:
        store.refresh("a", 11)
        assert server.answered == [200]
        store.refresh("a", 12)
        store.refresh("a", 13)
        assert server.answered == [200, 404, 200, *5 * [404], 200]
        server.answered.clear()
        for fdi, name in ((11, "11.stl"), (12, "12.ply"), (13, "13.OBJ")):
            path, location = store.mesh_path("a", fdi)
            assert location == f"{server.url}/a/{name}"
            triangles = mesh_file.read_triangles(path.read_bytes(), file=location, tooth=fdi)
            np.testing.assert_allclose(triangles, BALL.triangles, atol=1e-6)
        assert server.answered == []  # mirrored, under the name that it was found by
        store.refresh("a", 12)
        assert server.answered == [404, 304]
        defect = defect_of(store, fdi=14)
    assert defect.code == "missing_mesh"
    assert "no 14.stl, 14.ply, 14.obj, 14.STL, 14.PLY, 14.OBJ" in defect.seen


def test_a_mesh_that_was_exchanged_for_another_format_is_not_mixed_up(serve: Serve, state: Path) -> None:
    server = serve()
    server.put("a/11.stl", ball("stl"))
    with MeshStore(server.url, Limits(), QUICK) as store:
        store.refresh("a", 11)
        del server.files["/a/11.stl"]
        server.put("a/11.ply", ball("ply"))
        store.refresh("a", 11)
        assert store.mesh_path("a", 11)[1] == f"{server.url}/a/11.ply"
    assert not list(state.rglob("11.stl*"))  # what the source no longer has is not kept


def test_a_server_that_fails_is_not_asked_for_other_names(serve: Serve) -> None:
    server = serve()
    server.script["/a/11.stl"] = [Reply(503)]
    with MeshStore(server.url, Limits(), QUICK) as store, pytest.raises(MeshUnreachable) as caught:
        store.refresh("a", 11)
    assert caught.value.code == "mesh_unreachable"
    assert server.answered == [503]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("11.ply", ball("ply").replace(b"comment", b"obj_info Ivan\ncomment", 1)),
        ("11.obj", b"# Ivan\no Ivan\nmtllib Ivan.mtl\n" + ball("obj") + b"\n# Ivan"),
        ("11.stl", ball("stl_ascii").replace(b"solid", b"solid Ivan", 1) + b"; Ivan\n"),
        ("11.stl", ball("stl") + b"Ivan"),
    ],
)
def test_a_mirrored_mesh_is_the_same_mesh_without_a_word(
    tmp_path: Path, serve: Serve, state: Path, name: str, data: bytes
) -> None:
    server = serve()
    server.put(f"a/{name}", data)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_bytes(data)
    with MeshStore(server.url, Limits(), QUICK) as store, MeshStore(str(tmp_path), Limits()) as local:
        assert store.refresh("a", 11) == local.refresh("a", 11)
        mirrored = store.mesh_path("a", 11)[0].read_bytes()
    assert leaks(state, ("Ivan", "ivan")) == []
    here, there = (mesh_file.read_triangles(one, file=name, tooth=11) for one in (data, mirrored))
    np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize(
    "data", [b"<html>Ivan</html>", gzip.compress(b"x", mtime=0), b"Ivan", ball("stl")[:-9], b""]
)
def test_what_is_no_mesh_is_not_mirrored(serve: Serve, state: Path, data: bytes) -> None:
    server = serve()
    server.put("a/11.stl", ball("stl"))
    with MeshStore(server.url, Limits(), QUICK) as store:
        store.refresh("a", 11)
        server.put("a/11.stl", data)
        assert defect_of(store).code in ("not_a_mesh", "truncated_mesh", "empty_mesh")
    assert not list(state.rglob("11.*"))
