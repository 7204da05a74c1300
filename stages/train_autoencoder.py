"""Stage train_autoencoder: clouds of teeth -> models/encoder.pt and models/decoder.pt."""

from pathlib import Path
from typing import Annotated

import typer

from dentalign import params
from dentalign.autoencoder.settings import Autoencoder
from dentalign.autoencoder.training import train_autoencoder
from dentalign.running import command


def main(
    clouds: Annotated[Path, typer.Option(help="Clouds to learn from (HDF5).")] = Path(
        "data/autoencoder_clouds.h5"
    ),
    encoder: Annotated[Path, typer.Option(help="Encoder weights to write.")] = Path("models/encoder.pt"),
    decoder: Annotated[Path, typer.Option(help="Decoder weights to write.")] = Path("models/decoder.pt"),
    log: Annotated[Path, typer.Option(help="Folder for the training curves.")] = Path(
        "reports/train_autoencoder"
    ),
    params_file: Annotated[Path, typer.Option("--params", help="Parameters (YAML).")] = Path("params.yaml"),
) -> None:
    """Train the tooth autoencoder, or resume an interrupted run."""
    settings = params.load(params_file, Autoencoder, "autoencoder")
    outcome = train_autoencoder(clouds, encoder, decoder, log, settings)
    best = outcome.best["val_reconstruction_mm"]
    epochs = f"best of {len(outcome.history)} epochs: {outcome.best_epoch}"
    typer.echo(f"train_autoencoder: {epochs}, reconstruction_mm {best:.3f} -> {encoder}, {decoder}", err=True)


if __name__ == "__main__":
    command.run(main)
