"""What a stage lists as its dependencies is what it reaches: `dvc repro` is exact."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from module_reach import ROOT, reached

PIPELINES = {Path("dvc.yaml"), Path("data/dvc.yaml")}


def _stages() -> dict[str, dict[str, Any]]:
    found = {}
    for file in PIPELINES:
        for name, stage in yaml.safe_load((ROOT / file).read_text())["stages"].items():
            found[name] = stage.get("do", stage)
    return found


STAGES = _stages()


@pytest.mark.parametrize("name", sorted(STAGES))
def test_a_stage_lists_exactly_the_modules_it_reaches(name: str) -> None:
    script = re.findall(r"stages/\w+\.py", STAGES[name]["cmd"])[0]
    listed = {dep for dep in STAGES[name]["deps"] if dep.endswith(".py")}
    assert listed == reached(ROOT / script)


@pytest.mark.parametrize("name", sorted(STAGES))
def test_a_stage_s_script_is_named_after_it(name: str) -> None:
    assert f"python stages/{name}.py" in STAGES[name]["cmd"]


def test_every_script_is_a_stage() -> None:
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} == set(STAGES)


def test_concat_and_the_autoencoder_ask_for_every_shard_by_name() -> None:
    shards = yaml.safe_load((ROOT / "params.yaml").read_text())["shards"]
    for stage, folder in (("concat_hdf5", "latents"), ("autoencoder_cases", "clouds")):
        wanted = [f"data/{folder}/${{shards[{i}]}}.h5" for i in range(len(shards))]
        assert [dep for dep in STAGES[stage]["deps"] if dep in wanted] == wanted
        assert [word for word in STAGES[stage]["cmd"].split() if word in wanted] == wanted


def test_no_module_of_the_library_imports_in_a_circle() -> None:
    graph = {}
    for file in sorted((ROOT / "dentalign").rglob("*.py")):
        own = file.relative_to(ROOT).as_posix()
        graph[own] = {path for path in reached(file) if path != own and not path.endswith("__init__.py")}
    circles = {(a, b) for a in graph for b in graph[a] if a in graph.get(b, ())}
    assert not circles


def test_only_the_library_s_own_places_import_torch_and_typer() -> None:
    for file in sorted((ROOT / "dentalign").rglob("*.py")):
        text = file.read_text()
        if re.search(r"^(import|from) typer", text, re.M):
            assert file.name in {"cli.py", "command.py"}
        if re.search(r"^(import|from) h5py", text, re.M):
            assert file.name == "case_store.py"
