"""Stage encode_latents_sharded: one shard's clouds -> latents of 256 points x 32 features per tooth."""

from pathlib import Path
from typing import Annotated

import typer

from dentalign import command, params, reached_modules
from dentalign.dataset.latents import encode_shard


def main(
    clouds: Annotated[Path, typer.Argument(help="The shard's clouds (HDF5).")],
    out: Annotated[Path, typer.Argument(help="The shard's latents (HDF5).")],
    params_file: Annotated[Path, typer.Option("--params", help="Parameters (YAML).")] = Path("params.yaml"),
    code: Annotated[Path | None, typer.Option(help="Run only if the code is that of this list.")] = None,
) -> None:
    """Encode every tooth at T1 and T2 with the weights that params.yaml names (encoder.weights)."""
    if code:
        reached_modules.check(code)
    encoder = params.load(params_file, params.Encoder, "encoder")
    cases = encode_shard(clouds, encoder, out, params.load_engine(params_file))
    typer.echo(f"encode_latents_sharded: {cases} cases -> {out}", err=True)


if __name__ == "__main__":
    command.run(main)
