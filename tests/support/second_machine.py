"""Project shared through git and a DVC remote, and clones of it that stand for other machines."""

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.dvc_remotes import Remote
from tests.support.pipeline_project import Project

NEEDED = ("data/latents.h5", "models/encoder.pt", "models/decoder.pt")

# Replaces `python` on PATH: stages with one of these scripts are refused.
REFUSING = """#!/bin/sh
for word in "$@"; do
    case "$word" in {scripts}) echo "$word may not run here" >&2; exit 99;; esac
done
exec {python} "$@"
"""


@dataclass
class Shared:
    """Project at home, the bare git repository that it is pushed to, and the remote of its data."""

    home: Project
    git: Path
    remote: Remote

    def clone(self, folder: Path) -> Project:
        """Clone it as another machine does: no data, no cache, no cases."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "clone", "-q", str(self.git), str(folder)], check=True)
        project = on_a_machine_of_its_own(Project(folder), self.remote)
        use_locally(project, self.remote)
        return project

    def publish(self, *targets: str) -> None:
        """Hide the demo, name the remote, push the targets (default: all) there and the commit to git."""
        hide_the_demo(self.home)
        use_remote(self.home, self.remote)
        self.home.commit()
        self.home.dvc("push", *targets)
        self.home.run("git", "push", "-q", "origin", "HEAD")


def at_home(finished: Project, folder: Path, remote: Remote) -> Shared:
    """Make the project at home, not yet published."""
    home = on_a_machine_of_its_own(finished.copy(folder / "home" / "teeth"), remote)
    keep_cases_out_of_git(home)
    return Shared(home, bare_repository(home, folder / "teeth.git"), remote)


def on_a_machine_of_its_own(project: Project, remote: Remote) -> Project:
    """Give the project a home directory of its own and the environment for access to the remote."""
    home = project.root.parent / f"{project.root.name}.home"
    home.mkdir(exist_ok=True)
    (home / ".gitconfig").write_text("[user]\n\tname = Test\n\temail = test@example.org\n", encoding="utf-8")
    project.environment |= {"HOME": str(home), "GIT_CONFIG_GLOBAL": str(home / ".gitconfig")}
    project.environment |= remote.environment
    return project


def keep_cases_out_of_git(project: Project) -> None:
    """Start git's history again, without the cases, which do not belong in git."""
    shutil.rmtree(project.root / ".git")
    with open(project.root / ".gitignore", "a", encoding="utf-8") as file:
        file.write("/cases/\n")
    project.run("git", "init", "-q", "--initial-branch=main")
    project.commit()


def hide_the_demo(project: Project) -> None:
    """Hide the demo clinic from DVC, as docs/machines.md does for own cases."""
    with open(project.root / ".dvcignore", "a", encoding="utf-8") as file:
        file.write("/data/dvc.yaml\n")
    project.commit()


def bare_repository(project: Project, folder: Path) -> Path:
    """Make a bare repository that is the project's origin."""
    project.run("git", "init", "-q", "--bare", "--initial-branch=main", str(folder))
    project.run("git", "remote", "add", "origin", str(folder))
    return folder


def use_remote(project: Project, remote: Remote) -> None:
    """Make the remote the project's default."""
    project.dvc("remote", "add", "--default", "storage", remote.url)
    use_locally(project, remote)


def use_locally(project: Project, remote: Remote) -> None:
    """Write the options of the remote into .dvc/config.local."""
    for name, value in remote.options.items():
        project.dvc("remote", "modify", "--local", "storage", name, value)


def objects(folder: Path) -> dict[str, int]:
    """Return the bytes of each object in a DVC cache or remote folder, by MD5 ("MD5.dir" for a listing)."""
    files = (folder / "files" / "md5").rglob("*")
    return {f"{path.parent.name}{path.name}": path.stat().st_size for path in files if path.is_file()}


def cached(project: Project) -> dict[str, int]:
    """Return the objects of the project's own cache."""
    return objects(project.root / ".dvc" / "cache")


def forbid(project: Project, *scripts: str) -> None:
    """Make stages with one of these scripts fail from now on; names may have wildcards."""
    folder = project.root.parent / f"{project.root.name}.refusing"
    folder.mkdir(exist_ok=True)
    names = "|".join(f"stages/{name}.py" for name in scripts)
    (folder / "python").write_text(
        REFUSING.format(scripts=names, python=shlex.quote(sys.executable)), "utf-8"
    )
    (folder / "python").chmod(0o755)
    project.environment["PATH"] = f"{folder}{os.pathsep}{project.environment['PATH']}"
