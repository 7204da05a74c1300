"""Stage encode_latents_sharded: one shard's clouds -> latents of 256 points x 32 features per tooth."""

from pathlib import Path
from typing import Annotated

import typer

from dentalign import params
from dentalign.autoencoder.encoding import encode_shard
from dentalign.autoencoder.settings import EncoderFile
from dentalign.running import command
from dentalign.running.pool import load_engine


def main(
    clouds: Annotated[Path, typer.Argument(help="The shard's clouds (HDF5).")],
    out: Annotated[Path, typer.Argument(help="The shard's latents, to write (HDF5).")],
    params_file: Annotated[Path, typer.Option("--params", help="Parameters (YAML).")] = Path("params.yaml"),
) -> None:
    """Encode every tooth at T1 and T2 with the weights in encoder.weights of params.yaml."""
    encoder = params.load(params_file, EncoderFile, "encoder")
    cases = encode_shard(clouds, encoder, out, load_engine(params_file))
    typer.echo(f"encode_latents_sharded: {cases} cases -> {out}", err=True)


if __name__ == "__main__":
    command.run(main)
