"""Effect of half precision latents on the model. Part of `storage.py`."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from dentalign.alignment import training
from dentalign.alignment.training import Train, train_align
from dentalign.autoencoder.encoding import ToothEncoder
from dentalign.dataset.mouth_store import MouthStore
from dentalign.running import state_dir
from dentalign.validation import measurement
from dentalign.validation.measurement import Validate, validate


class InSinglePrecision(MouthStore):
    """A file whose latents are encoded anew from its points instead of read."""

    encoder: ToothEncoder

    def column(self, name: str, rows: Any = slice(None)) -> np.ndarray:
        """Column as in the file, latents in float32."""
        if not name.endswith("/latents"):
            return super().column(name, rows)
        found = []
        for index in np.arange(len(self))[rows]:
            mouth = self.mouth(int(index), latents=False)
            stage = slice(0, 1) if name.startswith("t1") else slice(1, 2)
            found.append(self.encoder.encode(mouth.points, mouth.pose[stage], mouth.present[stage])[0])
        return np.stack(found)


def compare(latents: Path, encoder: str, decoder: str, epochs: int) -> None:
    """Train `fc` and validate it on the test split, once on each, and print `add_mm`."""
    InSinglePrecision.encoder = ToothEncoder(encoder, "cpu")
    found = {}
    for name, store in (("float16", MouthStore), ("float32", InSinglePrecision)):
        for module in (training, measurement):
            vars(module)["MouthStore"] = store
        with tempfile.TemporaryDirectory() as folder, state_dir.kept_in(folder):
            model, log = Path(folder) / "alignment.pt", Path(folder) / "log"
            train_align(latents, encoder, decoder, model, log, Train(epochs=epochs, device="cpu"))
            metrics = validate(latents, decoder, model, Validate(device="cpu")).metrics
        found[name] = metrics["model"]["add_mm"], metrics["reconstruction_mm"]
        print(f"{name}: add_mm {found[name][0]:.4f}, reconstruction_mm {found[name][1]:.4f}", flush=True)
    change = found["float16"][0] / found["float32"][0] - 1
    print(f"add_mm on float16 against float32: {100 * change:+.2f} % (wanted: at most 1 % either way)")
