"""What a stage lists as its dependencies is what it reaches: `dvc repro` is exact."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from module_reach import ROOT, modules_of, per_shard, reached

from dentalign.reached_modules import checksums

PIPELINES = {Path("dvc.yaml"), Path("data/dvc.yaml")}
PIPELINE = (ROOT / "dvc.yaml").read_text(encoding="utf-8")


def _stages() -> dict[str, dict[str, Any]]:
    found = {}
    for file in PIPELINES:
        for name, stage in yaml.safe_load((ROOT / file).read_text())["stages"].items():
            found[name] = stage.get("do", stage)
    return found


STAGES = _stages()


@pytest.mark.parametrize("name", sorted(STAGES))
def test_a_stage_lists_exactly_the_modules_it_reaches(name: str) -> None:
    script = f"stages/{name}.py"
    listed = {dep for dep in STAGES[name]["deps"] if dep.endswith(".py")}
    if script in per_shard(PIPELINE):
        assert f"data/code/{name}.txt" in STAGES[name]["deps"]
        assert listed == {script}
        listed = {dep for dep in STAGES["shard_code"]["deps"] if dep.endswith(".py")}
        assert listed >= reached(ROOT / script)
    elif name == "shard_code":
        assert listed == set(modules_of(script, PIPELINE))
    else:
        assert listed == reached(ROOT / script)


def test_the_stages_of_a_shard_are_those_whose_code_is_listed_apart() -> None:
    foreach = {name for name, stage in yaml.safe_load(PIPELINE)["stages"].items() if "foreach" in stage}
    assert {Path(script).stem for script in per_shard(PIPELINE)} == foreach
    made = {f"data/code/{name}.txt" for name in foreach}
    assert set(STAGES["shard_code"]["outs"]) == made


def test_the_list_of_a_stage_s_code_changes_with_what_it_reaches_and_nothing_else(tmp_path: Path) -> None:
    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    def listed() -> str:
        return checksums(tmp_path / "stages" / "one.py", tmp_path)

    write("stages/one.py", "from dentalign.a import f\n")
    write("dentalign/__init__.py", "")
    write("dentalign/a.py", "def f():\n    from dentalign.part import b\n")
    write("dentalign/part/__init__.py", "")
    write("dentalign/part/b.py", "")
    write("dentalign/part/c.py", "")
    before = listed()
    assert [line.split("  ")[1] for line in before.splitlines()] == [
        "dentalign/__init__.py",
        "dentalign/a.py",
        "dentalign/part/__init__.py",
        "dentalign/part/b.py",
        "stages/one.py",
    ]
    write("dentalign/part/c.py", "other = 1\n")
    assert listed() == before
    for name in ("dentalign/part/__init__.py", "dentalign/part/b.py", "stages/one.py"):
        write(name, (tmp_path / name).read_text(encoding="utf-8") + "# changed\n")
        assert listed() != before
        before = listed()


@pytest.mark.parametrize("pipeline", sorted(map(str, PIPELINES)))
def test_the_lock_that_is_committed_is_of_this_code(pipeline: str) -> None:
    """Where it is not, `make demo` and commit what it changes."""
    folder = (ROOT / pipeline).parent
    locked = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    wdir = {name: folder / stage.get("wdir", ".") for name, stage in STAGES.items()}
    stale = set()
    for name, stage in locked.items():
        for dep in stage["deps"]:
            file = wdir[name.split("@")[0]] / dep["path"]
            if file.suffix == ".py" and hashlib.md5(file.read_bytes()).hexdigest() != dep["md5"]:
                stale.add(f"{name}: {dep['path']}")
        for out in stage["outs"]:
            if out["path"].startswith("data/code/"):
                script = ROOT / "stages" / f"{Path(out['path']).stem}.py"
                if hashlib.md5(checksums(script, ROOT).encode()).hexdigest() != out["md5"]:
                    stale.add(f"{name}: {out['path']}")
    assert not stale


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
