"""Stage rigid_transforms: case JSONs and meshes -> per shard, T1 and T2 poses of teeth (mm, head)."""

from pathlib import Path
from typing import Annotated

import typer

from dentalign import params
from dentalign.cases.rigid_transforms import make_manifests
from dentalign.cases.settings import Fetch, Limits, Source
from dentalign.running import command


def main(
    params_file: Annotated[Path, typer.Option("--params", help="Parameters (YAML).")] = Path("params.yaml"),
    json_dir: Annotated[
        Path, typer.Option("--json", help="Folder of sanitised cases (<case_id>.json).")
    ] = Path("data/json"),
    cases: Annotated[Path, typer.Option(help="CSV: case_id, split.")] = Path("data/cases.csv"),
    left_out: Annotated[Path, typer.Option(help="JSON list of what fetch_json left out.")] = Path(
        "data/left_out/fetch_json.json"
    ),
    out: Annotated[Path, typer.Option(help="Folder for <shard>.json; replaced as a whole.")] = Path(
        "data/transforms"
    ),
) -> None:
    """Find each tooth's pose and mesh; what cannot be used goes on the list of what was left out."""
    made = make_manifests(
        json_dir,
        cases,
        left_out,
        out,
        source=params.load(params_file, Source, "source"),
        fetch=params.load(params_file, Fetch, "fetch"),
        limits=params.load(params_file, Limits, "limits"),
        shards=params.load_shards(params_file),
    )
    for warning in made.warnings:
        typer.echo(f"rigid_transforms: warning: {warning}", err=True)
    summary = f"{made.cases} cases, {made.excluded} excluded, {made.dropped_teeth} teeth dropped"
    typer.echo(f"rigid_transforms: {summary} -> {out}", err=True)


if __name__ == "__main__":
    command.run(main)
