"""Stage train_align: latents at T1 and T2 -> models/alignment.pt."""

from pathlib import Path
from typing import Annotated

import typer

from dentalign import params
from dentalign.alignment.training import Train, train_align
from dentalign.autoencoder.settings import DecoderFile, EncoderFile
from dentalign.running import command
from dentalign.training import data_parallel
from dentalign.training.launcher import launch


def main(
    latents: Annotated[Path, typer.Option(help="All latents (HDF5).")] = Path("data/latents.h5"),
    out: Annotated[Path, typer.Option(help="Alignment model to write.")] = Path("models/alignment.pt"),
    log: Annotated[Path, typer.Option(help="Folder for curves.")] = Path("reports/train_align"),
    params_file: Annotated[Path, typer.Option("--params", help="Parameters (YAML).")] = Path("params.yaml"),
) -> None:
    """Train the alignment model, or go on from where an earlier run stopped."""
    settings = params.load(params_file, Train, "train")
    if launch(settings.processes, settings.device):
        return
    encoder = params.load(params_file, EncoderFile, "encoder").weights
    decoder = params.load(params_file, DecoderFile, "decoder").weights
    outcome = train_align(latents, encoder, decoder, out, log, settings)
    if not data_parallel.is_first():
        return
    best = outcome.history[outcome.best_epoch - 1]["val_add_mm"]
    end = " (patience ran out)" if outcome.stopped_early else ""
    epochs = f"best of {len(outcome.history)} epochs: {outcome.best_epoch}{end}"
    typer.echo(f"train_align: {epochs}, val add_mm {best:.3f} -> {out}", err=True)


if __name__ == "__main__":
    command.run(main)
