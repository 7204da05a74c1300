"""The command `dentalign`. Each command's heavy imports stay inside it, so that --help is quick."""

from pathlib import Path
from typing import Annotated

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


@app.command("metrics", epilog=command.EPILOG)
def metrics_(
    file: Annotated[Path, typer.Argument(help="The metrics that the stage validate wrote.")] = Path(
        "metrics/validation.json"
    ),
) -> None:
    """Print the figures on the test split as a table: model, baselines, true T2."""
    from dentalign import validation_table

    typer.echo(validation_table.format_table(validation_table.read(file)))


@app.command(epilog=command.EPILOG)
def view(
    report: Annotated[Path, typer.Argument(help="An HTML report, or a folder with reports.")] = Path(
        "reports/validation/index.html"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open it in the browser.")] = True,
) -> None:
    """Serve a report to the browser of this machine, with the git revision; Ctrl-C ends it (code 0).

    Only this machine can reach it, and nothing outside the report's folder is served.
    """
    import webbrowser

    from dentalign.report_server import ReportServer

    try:
        with ReportServer(report, port) as server:
            typer.echo(f"{server.url}  (Ctrl-C ends)")
            if browser and not webbrowser.open(server.url):
                typer.echo("no browser could be opened here: open the address yourself", err=True)
            server.serve_forever()
    except KeyboardInterrupt:  # the only way to end it: the work is done
        typer.echo("view: ended", err=True)


if __name__ == "__main__":
    main()
