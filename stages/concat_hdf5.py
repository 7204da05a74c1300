"""Stage concat_hdf5: all shards of latents -> one file, and the list of what was left out."""

from pathlib import Path
from typing import Annotated

import typer

from dentalign import params
from dentalign.cases import left_out
from dentalign.cases.data_set_check import nearly_all_left_out
from dentalign.dataset.concat import account, concatenate
from dentalign.reports import left_out_page
from dentalign.running import command


def main(
    latents: Annotated[Path, typer.Argument(help="Folder with the latents of every shard.")],
    shards: Annotated[int, typer.Option(help="Number of shards in dvc.yaml; must be that in params.yaml.")],
    out: Annotated[Path, typer.Option(help="Latents of all shards, to write (HDF5).")] = Path(
        "data/latents.h5"
    ),
    left_out_csv: Annotated[
        Path, typer.Option("--left-out", help="List of what was left out, to write (CSV).")
    ] = Path("reports/left_out.csv"),
    left_out_html: Annotated[
        Path, typer.Option("--left-out-page", help="Report of what was left out, to write (HTML).")
    ] = Path("reports/left_out.html"),
    params_file: Annotated[Path, typer.Option("--params", help="Parameters (YAML).")] = Path("params.yaml"),
) -> None:
    """Join the shards in params.yaml, and no others; cases are sorted by id."""
    names = params.load_shards(params_file, shards)
    files = [latents / f"{name}.h5" for name in names]
    totals, lines = account(files, names)
    left_out.write_csv(left_out_csv, lines)  # first, because it has the reasons if no case is left
    left_out_page.write(left_out_html, lines, totals)
    for remark in nearly_all_left_out(lines, totals.cases_listed):
        typer.echo(f"concat_hdf5: warning: {remark}", err=True)
    concatenate(files, names, out)
    typer.echo(f"concat_hdf5: {totals} -> {out}, {left_out_csv}, {left_out_html}", err=True)


if __name__ == "__main__":
    command.run(main)
