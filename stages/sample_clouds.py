"""Stage sample_clouds: one shard's tooth meshes and poses -> 256 ordered points per tooth (local, mm)."""

from pathlib import Path
from typing import Annotated

import typer

from dentalign import params
from dentalign.cases.crowns import Sampler
from dentalign.cases.settings import Limits, Sample, Source
from dentalign.cases.sources.meshes import MeshStore
from dentalign.dataset.clouds import make_clouds
from dentalign.running import command
from dentalign.running.pool import load_engine


def main(
    manifest: Annotated[Path, typer.Argument(help="The shard's manifest, written by rigid_transforms.")],
    out: Annotated[Path, typer.Argument(help="The shard's clouds (HDF5).")],
    params_file: Annotated[Path, typer.Option("--params", help="Parameters (YAML).")] = Path("params.yaml"),
) -> None:
    """Sample every tooth once, in tooth-local coordinates; T1 and T2 are the same points moved."""
    source = params.load(params_file, Source, "source")
    limits = params.load(params_file, Limits, "limits")
    sample = params.load(params_file, Sample, "sample")
    with MeshStore(source.meshes, limits) as meshes:
        sampler = Sampler(source.buccal_axis, sample, limits)
        cases, left_out = make_clouds(manifest, meshes, out, sampler, load_engine(params_file))
    typer.echo(f"sample_clouds: {cases} cases, {left_out} teeth and cases left out so far -> {out}", err=True)


if __name__ == "__main__":
    command.run(main)
