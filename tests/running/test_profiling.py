"""`--profile`: a table of operators and a Chrome trace; the outputs are the same bytes."""

import json
import shutil
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
# Events of each stage's trace: a function of ours (file and name), or an operator of torch.
EVENTS = {
    "sample_clouds": "geometry/sampling.py",
    "encode_latents_sharded": "aten::addmm",
    "train_autoencoder": "AddmmBackward0",
    "train_align": "AddmmBackward0",
    "validate": "aten::addmm",
}


def traces(project: Project) -> dict[str, Any]:
    """Read the traces, by stage."""
    files = sorted((project.root / ".dentalign" / "profiles").iterdir())
    return {file.name.split("-")[0]: json.loads(file.read_text()) for file in files}


@pytest.mark.parametrize(
    "stage",
    [stage if stage == "sample_clouds" else pytest.param(stage, marks=pytest.mark.long) for stage in STAGES],
)
def test_a_profiled_stage_has_a_table_and_a_trace_and_writes_the_same_bytes(
    project: Project, stage: str
) -> None:
    project.set("sample.workers", 2)  # worker processes, whose work the profiler would not record
    shutil.rmtree(project.root / ".dentalign" / "checkpoints")  # of trainings that are done
    before = project.hashes(*OUTPUTS)
    said = project.run(sys.executable, f"stages/{stage}.py", *STAGES[stage], "--profile").stdout
    assert project.hashes(*OUTPUTS) == before
    assert "Self CPU time total" in said, said
    assert any(EVENTS[stage] in one.get("name", "") for one in traces(project)[stage]["traceEvents"])


def test_the_variable_reaches_a_stage_through_dvc(project: Project) -> None:
    shutil.rmtree(project.root / ".dentalign" / "checkpoints")
    before = project.hashes("models", "reports/train_align")
    process = project.start(
        sys.executable, "-m", "dvc", "repro", "-f", "-s", "train_align", DENTALIGN_PROFILE="1"
    )
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert "Self CPU time total" in said
    assert "train_align" in traces(project)
    assert project.hashes("models", "reports/train_align") == before


@pytest.mark.parametrize("given", ["", "0"])
def test_without_the_profiler_torch_is_not_imported(given: str, tmp_path: Path) -> None:
    code = "import sys; from dentalign.running import command\n" + (
        "def main():\n"
        "    from dentalign.running import profiling\n"
        "    profiling.step()\n"
        "    print('torch' in sys.modules)\n"
        "command.run(main)"
    )
    environment = {"PATH": "", "PYTHONPATH": str(ROOT), "DENTALIGN_PROFILE": given}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("False\n", "")
    assert not list(tmp_path.iterdir())


def test_a_profiled_command_that_fails_ends_as_without_the_profiler(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("source: {cases: 5}\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "stages" / "validate.py"), "--profile"],
        cwd=tmp_path, capture_output=True, text=True, env={"PATH": "", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "no profile: no batch or case was computed" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: params.yaml: section 'validate' is missing")
