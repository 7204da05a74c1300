"""Stage concat_hdf5: all shards of latents -> one file, and the list of what was left out."""

from pathlib import Path
from typing import Annotated

import typer

from dentalign import command, params
from dentalign.cases import left_out
from dentalign.dataset.concatenation import account, concatenate
from dentalign.reports import left_out_page


def main(
    shards: Annotated[list[Path], typer.Argument(help="The latents of every shard.")],
    out: Annotated[Path, typer.Option(help="The joined file (HDF5).")] = Path("data/latents.h5"),
    left_out_csv: Annotated[Path, typer.Option("--left-out", help="The list (CSV).")] = Path(
        "reports/left_out.csv"
    ),
    left_out_html: Annotated[
        Path, typer.Option("--left-out-page", help="The same for people (HTML).")
    ] = Path("reports/left_out.html"),
    params_file: Annotated[Path, typer.Option("--params", help="Parameters (YAML).")] = Path("params.yaml"),
) -> None:
    """Join exactly the shards that params.yaml lists; rows sorted by case id."""
    names = params.load_shards(params_file)
    totals, lines = account(shards, names)
    left_out.write_csv(left_out_csv, lines)  # first, because where no case is left it says why
    left_out_page.write(left_out_html, lines, totals)
    concatenate(shards, names, out)
    typer.echo(f"concat_hdf5: {totals} -> {out}, {left_out_csv}, {left_out_html}", err=True)


if __name__ == "__main__":
    command.run(main)
