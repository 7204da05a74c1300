"""The alignment models by name, and their weights files."""

from pathlib import Path

from dentalign.errors import DentalignError
from dentalign.networks import weights
from dentalign.networks.alignment import Aligner, AlignerConfig
from dentalign.networks.latent_aligner import LatentAligner
from dentalign.networks.pose_aligner import PoseAligner

MODELS: dict[str, type[Aligner]] = {"fc": LatentAligner, "attention": PoseAligner}


def save(path: str | Path, aligner: Aligner) -> None:
    """Write an aligner's weights file, all or nothing."""
    weights.save(path, aligner)


def load(path: str | Path) -> Aligner:
    """An aligner in eval mode; raises DentalignError where the file is none."""
    content = weights.read(path)
    config = content["config"]
    model = config.get("model") if isinstance(config, dict) else None
    if model not in MODELS:
        raise DentalignError(f"{path}: no alignment model, or one of another version (model: {model!r})")
    loaded = weights.restored(content, path, MODELS[model], AlignerConfig)
    try:
        _ = loaded.patterns
    except (TypeError, ValueError) as error:
        raise DentalignError(f"{path}: what it says of its training cases is not readable: {error}") from None
    return loaded
