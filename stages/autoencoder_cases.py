"""Stage autoencoder_cases: the clouds of the cases listed for the tooth autoencoder, in one file."""

from pathlib import Path
from typing import Annotated

import typer

from dentalign import command, params
from dentalign.dataset.autoencoder_cases import extract


def main(
    shards: Annotated[list[Path], typer.Argument(help="The clouds of every shard.")],
    out: Annotated[Path, typer.Option(help="The listed clouds (HDF5).")] = Path("data/autoencoder_clouds.h5"),
    case_list: Annotated[Path, typer.Option("--list", help="The list (CSV with a column case_id).")] = Path(
        "data/autoencoder_cases.csv"
    ),
    params_file: Annotated[Path, typer.Option("--params", help="Parameters (YAML).")] = Path("params.yaml"),
) -> None:
    """Copy out what the autoencoder learns from; the same bytes whatever other cases come or go."""
    source = params.load(params_file, params.Source, "source")
    cases, absent = extract(shards, case_list, out, source.pseudonym_map)
    names = f": {', '.join(absent[:10])}{' ...' if len(absent) > 10 else ''}" if absent else ""
    typer.echo(f"autoencoder_cases: {cases} cases, {len(absent)} listed but absent{names} -> {out}", err=True)


if __name__ == "__main__":
    command.run(main)
