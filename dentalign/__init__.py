"""dentalign: from orthodontic cases to a predicted treatment target.

Imports of this package stay lazy: every stage reaches this file, and none may depend on more than it uses.
"""

import importlib
from typing import Any

# By name, so that the stages, which all pass through here, do not reach these modules.
_OFFERED = {
    "Mouths": "dentalign.mouth",
    "PredictedT2": "dentalign.alignment.base",
    "Prediction": "dentalign.prediction.predictor",
    "Predictor": "dentalign.prediction.predictor",
    "load_alignment_model": "dentalign.prediction.model_files",
    "load_decoder": "dentalign.prediction.model_files",
    "load_encoder": "dentalign.prediction.model_files",
}


def __getattr__(name: str) -> Any:
    """`dentalign.__version__`, from the installed package's metadata, and what is offered."""
    if name == "__version__":
        from importlib.metadata import version

        return version("dentalign")
    if name in _OFFERED:
        return getattr(importlib.import_module(_OFFERED[name]), name)
    raise AttributeError(f"module 'dentalign' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "__version__", *_OFFERED})
