"""Small copies of this repository for tests that run real DVC, with made-up cases as the user's own."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from dentalign.cases import case_list
from dentalign.demo_clinic import case_files, clinic
from dentalign.demo_clinic.clinic import Case
from dentalign.geometry import stl
from tests.support.repository import ROOT
from tools.shards import set_shards

SPLIT_SIZES = {"train": 14, "val": 3, "test": 3}
FDIS = (11, 12, 21, 22, 31, 32, 41, 42)
SHARDS = ("shard-000", "shard-001", "shard-002")  # fewer than ours: each starts Python twice
SMALL: dict[str, dict[str, Any]] = {
    "source": {"cases": "cases/cases.csv", "json": "cases/json", "meshes": "cases/stl"},
    "sample": {"points": 32, "oversampling": 2, "workers": 1},
    "autoencoder": {"cases": "cases/autoencoder.csv", "epochs": 1, "threads": 1, "device": "cpu"},
    "encoder": {"threads": 1, "device": "cpu"},
    "train": {
        "epochs": 3,
        "threads": 1,
        "device": "cpu",
        "fc": {
            "hidden": 32,
            "blocks": 1,
            "components": 8,
            "learning_rate": 0.001,
            "augmentation": {"copies": 2, "rotation_deg": 6.0, "translation_mm": 3.0, "seed": 0},
        },
    },
    "validate": {"threads": 1, "device": "cpu"},
}
COPIED = (
    "dvc.yaml",
    "params.yaml",
    ".dvcignore",
    ".gitignore",
    "data/dvc.yaml",
    ".dvc/config",
    ".dvc/.gitignore",
)


class Project:
    """Git and DVC repository in a folder of its own."""

    def __init__(self, root: Path):
        self.root = root
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))
        } | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(root),  # the copy's own modules
            "PYTHONDONTWRITEBYTECODE": "",
            "DVC_SITE_CACHE_DIR": str(root.parent / f"{root.name}.site"),
            "DVC_NO_ANALYTICS": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
        }

    def copy(self, root: Path) -> "Project":
        """Copy the project into another folder, DVC's cache included."""
        shutil.copytree(self.root, root, symlinks=True)
        return Project(root)

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the project; `stdout` of the result is all that it printed."""
        done = subprocess.run(
            words, cwd=self.root, env=self.environment, text=True, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert not check or done.returncode == 0, (
            f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}"
        )
        return done

    def dvc(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run DVC."""
        return self.run(sys.executable, "-m", "dvc", *words, check=check)

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command as a process group of its own; all that it prints goes to its `stdout`."""
        return subprocess.Popen(
            words, cwd=self.root, env=self.environment | environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def repro(self, *words: str) -> list[str]:
        """Run `dvc repro`; returns the stages that ran, as `ran` does."""
        return ran(self.dvc("repro", *words).stdout)

    def commit(self) -> None:
        """Commit everything that git does not ignore."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "state")

    def set(self, name: str, value: Any) -> None:
        """Change a value of params.yaml, named such as "train.epochs"."""
        file = self.root / "params.yaml"
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        *sections, last = name.split(".")
        section = document
        for part in sections:
            section = section[part]
        section[last] = value
        file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def hashes(self, *names: str) -> dict[str, str]:
        """Return the SHA-256 of files, and of all files in folders."""
        found = {}
        for name in names:
            path = self.root / name
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    digest = hashlib.sha256(file.read_bytes()).hexdigest()
                    found[file.relative_to(self.root).as_posix()] = digest
        return found


def ran(output: str) -> list[str]:
    """List the stages that DVC says it ran, sorted; `encode_latents_sharded@shard-003` for one shard."""
    return sorted(re.findall(r"^Running stage '(?:[^':]*:)?([^']+)'", output, re.M))


def make(root: Path) -> Project:
    """Make a project with cases, before its first run."""
    root.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    for folder in ("stages", "dentalign"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    project = Project(root)
    set_shards(root, len(SHARDS))
    for section, values in SMALL.items():
        for name, value in values.items():
            project.set(f"{section}.{name}", value)
    cases = list(_cases())
    for case in cases:
        write_case(project, case)
    listed = [case_list.ListedCase(case.case_id, case.case_id) for case in cases]
    case_list.write(root / "cases" / "cases.csv", listed)
    case_list.write(root / "cases" / "autoencoder.csv", case_list.for_autoencoder(listed, 4))
    project.run("git", "init", "-q")
    for name, value in (("user.name", "Test"), ("user.email", "test@example.org"), ("gc.auto", "0")):
        project.run("git", "config", name, value)
    project.commit()
    return project


def _cases() -> Iterator[Case]:
    """Yield as many cases of each split as SPLIT_SIZES says."""
    left = dict(SPLIT_SIZES)
    for number in count(1):
        if not any(left.values()):
            return
        case_id = f"own-{number:03d}"
        split = case_list.split_of(case_id)
        if left[split]:
            left[split] -= 1
            yield case_of(number, case_id)


def case_of(number: int, case_id: str) -> Case:
    """Make the demo clinic's case of a number under another id, with the teeth FDIS, T1 and T2 only."""
    case = clinic.make_case(number, seed=3, complete=True)
    document = case.document | {"CaseID": case_id, "T2Stage": "1"}
    document["Staging"] = [document["Staging"][0], document["Staging"][-1] | {"Stage": 1}]
    for stage in document["Staging"]:
        for spelling in case_files.SPELLINGS:
            if spelling in stage:
                stage[spelling] = {fdi: pose for fdi, pose in stage[spelling].items() if int(fdi) in FDIS}
    return Case(case_id, case_id, case.patient, case.t1, case.t2, document)


def write_case(project: Project, case: Case) -> None:
    """Write a case's JSON and meshes (every third triangle) into the user's store."""
    json_dir, meshes = project.root / "cases" / "json", project.root / "cases" / "stl" / case.case_id
    json_dir.mkdir(parents=True, exist_ok=True)
    meshes.mkdir(parents=True, exist_ok=True)
    case_files.write_json(json_dir / f"{case.case_id}.json", case.document)
    for fdi in FDIS:
        crown = case.patient.mouth[fdi]
        stl.write_binary(meshes / f"{fdi}.stl", crown.vertices, crown.faces[::3])
