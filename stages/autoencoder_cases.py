"""Stage autoencoder_cases: clouds of all shards -> one file with the cases for the tooth autoencoder."""

from pathlib import Path
from typing import Annotated

import typer

from dentalign import params
from dentalign.autoencoder.settings import Autoencoder
from dentalign.dataset.autoencoder_cases import extract
from dentalign.running import command


def main(
    clouds: Annotated[Path, typer.Argument(help="Folder with the clouds of every shard.")],
    shards: Annotated[int, typer.Option(help="Number of shards in dvc.yaml; must be that in params.yaml.")],
    out: Annotated[Path, typer.Option(help="Clouds of the listed cases, to write (HDF5).")] = Path(
        "data/autoencoder_clouds.h5"
    ),
    params_file: Annotated[Path, typer.Option("--params", help="Parameters (YAML).")] = Path("params.yaml"),
) -> None:
    """Copy the clouds of the cases in autoencoder.cases; other cases do not change the output."""
    case_list = params.load(params_file, Autoencoder, "autoencoder").cases
    files = [clouds / f"{name}.h5" for name in params.load_shards(params_file, shards)]
    cases, absent = extract(files, case_list, out)
    names = f": {', '.join(absent[:10])}{' ...' if len(absent) > 10 else ''}" if absent else ""
    typer.echo(f"autoencoder_cases: {cases} cases, {len(absent)} listed but absent{names} -> {out}", err=True)


if __name__ == "__main__":
    command.run(main)
