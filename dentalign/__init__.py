"""dentalign: from orthodontic cases to a predicted treatment target.

Public names are imported on first use, so that a pipeline stage, which loads this file, imports none of them.
"""

import importlib
import os
from typing import Any

# OpenMP's threads spin for a while before they sleep. libgomp's default is thirty times as long: with two
# such programs on two cores a training step takes four times as long, an encoding twice. Alone, this value
# costs an encoding a fifth; OMP_WAIT_POLICY=PASSIVE costs it two thirds. libgomp reads it when torch is
# imported, so it is set here.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_PUBLIC = {
    "Mouths": "dentalign.mouth",
    "PredictedT2": "dentalign.alignment.base",
    "Prediction": "dentalign.prediction.predictor",
    "Predictor": "dentalign.prediction.predictor",
    "find_models": "dentalign.prediction.model_sets",
    "load_alignment_model": "dentalign.prediction.model_files",
    "load_decoder": "dentalign.prediction.model_files",
    "load_encoder": "dentalign.prediction.model_files",
}


def __getattr__(name: str) -> Any:
    """Import a public name; `__version__` comes from the metadata of the installed package."""
    if name == "__version__":
        from importlib.metadata import version

        return version("dentalign")
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'dentalign' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "__version__", *_PUBLIC})
