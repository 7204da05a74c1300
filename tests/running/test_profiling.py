"""`--profile`: where the time went, and a trace; the outputs are the same bytes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.pipeline_project import SHARDS, Project
from tests.support.repository import ROOT

SHARD = SHARDS[0]
STAGES = {
    "sample_clouds": (f"data/transforms/{SHARD}.json", f"data/clouds/{SHARD}.h5"),
    "encode_latents_sharded": (f"data/clouds/{SHARD}.h5", f"data/latents/{SHARD}.h5"),
    "train_autoencoder": (),
    "train_align": (),
    "validate": (),
}
OUTPUTS = (
    f"data/clouds/{SHARD}.h5",
    f"data/latents/{SHARD}.h5",
    "models",
    "metrics",
    "reports/train_align",
    "reports/validation",
)
# of each stage: a function of ours, and something that the trace holds
WHERE = {
    "sample_clouds": ("dataset/clouds.py", "order"),
    "encode_latents_sharded": ("autoencoder/encoding.py", "network"),
    "train_autoencoder": ("training/loop.py", "backward"),
    "train_align": ("training/align_training.py", "backward"),
    "validate": ("validation/measurement.py", "aten::addmm"),
}


def traces(project: Project) -> dict[str, Any]:
    """Stage -> its trace."""
    files = sorted((project.root / ".dentalign" / "profiles").iterdir())
    return {file.name.split("-")[0]: json.loads(file.read_text()) for file in files}


@pytest.mark.parametrize(
    "stage",
    [stage if stage == "sample_clouds" else pytest.param(stage, marks=pytest.mark.long) for stage in STAGES],
)
def test_a_stage_says_where_its_time_went_and_writes_the_same_bytes(project: Project, stage: str) -> None:
    project.set("sample.workers", 2)  # of which a profile would see nothing
    before = project.hashes(*OUTPUTS)
    said = project.run(sys.executable, f"stages/{stage}.py", *STAGES[stage], "--profile").stdout
    assert project.hashes(*OUTPUTS) == before
    function, event = WHERE[stage]
    assert function in said, said
    assert event in said, said
    assert event in {one.get("name") for one in traces(project)[stage]["traceEvents"]}


def test_the_variable_reaches_a_stage_through_dvc(project: Project) -> None:
    before = project.hashes("models", "reports/train_align")
    process = project.start(
        sys.executable, "-m", "dvc", "repro", "-f", "-s", "train_align", DENTALIGN_PROFILE="1"
    )
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert "functions of dentalign, with all that they call" in said
    assert "train_align" in traces(project)  # though the checkpoint on disk is that of a finished training
    assert project.hashes("models", "reports/train_align") == before


@pytest.mark.parametrize("given", ["", "0"])
def test_what_is_not_profiled_pays_nothing(given: str, tmp_path: Path) -> None:
    code = "import sys; from dentalign.running import command\n" + (
        "def main():\n"
        "    from dentalign.running import profiling\n"
        "    with profiling.span('x'):\n"
        "        profiling.step()\n"
        "    print([m for m in ('cProfile', 'torch') if m in sys.modules])\n"
        "command.run(main)"
    )
    environment = {"PATH": "", "PYTHONPATH": str(ROOT), "DENTALIGN_PROFILE": given}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert not list(tmp_path.iterdir())


def test_a_failure_is_measured_too_and_ends_as_ever(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("source: {cases: 5}\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "stages" / "validate.py"), "--profile"],
        cwd=tmp_path, capture_output=True, text=True, env={"PATH": "", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "params.py" in done.stderr
    assert "no trace: 0 steps were done" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: params.yaml: section 'validate' is missing")
