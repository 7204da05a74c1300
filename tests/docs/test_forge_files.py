"""Files for a forge: workflow and issue forms fit their schemas and name existing targets."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.repository import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yaml"))
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
SCHEMAS = {
    **dict.fromkeys(WORKFLOWS, "vendor.github-workflows"),
    **dict.fromkeys(FORMS, "vendor.github-issue-forms"),
    GITHUB / "ISSUE_TEMPLATE" / "config.yml": "vendor.github-issue-config",
}
CHECKER = Path(sys.executable).parent / "check-jsonschema"


def _read(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return read


def _steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in _read(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.skipif(not CHECKER.exists(), reason="no check-jsonschema here: make docs installs it")
@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_a_file_fits_its_schema(path: Path) -> None:
    words = [str(CHECKER), "--builtin-schema", SCHEMAS[path], str(path)]
    done = subprocess.run(words, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not shutil.which("actionlint"), reason="no actionlint here")
def test_the_workflows_pass_actionlint() -> None:
    done = subprocess.run(["actionlint", *WORKFLOWS], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_makes_what_the_makefile_knows(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    made = [word for step in _steps(path) for word in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))]
    assert made
    assert set(made) <= targets


def test_what_a_change_must_pass_is_the_same_on_github_and_elsewhere() -> None:
    elsewhere = re.findall(
        r"^make (check|test|docs)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.M
    )
    on_github = [step.get("run", "").removesuffix(" PYTHON=python") for step in _steps(WORKFLOWS[0])]
    assert elsewhere == ["check", "test", "docs"]
    assert {f"make {target}" for target in elsewhere} <= set(on_github)


def test_the_versions_of_python_that_are_tested_are_those_that_are_promised() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert _read(WORKFLOWS[0])["jobs"]["test"]["strategy"]["matrix"]["python"] == promised
    assert project["requires-python"] == f">={promised[0]}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_text_that_others_write_never_stands_in_a_workflow_s_commands(path: Path) -> None:
    assert [step["run"] for step in _steps(path) if "${{" in step.get("run", "")] == []


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_that_asks_for_output_asks_that_no_patient_s_data_is_in_it(path: Path) -> None:
    fields = _read(path)["body"]
    ids = [field["id"] for field in fields if "id" in field]
    assert len(set(ids)) == len(ids)
    if any(field.get("attributes", {}).get("render") for field in fields):
        asked = next(field for field in fields if field.get("id") == "personal")
        assert asked["attributes"]["options"][0]["required"]
