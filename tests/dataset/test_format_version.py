"""A program with a new format_version: old files are refused by name, and DVC makes them again."""

import json
import re
import sys

import pytest

from dentalign.dataset.mouth_store import FORMAT_VERSION
from tests.support.pipeline_project import SHARDS, Project

SHARDED = [f"{stage}@{shard}" for stage in ("sample_clouds", "encode_latents_sharded") for shard in SHARDS]
OTHERS = ["autoencoder_cases", "train_autoencoder", "concat_hdf5", "train_align", "validate"]
STORES = sorted([*SHARDED, *OTHERS])


@pytest.fixture
def newer(project: Project) -> Project:
    """The finished project, its program one format ahead."""
    module = project.root / "dentalign/dataset/mouth_store.py"
    text = module.read_text(encoding="utf-8")
    newer = re.sub(r"^FORMAT_VERSION = \d+$", f"FORMAT_VERSION = {FORMAT_VERSION + 1}", text, flags=re.M)
    assert newer != text
    module.write_text(newer, encoding="utf-8")
    return project


def test_old_files_are_refused_and_every_stage_that_reads_or_writes_them_is_stale(newer: Project) -> None:
    before = newer.hashes("data/latents.h5", "models")
    done = newer.run(sys.executable, "stages/train_align.py", check=False)
    assert done.returncode == 1
    wanted = f"format_version {FORMAT_VERSION}, this program reads {FORMAT_VERSION + 1}; `dvc repro` makes it"
    assert f"data/latents.h5: {wanted}" in done.stdout
    assert newer.hashes("data/latents.h5", "models") == before
    stale = set(json.loads(newer.dvc("status", "--json", *STORES).stdout))
    assert stale == set(STORES)
    assert json.loads(newer.dvc("status", "--json", "fetch_json", "rigid_transforms").stdout) == {}


@pytest.mark.long
def test_one_repro_brings_every_file_to_the_new_format_and_the_old_program_its_own_back(
    newer: Project,
) -> None:
    assert newer.repro() == STORES
    newer.run("git", "stash", "--quiet", "--", "dentalign")
    assert newer.repro() == []  # DVC's cache of runs still has the files of the old format
    newer.run(sys.executable, "stages/train_align.py", "--out", "old.pt", "--log", "old")
