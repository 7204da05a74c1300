"""Sections `autoencoder`, `encoder` and `decoder` of params.yaml."""

from typing import Annotated

from pydantic import Field

from dentalign.params import Device, NotNegative, Positive, PositiveFloat, Section


class Autoencoder(Section):
    """Section `autoencoder`: training of the tooth autoencoder."""

    cases: str
    epochs: Positive = 6
    patience: Positive = 50
    seed: NotNegative = 0
    threads: Positive = 2
    device: Device = "auto"
    batch_teeth: Positive = 64
    learning_rate: PositiveFloat = 0.0003
    neighbours: Annotated[int, Field(ge=1, le=255)] = 6
    features: Positive = 32
    motion_deg: Annotated[float, Field(ge=0)] = 10.0
    motion_mm: Annotated[float, Field(ge=0)] = 5.0


class DecoderFile(Section):
    """Section `decoder`: the weights file in use."""

    weights: str


class EncoderFile(DecoderFile):
    """Section `encoder`: the weights file in use, with the device and the number of threads."""

    device: Device = "auto"
    threads: Positive = 2
