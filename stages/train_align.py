"""Stage train_align: latents at T1 and T2 -> models/alignment.pt."""

from pathlib import Path
from typing import Annotated

import typer

from dentalign import params
from dentalign.alignment.training import Train, train_align
from dentalign.autoencoder.settings import DecoderFile, EncoderFile
from dentalign.running import command
from dentalign.training import data_parallel


def main(
    latents: Annotated[Path, typer.Option(help="Latents of all shards (HDF5).")] = Path("data/latents.h5"),
    out: Annotated[Path, typer.Option(help="Alignment model to write.")] = Path("models/alignment.pt"),
    log: Annotated[Path, typer.Option(help="Folder for the training curves.")] = Path("reports/train_align"),
    params_file: Annotated[Path, typer.Option("--params", help="Parameters (YAML).")] = Path("params.yaml"),
) -> None:
    """Train the alignment model, or resume an interrupted run."""
    settings = params.load(params_file, Train, "train")
    encoder = params.load(params_file, EncoderFile, "encoder").weights
    decoder = params.load(params_file, DecoderFile, "decoder").weights
    with data_parallel.process_group(settings.device):
        outcome = train_align(latents, encoder, decoder, out, log, settings)
        if data_parallel.rank() > 0:
            return
    end = " (patience ran out)" if outcome.stopped_early else ""
    epochs = f"best of {len(outcome.history)} epochs: {outcome.best_epoch}{end}"
    typer.echo(f"train_align: {epochs}, val add_mm {outcome.best['val_add_mm']:.3f} -> {out}", err=True)


if __name__ == "__main__":
    command.run(main)
