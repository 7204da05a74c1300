"""The alignment models by name, and their weights files."""

from pathlib import Path

from dentalign.alignment.attention.model import AttentionModel
from dentalign.alignment.base import AlignmentConfig, AlignmentModel
from dentalign.alignment.fc.model import FullyConnectedModel
from dentalign.errors import DentalignError
from dentalign.files import weights

MODELS: dict[str, type[AlignmentModel]] = {"fc": FullyConnectedModel, "attention": AttentionModel}


def save(path: str | Path, alignment_model: AlignmentModel) -> None:
    """Write an alignment model's weights file, all or nothing."""
    weights.save(path, alignment_model)


def load(path: str | Path) -> AlignmentModel:
    """An alignment model in eval mode; raises DentalignError where the file is none."""
    content = weights.read(path)
    config = content["config"]
    model = config.get("model") if isinstance(config, dict) else None
    if model not in MODELS:
        raise DentalignError(f"{path}: no alignment model, or one of another version (model: {model!r})")
    loaded = weights.restored(content, path, MODELS[model], AlignmentConfig)
    try:
        _ = loaded.patterns
    except (TypeError, ValueError) as error:
        raise DentalignError(f"{path}: what it says of its training cases is not readable: {error}") from None
    return loaded
