"""Alignment models by name, and their weights files."""

from pathlib import Path

from dentalign.alignment.attention.training import AttentionTraining
from dentalign.alignment.base import AlignmentConfig, AlignmentModel, ModelTraining
from dentalign.alignment.fc.training import FullyConnectedTraining
from dentalign.errors import DentalignError
from dentalign.files import weights

# Name in params.yaml and in the weights file -> type of the section `train.<name>`, with the class `model`.
MODELS: dict[str, type[ModelTraining]] = {
    "fc": FullyConnectedTraining,
    "attention": AttentionTraining,
}


def load(path: str | Path) -> AlignmentModel:
    """Load an alignment model in eval mode; `fc` also needs a decoder (`with_decoder`).

    raises : DentalignError where the file is missing or damaged, or is not an alignment model
    """
    path = Path(path)
    old, new = path.with_name("aligner.pt"), path.with_name("alignment.pt")
    if path == old or (path == new and old.is_file() and not new.is_file()):
        raise DentalignError(f"{old}: its name must now be {new.name}. Rename it: `mv {old} {new}`")
    config = weights.read(path)["config"]
    name = config.get("model") if isinstance(config, dict) else None
    if name not in MODELS:
        raise DentalignError(f"{path}: not an alignment model, or one of another version (model: {name!r})")
    model = weights.load(path, MODELS[name].model, AlignmentConfig)
    try:
        _ = model.patterns
    except (TypeError, ValueError) as error:
        raise DentalignError(
            f"{path}: the patterns of absent teeth in its config cannot be read ({error}); train it again"
        ) from None
    return model
