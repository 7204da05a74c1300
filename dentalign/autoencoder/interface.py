"""Descriptions of the inputs and outputs of each model, for model cards and exported files.

The descriptions of encoder and decoder are here because a change of wording in the modules of these networks
would make the pipeline encode every case again.
"""

from dataclasses import dataclass

from dentalign.autoencoder.decoder import DecoderConfig
from dentalign.autoencoder.encoder import EncoderConfig

HEAD_FRAME = "head coordinates: right-handed, x to the patient's left, y to posterior, z up (LPS)"
TOOTH_FRAME = (
    "tooth-local coordinates: origin at the tooth, +z from root to crown tip, +y buccal, x = y x z "
    "(mesial in quadrants 1 and 3, distal in 2 and 4)"
)
SLOT_ORDER = "lower 38 37 .. 31 41 .. 48, then upper 18 17 .. 11 21 .. 28 (FDI numbers)"
LATENT_UNIT = "none (raw output of the encoder)"
POINTS = "surface points of a crown in the pipeline's fixed order"


@dataclass(frozen=True)
class Port:
    """Description of one input or output tensor of a model.

    shape : size of each axis; a letter for any size
    unit  : unit of the values
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    unit: str
    meaning: str

    @property
    def shape_text(self) -> str:
        """Shape as text, such as (B, 256, 3)."""
        return f"({', '.join(map(str, self.shape))})"


@dataclass(frozen=True)
class Interface:
    """Description of an exported model.

    inputs, outputs : in the order of the model's arguments and results
    outside         : steps before and after the model that are not part of it
    """

    title: str
    task: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    outside: str


def encoder_interface(config: EncoderConfig) -> Interface:
    """Describe the encoder; the neighbour graph is one of its inputs."""
    p, k, features = config.points, config.neighbours, config.features
    return Interface(
        title="Tooth encoder",
        task="Points of a tooth to a latent, one feature vector per point",
        inputs=(
            Port("points", "float32", ("B", p, 3), "mm", f"{POINTS}, {HEAD_FRAME}"),
            Port(
                "neighbours", "int64", ("B", p, k), "index",
                f"for each point the indices of its {k} nearest other points of the same tooth",
            ),
        ),
        outputs=(Port("latents", "float32", ("B", p, features), LATENT_UNIT, "features of each point"),),
        outside="The neighbour graph: dentalign.export.neighbour_graph.neighbours makes it with numpy.",
    )  # fmt: skip


def decoder_interface(config: DecoderConfig) -> Interface:
    """Describe the decoder."""
    return Interface(
        title="Tooth decoder",
        task="A latent to the points of the tooth",
        inputs=(
            Port("latents", "float32", ("B", "P", config.features), LATENT_UNIT, "features of each point"),
        ),
        outputs=(Port("points", "float32", ("B", "P", 3), "mm", f"not quite rigid; {HEAD_FRAME}"),),
        outside="The rigid fit that makes a pose of the points: dentalign.geometry.rigid.fit, numpy.",
    )
