"""What goes into each model and what comes out, in words: for model cards and exported files."""

from dataclasses import dataclass

from dentalign.alignment.base import AlignmentConfig
from dentalign.autoencoder.encoder import EncoderConfig
from dentalign.teeth import SLOT_COUNT

HEAD_FRAME = "head coordinates: right-handed, x to the patient's left, y to posterior, z up (LPS)"
TOOTH_FRAME = (
    "tooth-local coordinates: origin at the tooth, +z from root to crown tip, +y buccal, x = y x z "
    "(mesial in quadrants 1 and 3, distal in 2 and 4)"
)
SLOT_ORDER = "lower 38 37 .. 31 41 .. 48, then upper 18 17 .. 11 21 .. 28 (FDI numbers)"

_LATENT_UNIT = "none (raw output of the encoder)"
_POINTS = "surface points of a crown in the pipeline's fixed order"


@dataclass(frozen=True)
class Port:
    """One tensor that goes in or comes out.

    shape : numbers, and letters for axes of any length
    unit  : of its numbers
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    unit: str
    meaning: str

    @property
    def shape_text(self) -> str:
        """Such as (B, 256, 3)."""
        return f"({', '.join(map(str, self.shape))})"


@dataclass(frozen=True)
class Interface:
    """What a model is and does, its ports in the order of arguments and answers, and what is not in it."""

    title: str
    task: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    outside: str


def of_encoder(config: EncoderConfig) -> Interface:
    """Of the encoder with its neighbour graph given."""
    p, k, features = config.points, config.neighbours, config.features
    return Interface(
        title="Tooth encoder",
        task="Points of a tooth to a latent, one feature vector per point",
        inputs=(
            Port("points", "float32", ("B", p, 3), "mm", f"{_POINTS}, {HEAD_FRAME}"),
            Port(
                "neighbours", "int64", ("B", p, k), "index",
                f"for each point the indices of its {k} nearest other points of the same tooth",
            ),
        ),
        outputs=(Port("latents", "float32", ("B", p, features), _LATENT_UNIT, "features of each point"),),
        outside="The neighbour graph: dentalign.export.neighbour_graph.neighbours makes it with numpy.",
    )  # fmt: skip


def of_decoder(features: int) -> Interface:
    """Of the decoder."""
    return Interface(
        title="Tooth decoder",
        task="A latent to the points of the tooth",
        inputs=(Port("latents", "float32", ("B", "P", features), _LATENT_UNIT, "features of each point"),),
        outputs=(
            Port("points", "float32", ("B", "P", 3), "mm", f"not quite rigid; {HEAD_FRAME}"),
        ),
        outside="The rigid fit that makes a pose of the points: dentalign.geometry.rigid.fit, numpy.",
    )  # fmt: skip


def of_alignment_model(config: AlignmentConfig) -> Interface:
    """Of an alignment model; one that is neither `fc` nor `attention` is taken to work on poses."""
    return _of_fc(config) if config.model == "fc" else _of_poses(config)


def _masks() -> tuple[Port, Port]:
    shape = ("N", SLOT_COUNT)
    return (
        Port("present", "bool", shape, "true or false", "whether the slot has a tooth at T1"),
        Port("stays", "bool", shape, "true or false", "whether that tooth is there at T2, too"),
    )


def _of_fc(config: AlignmentConfig) -> Interface:
    shape = ("N", SLOT_COUNT, config.points, config.features)
    before = Port(
        "latents", "float32", shape, _LATENT_UNIT,
        f"output of the encoder at T1, slots in the order {SLOT_ORDER}; without a tooth any finite number",
    )  # fmt: skip
    after = Port(
        "latents_t2", "float32", shape, _LATENT_UNIT,
        "for the decoder, at T2; means nothing where no tooth stays",
    )  # fmt: skip
    return Interface(
        title="Alignment model fc",
        task="Latents of a mouth at T1 to latents at T2",
        inputs=(before, *_masks()),
        outputs=(after,),
        outside="Encoder before it; after it the decoder, and dentalign.geometry.rigid.fit for each tooth.",
    )


def _of_poses(config: AlignmentConfig) -> Interface:
    pose = ("N", SLOT_COUNT, 4, 4)
    return Interface(
        title=f"Alignment model {config.model}",
        task="Poses and points of a mouth at T1 to poses at T2",
        inputs=(
            Port(
                "points", "float32", ("N", SLOT_COUNT, config.points, 3), "mm",
                f"{_POINTS}, {TOOTH_FRAME}; slots in the order {SLOT_ORDER}; "
                "without a tooth any finite number",
            ),
            Port(
                "pose", "float64", pose, "mm",
                f"at T1, tooth-local to {HEAD_FRAME}; without a tooth the identity",
            ),
            *_masks(),
        ),
        outputs=(
            Port(
                "pose_t2", "float64", pose, "mm",
                "at T2, tooth-local to head, exactly rigid; that at T1 where the model knows nothing of the "
                "slot; the identity where no tooth stays",
            ),
            Port(
                "expected_add_mm", "float32", ("N", SLOT_COUNT), "mm",
                "how far off the model expects the tooth to be; not a number where no tooth stays or the "
                "model knows nothing of the slot",
            ),
        ),
        outside="Nothing: poses go in and poses come out.",
    )  # fmt: skip
