"""docs/removing-a-case.md: after its commands nothing names the case any more."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dentalign.cases import case_list
from tests.support.dvc_remotes import Remote
from tests.support.pipeline_project import Project
from tests.support.repository import ROOT
from tests.support.second_machine import Shared, at_home

PAGE = ROOT / "docs" / "removing-a-case.md"


def follow(number: int, project: Project) -> None:
    """Run the commands of one of the page's numbered steps."""
    steps = re.split(r"^\*\*(?=\d\.)", PAGE.read_text(encoding="utf-8"), flags=re.M)
    (step,) = (part for part in steps if part.startswith(f"{number}."))
    commands = [line.strip() for line in step.splitlines() if line.startswith("    ")]
    assert commands
    for command in commands:
        project.run("sh", "-c", re.sub(r"(^|\()dvc ", rf"\1{sys.executable} -m dvc ", command))


def traces(folder: Path, word: str, *repositories: Path) -> list[str]:
    """Files below a folder that hold the word in their path or content, and git repositories that do."""
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if word in path.name or any(word.encode(code) in content for code in ("utf-8", "utf-16-le")):
            found.append(path.relative_to(folder).as_posix())
    for git in repositories:
        words = ("git", "--git-dir", str(git), "cat-file", "--batch-all-objects", "--batch")
        if word.encode() in subprocess.run(words, check=True, capture_output=True).stdout:
            found.append(git.relative_to(folder).as_posix())
    return found


def a_test_case(project: Project) -> str:
    """One that the reports name, too, and that the autoencoder's list does not."""
    listed = [case.case_id for case in case_list.read(project.root / "cases/cases.csv")[0]]
    return next(name for name in listed if case_list.split_of(name) == "test")


def take_out_of_the_source(project: Project, case_id: str) -> None:
    file = project.root / "cases/cases.csv"
    file.write_text(file.read_text(encoding="utf-8").replace(f"{case_id}\n", ""), encoding="utf-8")
    (project.root / "cases/json" / f"{case_id}.json").unlink()
    shutil.rmtree(project.root / "cases/stl" / case_id)


@pytest.mark.long
def test_after_the_steps_no_file_names_the_case_at_home_in_the_remote_and_on_the_box(
    finished_project: Project, tmp_path: Path
) -> None:
    shared: Shared = at_home(finished_project, tmp_path, Remote(str(tmp_path / "storage")))
    home = shared.home
    home.set("train.epochs", 1)
    shared.publish()
    home.dvc("push", "--run-cache")
    home.dvc("exp", "save", "--name", "before")
    home.dvc("exp", "push", "origin", "before")
    box = shared.clone(tmp_path / "box" / "teeth")
    box.dvc("pull", "data/latents.h5", "models/encoder.pt", "models/decoder.pt", "reports/validation")
    box.dvc("exp", "pull", "origin", "before")
    case_id, repositories = a_test_case(home), (shared.git, home.root / ".git")
    before = traces(tmp_path, case_id, *repositories)
    at_home_and_there = ("storage/files", "home/teeth/.dvc/cache", "home/teeth/.dentalign", "home/teeth.site")
    in_use = ("home/teeth/data", "home/teeth/reports", "box/teeth/.dvc/cache", "box/teeth/data")
    for place in (*at_home_and_there, *in_use):
        assert any(name.startswith(place) for name in before), place
    take_out_of_the_source(home, case_id)
    follow(2, home)
    follow(3, box)
    assert traces(tmp_path, case_id, *repositories) == []
    assert home.repro() == []
    assert not box.root.exists()
    box = shared.clone(box.root)
    box.dvc("pull", "data/latents.h5", "models/encoder.pt", "models/decoder.pt", "reports/validation")
    assert traces(tmp_path, case_id, *repositories, box.root / ".git") == []
    assert box.hashes("data/latents.h5") == home.hashes("data/latents.h5")
    another = a_test_case(home)
    assert traces(tmp_path, another, *repositories)  # the others are where they were
