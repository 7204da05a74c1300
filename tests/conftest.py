"""Fixtures that several test files use."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.support import quick_profile  # noqa: F401  how hypothesis runs in the suite
from tests.support.http_server import Server, servers
from tests.support.pipeline_project import Project, make

REALTEETH = Path(__file__).resolve().parents[2] / "shared" / "realteeth" / "make_cases.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip long tests outside `make test-all`; run the files first that use the pipeline.

    They take longest: run last, one of them would keep a single core busy.
    """
    pipeline = {item.path for item in items if "finished_project" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in pipeline)
    if not os.environ.get("DENTALIGN_LONG_TESTS"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes minutes: make test-all runs it"))


@pytest.fixture(scope="session")
def realteeth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Case store of 12 cases from real crown shapes and 18 with defects: json/, stl/, defects.json."""
    if not REALTEETH.is_file():
        pytest.skip(f"{REALTEETH} is not here")
    out = tmp_path_factory.mktemp("realteeth")
    subprocess.run(
        [sys.executable, str(REALTEETH), "--cases", "12", "--seed", "11", "--defects", "--out", str(out)],
        check=True,
        capture_output=True,
    )
    return out


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Small project after one `dvc repro`, committed; shared by tests, which must not change it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return _made_finished(tmp_path_factory.mktemp("pipeline"))
    folder = tmp_path_factory.getbasetemp().parent / "pipeline"  # of all processes of this run
    with FileLock(f"{folder}.lock"):
        if not (folder / "made").is_file():
            _made_finished(folder)
            (folder / "made").touch()
    return Project(folder / "finished")


def _made_finished(folder: Path) -> Project:
    project = make(folder / "finished")
    project.dvc("repro")
    project.commit()
    return project


@pytest.fixture
def project(finished_project: Project, tmp_path: Path) -> Project:
    """Copy of the finished project, which the test may change."""
    return finished_project.copy(tmp_path / "project")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the state folder `.dentalign` to one of this test."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("DENTALIGN_TOKEN", raising=False)
    return tmp_path / ".dentalign"


def _pose(x: Any = 0, y: Any = 0, z: Any = 0, q: tuple[Any, ...] = (0, 0, 0, 1)) -> dict[str, Any]:
    return {"translation": {"x": x, "y": y, "z": z}, "rotation": dict(zip("xyzw", q, strict=True))}


@pytest.fixture
def pose() -> Callable[..., dict[str, Any]]:
    """Build poses as the planning system writes it: pose(x, y, z, q=(x, y, z, w))."""
    return _pose


@pytest.fixture
def document() -> Callable[..., dict[str, Any]]:
    """Build small valid cases: document(case_id, teeth=(...), **top-level fields)."""

    def build(
        case_id: str = "c1", teeth: tuple[int, ...] = (11, 12, 21, 36), **fields: Any
    ) -> dict[str, Any]:
        stages = [
            {"Stage": index, "ToothTransforms": {str(fdi): _pose(fdi, index) for fdi in teeth}}
            for index in range(3)
        ]
        return {"CaseID": case_id, "T2Stage": "2", "Staging": stages, **fields}

    return build


@pytest.fixture
def serve() -> Iterator[Callable[[], Server]]:
    """Start HTTP servers on loopback, one a call."""
    with servers() as start:
        yield start
