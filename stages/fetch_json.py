"""Stage fetch_json: listed case JSONs from their source -> allow-listed fields, one file per case."""

from pathlib import Path
from typing import Annotated

import typer

from dentalign import params
from dentalign.cases import fetch
from dentalign.cases.settings import Fetch, Limits, Source
from dentalign.running import command


def main(
    params_file: Annotated[Path, typer.Option("--params", help="Parameters (YAML).")] = Path("params.yaml"),
    out: Annotated[Path, typer.Option(help="Folder for <case_id>.json; replaced as a whole.")] = Path(
        "data/json"
    ),
    cases_out: Annotated[
        Path, typer.Option(help="CSV of the fetched cases, to write: case_id, split, perhaps planner.")
    ] = Path("data/cases.csv"),
    left_out: Annotated[Path, typer.Option(help="JSON list of what was left out, and why, to write.")] = Path(
        "data/left_out/fetch_json.json"
    ),
) -> None:
    """Fetch the listed cases; a case that cannot be used goes on the list of what was left out."""
    source = params.load(params_file, Source, "source")
    done = fetch.fetch_cases(
        source.cases,
        source.json_,
        out=out,
        cases_out=cases_out,
        left_out=left_out,
        fetch=params.load(params_file, Fetch, "fetch"),
        limits=params.load(params_file, Limits, "limits"),
    )
    summary = f"{done.cases} cases ({done.unchanged} unchanged), {done.left_out} left out"
    typer.echo(f"fetch_json: {summary} -> {out}", err=True)
    if done.planners:
        unknown = done.cases - done.planners.total()
        typer.echo(f"fetch_json: planners: {len(done.planners)}; cases without one: {unknown}", err=True)


if __name__ == "__main__":
    command.run(main)
