"""The same inputs, seed and number of threads give the same bytes, whatever a file or folder is called.

That every stage does so is held by tests/pipeline/test_faults.py, which runs each of them again and compares.
"""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.autoencoder.encoder import Encoder, EncoderConfig
from dentalign.files import weights
from dentalign.training import loop
from tests.training.test_training_loop import Line


def test_weights_are_the_same_bytes_under_any_name(tmp_path: Path) -> None:
    builders: list[Callable[[], nn.Module]] = [
        lambda: Encoder(EncoderConfig(16)),
        lambda: Decoder(DecoderConfig(8)),
    ]
    for build in builders:
        files = [tmp_path / "a.pt", tmp_path / "some" / "other-name.weights"]
        for file in files:
            torch.manual_seed(0)
            weights.save(file, build())
        first, second = (file.read_bytes() for file in files)
        assert first == second
        names = zipfile.ZipFile(io.BytesIO(first)).namelist()
        # torch.save to a path would put the name of the file here.
        assert {name.split("/")[0] for name in names} == {"archive"}


def test_a_training_writes_the_same_checkpoint_bytes_under_any_name(state: Path) -> None:
    schedule = loop.Schedule(3, 9, 0.01)
    for name in ("a", "some/other"):
        loop.train(Line(), schedule, 0, name, lambda *_: None)
    first, second = ((state / "checkpoints" / f"{name}.pt").read_bytes() for name in ("a", "some/other"))
    assert first == second


def test_what_is_read_back_is_written_again_as_the_same_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights.save(tmp_path / "a.pt", Decoder(DecoderConfig(8)))
    weights.save(tmp_path / "b.pt", weights.load(tmp_path / "a.pt", Decoder, DecoderConfig))
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
