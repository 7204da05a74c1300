"""Stage sample_clouds: one shard's meshes and poses -> 256 ordered points per tooth (tooth-local, mm)."""

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
    out: Annotated[Path, typer.Argument(help="The shard's clouds, to write (HDF5).")],
    params_file: Annotated[Path, typer.Option("--params", help="Parameters (YAML).")] = Path("params.yaml"),
) -> None:
    """Sample points on every crown once, in tooth-local coordinates; T1 and T2 have the same points."""
    source = params.load(params_file, Source, "source")
    limits = params.load(params_file, Limits, "limits")
    sample = params.load(params_file, Sample, "sample")
    with MeshStore(source.meshes, limits) as meshes:
        sampler = Sampler(source.buccal_axis, sample, limits)
        cases, left_out = make_clouds(manifest, meshes, out, sampler, load_engine(params_file))
    typer.echo(f"sample_clouds: {cases} cases, {left_out} teeth and cases left out so far -> {out}", err=True)


if __name__ == "__main__":
    command.run(main)
