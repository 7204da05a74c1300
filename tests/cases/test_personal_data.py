"""Nobody's name in anything that is written, kept or said."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import trimesh

from dentalign.cases import case_list
from dentalign.cases.settings import Fetch, Limits
from dentalign.cases.sources.meshes import MeshStore
from dentalign.dataset.mouth_store import MouthStore
from dentalign.geometry import stl
from tests.support.http_server import Server
from tests.support.personal_data import WORDS, leaks, own_practice
from tests.support.pipeline_project import Project, make


@pytest.fixture(scope="module")
def own_cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str, Path]:
    """After `dvc repro`: the project, what was said, and the practice full of names."""
    project = make(tmp_path_factory.mktemp("own practice") / "project")
    practice = own_practice(project)
    return project, project.dvc("repro", "--verbose").stdout, practice


def test_no_personal_data_are_in_anything_written_cached_or_said(
    own_cases: tuple[Project, str, Path],
) -> None:
    project, said, practice = own_cases
    assert len(leaks(practice, WORDS)) > 50  # the search finds them where they are
    assert leaks(project.root, WORDS) == []
    assert leaks(Path(project.environment["DVC_SITE_CACHE_DIR"]), ("Zoë", "needles", "clinic.example")) == []
    assert [word for word in WORDS if word in said] == []
    for place in ("data/json", "data/latents.h5", "reports/left_out.csv", ".dvc/cache", ".dentalign/fetch"):
        assert (project.root / place).exists()


def test_planners_reach_the_latents_as_codes_and_their_names_stay_beside_the_list(
    own_cases: tuple[Project, str, Path],
) -> None:
    project, said, practice = own_cases
    table = (practice / "cases.planners.csv").read_text(encoding="utf-8")
    assert table == "code,planner\nplanner-01,DR QUILLFEATHER\nplanner-02,Ñandú's protocol\n"
    listed, _ = case_list.read(practice / "cases.csv")
    known = {"": "", "dr quillfeather": "planner-01", "ñandú's protocol": "planner-02"}
    wanted = {case.case_id: known[case.planner.casefold()] for case in listed}
    with MouthStore(project.root / "data" / "latents.h5") as store:
        assert store.planners == [wanted[case_id] for case_id in store.case_ids]
        assert set(store.planners) == set(known.values())
    with MouthStore(project.root / "data" / "autoencoder_clouds.h5") as store:
        assert set(store.planners) == {""}  # a new planner does not train the autoencoder again
    assert "planners: 2; cases without one: " in said


def test_the_mirror_of_remote_meshes_is_without_the_names_in_stl_files(
    tmp_path: Path, state: Path, serve: Callable[[], Server]
) -> None:
    sphere = trimesh.creation.icosphere(1, 4.0)
    binary = bytes(trimesh.exchange.stl.export_stl(sphere))
    text = str(trimesh.exchange.stl.export_stl_ascii(sphere))
    text = text.replace("solid", "solid Ivan Petrovich", 1).replace("endsolid", "endsolid Ivan Petrovich")
    server = serve()
    server.put("a/11.stl", b"Ivan Petrovich".ljust(80) + binary[80:])
    server.put("a/12.stl", text.encode())
    server.put("a/13.stl", b"solid Ivan Petrovich".ljust(80) + binary[80:])
    with MeshStore(server.url, Limits(), Fetch()) as meshes:
        digests = [meshes.refresh("a", fdi) for fdi in (11, 12, 13)]
        assert digests[0] == digests[2] == stl.mesh_sha256(bytes(80) + binary[80:])
        assert leaks(state, ("Ivan", "Petrovich", "petrovich")) == []
        for fdi in (11, 12, 13):
            data = meshes.mesh_path("a", fdi)[0].read_bytes()
            assert stl.read_triangles(data, file="", tooth=fdi).shape == sphere.triangles.shape
    assert struct.unpack("<I", binary[80:84])[0] == len(sphere.faces)
