import json
import os
from pathlib import Path

import pytest
from dvc.lock import make_lock

from dentalign import repair
from dentalign.errors import DentalignError
from tests.support.pipeline_project import Project


def _cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def test_repro_goes_on_after_a_lock_file_was_left_half_written(project: Project) -> None:
    lock = project.root / "dvc.lock"
    whole = lock.read_bytes()
    _cut(lock, whole.index(b"path:", whole.index(b"train_align:")) + 2)
    assert project.dvc("repro", check=False).returncode != 0

    said = project.run("dentalign", "mend").stdout
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


def test_whole_files_stay(project: Project) -> None:
    rwlock = project.root / ".dvc" / "tmp" / "rwlock"
    rwlock.write_text(json.dumps({"read": {}, "write": {}}), encoding="utf-8")
    before = project.hashes("dvc.lock", ".dvc/tmp/rwlock")
    assert repair.remove_half_written(project.root) == []
    assert project.hashes("dvc.lock", ".dvc/tmp/rwlock") == before


def test_nothing_is_deleted_under_a_dvc_at_work(project: Project) -> None:
    lock = project.root / "dvc.lock"
    _cut(lock, 9)
    tmp = project.root / ".dvc" / "tmp"
    with make_lock(str(tmp / "lock"), tmp_dir=str(tmp)), pytest.raises(DentalignError, match="at work"):
        repair.remove_half_written(project.root)
    assert lock.exists()


def test_a_folder_without_dvc_is_named(tmp_path: Path) -> None:
    with pytest.raises(DentalignError, match="no DVC repository"):
        repair.remove_half_written(tmp_path)
