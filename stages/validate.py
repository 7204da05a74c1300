"""Stage validate: latents, alignment model and decoder -> metrics/validation.json, reports/validation."""

import json
from pathlib import Path
from typing import Annotated

import typer

from dentalign import params
from dentalign.autoencoder.settings import DecoderFile, EncoderFile
from dentalign.files import atomic
from dentalign.planning.solver import Planning
from dentalign.running import command
from dentalign.running.locks import exclusive
from dentalign.validation.measurement import Validate, validate
from dentalign.validation.report import cards as report_cards
from dentalign.validation.report import page as report_page
from dentalign.validation.report.pictures import write_pictures
from dentalign.validation.report.tables import format_table, write_tables


def main(
    latents: Annotated[Path, typer.Option(help="Latents of all shards (HDF5).")] = Path("data/latents.h5"),
    alignment_model: Annotated[Path, typer.Option(help="Alignment model.")] = Path("models/alignment.pt"),
    train_log: Annotated[Path, typer.Option(help="Folder with the training curves.")] = Path(
        "reports/train_align"
    ),
    left_out: Annotated[Path, typer.Option(help="List of what was left out (CSV).")] = Path(
        "reports/left_out.csv"
    ),
    metrics: Annotated[Path, typer.Option(help="Metrics to write (JSON).")] = Path("metrics/validation.json"),
    report: Annotated[
        Path,
        typer.Option(help="Folder for tables, pictures, model cards and index.html, replaced as a whole."),
    ] = Path("reports/validation"),
    params_file: Annotated[Path, typer.Option("--params", help="Parameters (YAML).")] = Path("params.yaml"),
) -> None:
    """Measure the models and the baselines on the test split."""
    settings = params.load(params_file, Validate, "validate")
    encoder = params.load(params_file, EncoderFile, "encoder").weights
    decoder = params.load(params_file, DecoderFile, "decoder").weights
    planning = params.load(params_file, Planning, "planning")
    found = validate(latents, decoder, alignment_model, settings, planning)
    with exclusive(report), atomic.replacing(report) as folder:
        folder.mkdir()
        write_tables(folder, found)
        write_pictures(folder / "pictures", found, latents, train_log)
        report_cards.write(folder / "model_cards", found, latents, encoder, decoder, alignment_model)
        cards = {name: f"model_cards/{name}.md" for name in report_cards.CARDS}
        parameters = {
            "validate": settings.model_dump(),
            "planning": planning.model_dump(),
            "decoder": {"weights": decoder},
        }
        report_page.write(folder / "index.html", found, latents, train_log, left_out, parameters, cards)
    atomic.write_text(metrics, json.dumps(found.metrics, indent=2) + "\n")
    model, identity = found.metrics["model"]["add_mm"], found.metrics["identity"]["add_mm"]
    typer.echo(
        f"validate: {found.metrics['counts']['cases']} test cases, add_mm {model:.3f} "
        f"(no movement: {identity:.3f}) -> {metrics}, {report}",
        err=True,
    )
    typer.echo(format_table(found.metrics), err=True)


if __name__ == "__main__":
    command.run(main)
