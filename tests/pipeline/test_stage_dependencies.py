"""Deps of the stages in dvc.yaml: the code that a stage imports, and no other; so `dvc repro` is exact."""

import ast
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from dentalign import params
from dentalign.errors import ParamError
from dentalign.running.stage_code import NO_DEPENDENCY, code_digest, reached
from tests.support.repository import ROOT
from tools.shards import set_shards

PIPELINES = {Path("dvc.yaml"), Path("data/dvc.yaml")}
# Stages that cost hours list single files, so that an edit beside them repeats nothing.
BY_FILE = {"train_autoencoder", "encode_latents_sharded"}


def _stages() -> dict[str, dict[str, Any]]:
    found = {}
    for file in PIPELINES:
        for name, stage in yaml.safe_load((ROOT / file).read_text())["stages"].items():
            found[name] = stage.get("do", stage)
    return found


STAGES = _stages()


def _code(name: str) -> list[str]:
    """List the deps of a stage that are our code: files and folders."""
    return [dep for dep in STAGES[name]["deps"] if dep.startswith(("dentalign", "stages"))]


def _is_dep(file: str, name: str) -> bool:
    """True if the file, or a folder that contains it, is a dep of the stage."""
    return bool({file, *(parent.as_posix() for parent in Path(file).parents)} & set(_code(name)))


@pytest.mark.parametrize("name", sorted(STAGES))
def test_every_file_that_a_stage_imports_is_a_dep_of_it_or_lies_in_one(name: str) -> None:
    assert not [file for file in reached(ROOT / "stages" / f"{name}.py") if not _is_dep(file, name)]


@pytest.mark.parametrize("name", sorted(STAGES))
def test_every_dep_of_a_stage_on_code_is_imported_by_it(name: str) -> None:
    files = reached(ROOT / "stages" / f"{name}.py")
    assert not [dep for dep in _code(name) if not any(f"{file}/".startswith(f"{dep}/") for file in files)]


@pytest.mark.parametrize("name", sorted(BY_FILE))
def test_a_stage_of_hours_lists_no_folder_of_models_data_or_geometry(name: str) -> None:
    folders = {dep for dep in _code(name) if (ROOT / dep).is_dir()}
    assert folders <= {"dentalign/training"}


FROM_THE_MANIFESTS_ON = {"rigid_transforms", "sample_clouds", "autoencoder_cases", "concat_hdf5"}


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("running/locks.py", set()),
        ("prediction/predictor.py", set()),
        ("settings.py", set()),
        ("cli.py", set()),
        ("validation/metrics.py", {"validate"}),
        ("reports/scene.py", {"concat_hdf5", "validate"}),
        ("alignment/registry.py", {"train_align", "validate"}),
        ("geometry/contacts.py", FROM_THE_MANIFESTS_ON | {"train_align", "validate"}),
        ("autoencoder/encoding.py", {"encode_latents_sharded", "train_align", "validate"}),
    ],
)
def test_an_edit_makes_these_stages_stale_and_no_others(file: str, stages: set[str]) -> None:
    assert (ROOT / "dentalign" / file).exists()
    assert {name for name in STAGES if name != "demo_clinic" and _is_dep(f"dentalign/{file}", name)} == stages


def test_what_is_no_dep_is_there_and_has_a_reason() -> None:
    assert all((ROOT / path).exists() and reason for path, reason in NO_DEPENDENCY.items())


def test_packages_hold_nothing_but_a_docstring_in_their_init() -> None:
    for file in (ROOT / "dentalign").rglob("__init__.py"):
        if file.parent != ROOT / "dentalign":
            body = ast.parse(file.read_text(encoding="utf-8")).body
            assert [type(node) for node in body] == [ast.Expr], file


def test_the_digest_of_a_stage_s_code_changes_with_what_it_imports_and_nothing_else(tmp_path: Path) -> None:
    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    script = tmp_path / "stages" / "one.py"
    write("stages/one.py", "from dentalign.a import f\nfrom dentalign.running import progress\n")
    write("dentalign/__init__.py", "")
    write("dentalign/a.py", "def f():\n    from dentalign.part import b\n")
    write("dentalign/running/progress.py", "from dentalign.running import bar\n")
    write("dentalign/running/bar.py", "")
    for name in ("b", "c"):
        write(f"dentalign/part/{name}.py", "")
    assert reached(script, tmp_path) == ["dentalign/a.py", "dentalign/part/b.py", "stages/one.py"]
    before = code_digest(script, tmp_path)
    write("dentalign/part/c.py", "other = 1\n")
    write("dentalign/running/bar.py", "other = 1\n")
    assert code_digest(script, tmp_path) == before
    for name in ("dentalign/a.py", "dentalign/part/b.py", "stages/one.py"):
        write(name, (tmp_path / name).read_text(encoding="utf-8") + "# changed\n")
        assert code_digest(script, tmp_path) != before
        before = code_digest(script, tmp_path)


@pytest.mark.parametrize("name", sorted(STAGES))
def test_a_stage_s_script_is_named_after_it(name: str) -> None:
    assert f"python stages/{name}.py" in STAGES[name]["cmd"]


def test_every_script_is_a_stage() -> None:
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} == set(STAGES)


def test_concat_and_the_autoencoder_depend_on_every_shard_by_name() -> None:
    shards = params.load_shards(ROOT / "params.yaml")
    for stage, folder in (("concat_hdf5", "latents"), ("autoencoder_cases", "clouds")):
        wanted = [f"data/{folder}/${{shards[{i}]}}.h5" for i in range(len(shards))]
        assert [dep for dep in STAGES[stage]["deps"] if dep.startswith(f"data/{folder}/")] == wanted
        assert f"--shards {len(shards)}" in STAGES[stage]["cmd"]


def test_the_number_of_shards_is_changed_in_one_place(tmp_path: Path) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    set_shards(tmp_path, 16)
    pipeline = (tmp_path / "dvc.yaml").read_text(encoding="utf-8")
    assert params.load_shards(tmp_path / "params.yaml", 16)[-1] == "shard-015"
    assert pipeline.count("${shards[15]}") == 2
    assert pipeline.count("--shards 16") == 2
    with pytest.raises(ParamError, match=r"shards lists 16 shards, dvc\.yaml lists 8; `make shards N=16`"):
        params.load_shards(tmp_path / "params.yaml", 8)
    set_shards(tmp_path, len(params.load_shards(ROOT / "params.yaml")))
    for name in ("params.yaml", "dvc.yaml"):
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes()


def test_typer_and_h5py_are_imported_where_they_belong_only() -> None:
    for file in sorted((ROOT / "dentalign").rglob("*.py")):
        text = file.read_text()
        if re.search(r"^(import|from) typer", text, re.M):
            assert file.name in {"cli.py", "command.py"}
        if re.search(r"^(import|from) h5py", text, re.M):
            assert file.name == "mouth_store.py"
