"""The command `dentalign`. Each command's heavy imports stay inside it, so that --help is quick."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from dentalign import __version__, command

app = typer.Typer(
    name="dentalign",
    help="From orthodontic cases to a predicted treatment target.",
    no_args_is_help=True,
    add_completion=False,
)


def main() -> None:
    """Entry point of the command `dentalign`."""
    command.run(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dentalign {__version__}")
        raise typer.Exit


@app.callback()
def dentalign(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """From orthodontic cases to a predicted treatment target."""


@app.command("list", epilog=command.EPILOG)
def list_(
    source: Annotated[Path, typer.Argument(help="A case store (a folder with json/), or a case list (CSV).")],
    out: Annotated[Path, typer.Option(help="The case list to write.")] = Path("cases.csv"),
    autoencoder: Annotated[
        int, typer.Option(min=0, help="Also list this many cases for the autoencoder.")
    ] = 0,
    autoencoder_out: Annotated[Path, typer.Option(help="Where that list goes.")] = Path(
        "autoencoder_cases.csv"
    ),
) -> None:
    """Write the case list of a case store; what cannot be a case is named on stderr.

    With --autoencoder N also an explicit list of N cases of the train split. Give a case list that
    has patient ids as SOURCE if there are such, because they decide the split.
    """
    from dentalign import case_list
    from dentalign.errors import NothingUsable

    if not source.exists():
        raise typer.BadParameter(f"{source} is not there", param_hint="SOURCE")
    cases, left_out = case_list.read(source, "list") if source.is_file() else case_list.find(source)
    for line in left_out:
        typer.echo(f"skipped: {line.file}: {line.seen}; {line.mend}", err=True)
    if not cases:
        raise NothingUsable(f"{source}: no case is usable, {len(left_out)} skipped")
    case_list.write(out, cases)
    typer.echo(f"list: {len(cases)} cases, {len(left_out)} skipped -> {out}", err=True)
    if autoencoder:
        drawn = case_list.for_autoencoder(cases, autoencoder)
        case_list.write(autoencoder_out, drawn)
        typer.echo(
            f"list: {len(drawn)} of the train split for the autoencoder -> {autoencoder_out}", err=True
        )


@app.command("check", epilog=command.EPILOG)
def check_(
    source: Annotated[
        Path, typer.Argument(help="A case store (a folder with json/ and stl/), or a case list (CSV).")
    ],
    json: Annotated[
        str | None,
        typer.Option(help="With a case list: JSONs (folder, URL prefix). Default: json/ beside it."),
    ] = None,
    meshes: Annotated[
        str | None, typer.Option(help="Meshes (folder, URL prefix). Default: stl/ of the store.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the table here (CSV).")] = None,
    buccal_axis: Annotated[
        Literal["+y", "-y"] | None,
        typer.Option(help="Tooth-local buccal axis; default: that of params.yaml."),
    ] = None,
    params_file: Annotated[
        Path | None,
        typer.Option("--params", help="Limits come from here; default: params.yaml, if there is one."),
    ] = None,
) -> None:
    """Say what would be left out of a data set, and why, without touching the pipeline's data.

    Exit code: 0 nothing, 1 something would be left out, 3 no case is usable.
    """
    from dentalign import check, left_out, params
    from dentalign.errors import NothingUsable

    if not source.exists():
        raise typer.BadParameter(f"{source} is not there", param_hint="SOURCE")
    limits, fetch_settings = params.Limits(), params.Fetch()
    axis: Literal["+y", "-y"] = buccal_axis or "+y"
    file = params_file or Path("params.yaml")
    if params_file is not None or file.is_file():
        limits = params.load(file, params.Limits, "limits")
        fetch_settings = params.load(file, params.Fetch, "fetch")
        axis = buccal_axis or params.load(file, params.Source, "source").buccal_axis
    with check.places_of(source, json, meshes) as places:
        checked = check.check(places, buccal_axis=axis, limits=limits, fetch_settings=fetch_settings)
    if checked.lines:
        check.show(checked.lines, sys.stdout)
    if out is not None:
        left_out.write_csv(out, checked.lines)
    typer.echo(f"check: {checked.totals}", err=True)
    if not checked.totals.cases_used:
        raise NothingUsable(f"{source}: no case is usable")
    if not checked.all_good:
        raise typer.Exit(1)


@app.command("metrics", epilog=command.EPILOG)
def metrics_(
    file: Annotated[Path, typer.Argument(help="The metrics that the stage validate wrote.")] = Path(
        "metrics/validation.json"
    ),
) -> None:
    """Print the figures on the test split as a table: model, baselines, true T2."""
    from dentalign import validation_table

    typer.echo(validation_table.format_table(validation_table.read(file)))


if __name__ == "__main__":
    main()
