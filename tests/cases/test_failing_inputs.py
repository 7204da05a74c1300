"""Small mesh files that were once believed or turned away: each is read, or named for what it is."""

from pathlib import Path

import pytest

from dentalign.cases.settings import Limits
from dentalign.cases.sources.meshes import MeshStore
from dentalign.errors import ToothDefect
from dentalign.geometry import mesh_file

FAILING = Path(__file__).resolve().parents[3] / "shared" / "failing"
FACETS = 1520
MUST = {
    "stl-count-too-small": "contradictory_mesh: .* counts 100 triangles, .* room for 1520",
    "stl-two-binaries-joined": "contradictory_mesh: .* counts 760 triangles, .* room for 1521",
    "ascii-stl-bad-token": r"malformed_mesh: facet \d+ is not three vertices of three numbers",
    "stl-comma-decimals": "malformed_mesh: decimal commas",
    "stl-gzip": "not_a_mesh: not an STL: a gzip file; unpack it",
    "stl-lfs-pointer": "not_a_mesh: not an STL: a Git LFS pointer; run `git lfs pull`",
    "stl-name-facette": "",
    "stl-name-vertex": "",
    "stl-comment-after-endsolid": "",
}


@pytest.mark.parametrize("name", MUST)
def test_a_mesh_that_failed_is_read_or_named_for_what_it_is(name: str) -> None:
    if not (FAILING / name).is_dir():
        pytest.skip("the failing inputs are not here; test_stl.py makes files of the same kinds")

    def read() -> int:
        with MeshStore(str(FAILING), Limits()) as store:
            assert store.refresh(name, 11)
            path, file = store.mesh_path(name, 11)
        return len(mesh_file.read_triangles(path.read_bytes(), file=file, tooth=11))

    if not MUST[name]:
        assert read() == FACETS
        return
    with pytest.raises(ToothDefect, match=MUST[name]):
        read()


def test_every_failing_mesh_is_known_here() -> None:
    if not FAILING.is_dir():
        pytest.skip("the failing inputs are not here")
    assert {folder.name for pattern in ("stl-*", "ascii-*") for folder in FAILING.glob(pattern)} <= set(MUST)
