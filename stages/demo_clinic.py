"""Stage demo_clinic: nothing -> a case store of made-up patients (JSON, STL, case list)."""

from pathlib import Path
from typing import Annotated

import typer

from dentalign import params
from dentalign.demo_clinic import case_files, clinic
from dentalign.running import command


def main(
    out: Annotated[Path, typer.Option(help="Folder of the case store; replaced as a whole.")] = Path(
        "data/demo"
    ),
    params_file: Annotated[Path, typer.Option("--params", help="Parameters (YAML).")] = Path("params.yaml"),
) -> None:
    """Make cases.csv, json/ and stl/ in the folder OUT; the same seed gives the same bytes."""
    demo = params.load(params_file, clinic.DemoClinic, "demo_clinic")
    clinic.make_clinic(out, demo.cases, demo.seed)
    defects = len(case_files.DEFECTS) + 1
    typer.echo(f"demo_clinic: {demo.cases} cases, {defects} more broken on purpose -> {out}", err=True)


if __name__ == "__main__":
    command.run(main)
