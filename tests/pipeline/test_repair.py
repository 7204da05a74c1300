import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dvc.lock import make_lock

from dentalign import repair
from dentalign.errors import DentalignError
from tests.support.pipeline_project import Project
from tests.support.repository import ROOT


def _cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def test_repro_goes_on_after_a_lock_file_was_left_half_written(project: Project) -> None:
    lock = project.root / "dvc.lock"
    whole = lock.read_bytes()
    _cut(lock, whole.index(b"path:", whole.index(b"train_align:")) + 2)
    assert project.dvc("repro", check=False).returncode != 0

    said = project.run("dentalign", "repair").stdout
    assert "dvc.lock" in said and not lock.exists()
    assert project.repro() == []  # all of it from the cache of runs
    assert sorted(lock.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_repro_goes_on_after_the_file_of_readers_and_writers_was_left_half_written(project: Project) -> None:
    rwlock = project.root / ".dvc" / "tmp" / "rwlock"
    rwlock.write_text('{"write": {"/a', encoding="utf-8")
    assert project.dvc("repro", check=False).returncode != 0

    assert repair.remove_half_written(project.root) == [rwlock]
    assert project.repro() == []


@pytest.mark.parametrize("size", [0, 1, 9])
def test_a_lock_file_with_next_to_nothing_in_it_is_half_written(project: Project, size: int) -> None:
    _cut(project.root / "dvc.lock", size)
    assert repair.remove_half_written(project.root) == [project.root / "dvc.lock"]


def test_a_merge_conflict_is_left_to_the_user_and_nothing_is_deleted(project: Project) -> None:
    lock = project.root / "dvc.lock"
    (project.root / ".dvc" / "tmp" / "rwlock").write_text('{"write": {"/a', encoding="utf-8")
    whole = lock.read_text(encoding="utf-8")
    for branch, size in (("theirs", "1"), ("ours", "2")):
        project.run("git", "checkout", "--quiet", "-B", branch, "HEAD" if branch == "theirs" else "theirs~1")
        lock.write_text(whole.replace("size: ", f"size: {size}", 1), encoding="utf-8")
        project.commit()
    assert project.run("git", "merge", "theirs", check=False).returncode == 1
    before = project.hashes("dvc.lock", ".dvc/tmp/rwlock")

    done = project.run("dentalign", "repair", check=False)
    assert done.returncode == 1
    assert "dvc.lock: holds a merge conflict; resolve the conflict" in done.stdout
    assert project.hashes("dvc.lock", ".dvc/tmp/rwlock") == before


def test_a_lock_file_that_no_killed_dvc_leaves_stays(project: Project) -> None:
    lock = project.root / "dvc.lock"
    damaged = lock.read_text(encoding="utf-8").replace("deps:", "deps: ]", 1)
    lock.write_text(damaged, encoding="utf-8")
    with pytest.raises(DentalignError, match=r"not by a killed DVC.*git checkout"):
        repair.remove_half_written(project.root)
    assert lock.read_text(encoding="utf-8") == damaged


@pytest.mark.parametrize("zeros", [0, 512])  # which a power cut leaves
def test_wherever_a_lock_file_was_cut_it_is_deleted_unless_dvc_can_read_it(
    project: Project, zeros: int
) -> None:
    lock = project.root / "dvc.lock"
    content = lock.read_bytes()
    for size in range(1, len(content), 499):
        lock.write_bytes(content[:size] + bytes(zeros))
        removed = repair.remove_half_written(project.root)
        assert removed == [lock] or (not zeros and yaml.safe_load(content[:size])["stages"])


def test_whole_files_stay(project: Project) -> None:
    rwlock = project.root / ".dvc" / "tmp" / "rwlock"
    rwlock.write_text(json.dumps({"read": {}, "write": {}}), encoding="utf-8")
    before = project.hashes("dvc.lock", ".dvc/tmp/rwlock")
    assert repair.remove_half_written(project.root) == []
    assert "nothing is left half written" in project.run("dentalign", "repair").stdout
    assert project.hashes("dvc.lock", ".dvc/tmp/rwlock") == before


def test_nothing_is_deleted_under_a_dvc_at_work(project: Project) -> None:
    lock = project.root / "dvc.lock"
    _cut(lock, 9)
    tmp = project.root / ".dvc" / "tmp"
    with (
        make_lock(str(tmp / "lock"), tmp_dir=str(tmp)),
        pytest.raises(DentalignError, match="DVC is running"),
    ):
        repair.remove_half_written(project.root)
    assert lock.exists()


def test_a_folder_without_dvc_is_named(tmp_path: Path) -> None:
    with pytest.raises(DentalignError, match="no DVC repository"):
        repair.remove_half_written(tmp_path)


def test_a_copy_without_git_is_told_what_to_do_at_once(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    with pytest.raises(
        DentalignError, match=r"no git repository.*`git init`, `git add --all` and `git commit"
    ):
        repair.remove_half_written(tmp_path)
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    assert repair.remove_half_written(tmp_path) == []  # DVC needs none


@pytest.mark.parametrize("target", ["demo", "repro"])
def test_make_says_so_before_it_installs_anything(tmp_path: Path, target: str) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    done = subprocess.run(["make", target], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "git init && git add --all && git commit -m start" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]
