"""Sets of trained models that lie ready: that of the project, others beside it, and the starter weights.

Nothing here loads torch, so that `dentalign --version` stays quick.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ValidationError

from dentalign.errors import DentalignError
from dentalign.files.hashing import sha256_file
from dentalign.starter.folder import STARTER as STARTER

PROJECT = Path("models")
FILES = ("encoder.pt", "decoder.pt", "alignment.pt")
CARD = "card.json"


class Card(BaseModel):
    """Content of `card.json` beside the weights; other keys are ignored.

    trained_on : the training cases, in words
    figures    : metric or practice -> its value, or a text
    licence    : SPDX name of the licence of the weights
    sha256     : file name -> SHA-256, hexadecimal, of the weights that the card is about
    """

    trained_on: str = ""
    figures: dict[str, float | str] = {}
    licence: str = ""
    sha256: dict[str, str] = {}


@dataclass(frozen=True)
class ModelSet:
    """Folder with encoder.pt, decoder.pt and alignment.pt of one training.

    name : text for `--models`: "starter", or the path of the folder
    """

    name: str
    folder: Path

    @property
    def is_complete(self) -> bool:
        """True if all three weights files are there."""
        return all((self.folder / name).is_file() for name in FILES)

    @cached_property
    def sha256(self) -> Mapping[str, str]:
        """SHA-256, hexadecimal, of each weights file that is there, by its name."""
        return {name: sha256_file(self.folder / name) for name in FILES if (self.folder / name).is_file()}

    @cached_property
    def card(self) -> Card:
        """The card of the weights; for the project's own without a card, from its metrics.

        raises: DentalignError if `card.json` cannot be read, or is about other weights
        """
        file = self.folder / CARD
        if not file.is_file():
            return Card(figures=_measured() if self.folder == PROJECT else {})
        try:
            card = Card.model_validate_json(file.read_bytes())
        except (OSError, ValidationError) as error:
            raise DentalignError(f"{file}: not a model card ({type(error).__name__}); delete it") from None
        for name, sha256 in card.sha256.items():
            if self.sha256.get(name) != sha256:
                raise DentalignError(
                    f"{file}: is about {name} of SHA-256 {sha256[:12]}, which is not the file beside it: "
                    "take card and weights of one release"
                )
        return card

    def __str__(self) -> str:
        """Name, hash and training cases in a line."""
        cases = f", trained on {self.card.trained_on}" if self.card.trained_on else ""
        return f"{self.name} (alignment.pt {self.sha256.get('alignment.pt', 'missing')[:12]}{cases})"


def available() -> list[ModelSet]:
    """List the complete sets: `models/` of the working folder, the folders in it, the starter weights."""
    folders = [PROJECT, *sorted(PROJECT.glob("*/"))] if PROJECT.is_dir() else []
    sets = [*(ModelSet(folder.as_posix(), folder) for folder in folders), ModelSet("starter", STARTER)]
    return [one for one in sets if one.is_complete]


def find_models(given: str | None = None) -> ModelSet:
    """Find a set of models.

    given  : a path if it has a slash or exists, else a name of `available`; None for the trained models in
             `models/` of the working folder, or the starter weights if there are none
    raises : DentalignError for an unknown name
    """
    if given is None:
        trained = (PROJECT / "alignment.pt").is_file() or not ModelSet("starter", STARTER).is_complete
        return ModelSet("models", PROJECT) if trained else ModelSet("starter", STARTER)
    if "/" in given or os.sep in given or Path(given).exists():
        return ModelSet(given, Path(given))
    for one in available():
        if one.name == given:
            return one
    names = ", ".join(one.name for one in available()) or "none"
    raise DentalignError(
        f"--models {given}: no such models; there are: {names}. A folder of your own needs a slash: ./{given}"
    )


def _measured() -> dict[str, float | str]:
    """Figures of the project's validation, if it has one."""
    try:
        metrics = json.loads(Path("metrics/validation.json").read_bytes())
        return {f"add_mm {name}": float(metrics[name]["add_mm"]) for name in ("model", "identity")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
