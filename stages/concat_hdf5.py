"""Stage concat_hdf5: all shards of latents -> one file, and the list of what was left out."""

from pathlib import Path
from typing import Annotated

import typer

from dentalign import command, left_out, params
from dentalign.concatenation import concatenate


def main(
    shards: Annotated[list[Path], typer.Argument(help="The latents of every shard.")],
    out: Annotated[Path, typer.Option(help="The joined file (HDF5).")] = Path("data/latents.h5"),
    left_out_csv: Annotated[Path, typer.Option("--left-out", help="The list (CSV).")] = Path(
        "reports/left_out.csv"
    ),
    params_file: Annotated[Path, typer.Option("--params", help="Parameters (YAML).")] = Path("params.yaml"),
) -> None:
    """Join exactly the shards that params.yaml lists; rows sorted by case id."""
    cases, lines = concatenate(shards, params.load_shards(params_file), out)
    left_out.write_csv(left_out_csv, lines)
    excluded = len({line.case_id for line in lines if line.whole_case})
    typer.echo(f"concat_hdf5: {cases} cases used, {excluded} excluded -> {out}, {left_out_csv}", err=True)


if __name__ == "__main__":
    command.run(main)
