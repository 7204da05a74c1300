"""Hard links and symbolic links into DVC's cache: no stage writes through one."""

import hashlib
import json
import sys
from pathlib import Path

import h5py
import pytest

from tests.support.pipeline_project import FDIS, SHARDS, Project
from tests.support.repository import ROOT
from tests.support.second_machine import cached, hide_the_demo

KINDS = ("hardlink", pytest.param("symlink", marks=pytest.mark.long))
RENEWED = (
    ("sample_clouds", f"data/transforms/{SHARDS[0]}.json", f"data/clouds/{SHARDS[0]}.h5"),
    ("encode_latents_sharded", f"data/clouds/{SHARDS[0]}.h5", f"data/latents/{SHARDS[0]}.h5"),
    ("concat_hdf5", "data/latents", "--shards", str(len(SHARDS))),
    ("train_align",),
)


def search_of_the_page() -> str:
    """The script of docs/machines.md that finds damaged objects."""
    lines = (ROOT / "docs/machines.md").read_text(encoding="utf-8").splitlines()
    first = lines.index("    cd .dvc/cache/files/md5")
    return "\n".join(lines[first : lines.index("    done", first) + 1])


def linked(project: Project, kind: str) -> None:
    """Turn all outputs into links into the cache."""
    hide_the_demo(project)
    project.dvc("config", "cache.type", kind)
    project.dvc("checkout", "--relink")
    for name in ("data/latents.h5", "models/encoder.pt", "reports/train_align/metrics.json"):
        assert is_link(project.root / name, kind)


def is_link(path: Path, kind: str) -> bool:
    return path.is_symlink() if kind == "symlink" else path.stat().st_nlink > 1


def changed(project: Project) -> list[str]:
    """List the objects of the cache whose content no longer has the MD5 in their name."""
    found = []
    for name in cached(project):
        path = project.root / ".dvc/cache/files/md5" / name[:2] / name[2:]
        if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != name.removesuffix(".dir"):
            found.append(name)
    return found


def differ(project: Project) -> None:
    """Set parameters under which every stage after `rigid_transforms` has other outputs."""
    project.set("sample.seed", 1)
    project.set("train.seed", 1)
    project.set("train.epochs", 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_opened_for_writing_would_change_the_cache(kind: str, project: Project) -> None:
    """The cache type `reflink,copy` of .dvc/config protects from this."""
    linked(project, kind)
    assert changed(project) == []
    with h5py.File(project.root / "data/latents.h5", "r+") as file:
        file.attrs["note"] = "mine"
    (name,) = changed(project)
    said = project.run("sh", "-c", search_of_the_page()).stdout
    assert said == f"./{name[:2]}/{name[2:]} is damaged\n"


@pytest.mark.parametrize("kind", KINDS)
def test_stages_run_by_hand_over_links_leave_the_cache_as_it_was(kind: str, project: Project) -> None:
    """DVC would remove the outputs first; by hand nobody does."""
    linked(project, kind)
    differ(project)
    outputs = [f"data/clouds/{SHARDS[0]}.h5", f"data/latents/{SHARDS[0]}.h5", "data/latents.h5"]
    outputs += ["models/alignment.pt", "reports/train_align/metrics.json"]
    before = project.hashes(*outputs)
    for stage, *arguments in RENEWED:
        project.run(sys.executable, f"stages/{stage}.py", *arguments)
    after = project.hashes(*outputs)
    assert [name for name in outputs if before[name] == after[name]] == []
    assert not any(is_link(project.root / name, kind) for name in outputs)
    assert changed(project) == []


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_pipeline_over_links_leaves_the_cache_as_it_was(kind: str, project: Project) -> None:
    linked(project, kind)
    differ(project)
    before = cached(project)
    assert {"fetch_json", "train_autoencoder", "validate"} <= set(project.repro("--force"))
    assert changed(project) == []
    assert before.items() <= cached(project).items()
    assert is_link(project.root / "data/latents.h5", kind)
    assert json.loads(project.dvc("status", "--json").stdout) == {}


def test_cases_that_dvc_keeps_as_links_into_its_cache_are_read(project: Project) -> None:
    """`dvc add` of the user's own cases, with links, and a cache that several projects share."""
    project.dvc("config", "--local", "cache.dir", str(project.root.parent / "shared"))
    project.dvc("config", "--local", "cache.type", "symlink")
    project.run("git", "rm", "-r", "-q", "--cached", "cases")
    project.dvc("add", "cases")
    meshes = list((project.root / "cases").rglob("*.stl"))
    assert len(meshes) == 20 * len(FDIS) and all(is_link(mesh, "symlink") for mesh in meshes)
    assert meshes[0].resolve().is_relative_to(project.root.parent / "shared")
    assert "20 used + 0 excluded" in project.run("dentalign", "check", "cases").stdout
    project.run(sys.executable, "stages/fetch_json.py")
    project.run(sys.executable, "stages/rigid_transforms.py")
    secret = project.root.parent / "secret.stl"
    secret.write_bytes(meshes[0].read_bytes())
    meshes[0].unlink()
    meshes[0].symlink_to(secret)
    said = project.run("dentalign", "check", "cases", check=False)
    assert said.returncode == 1 and "mesh_link_out_of_folder" in said.stdout
