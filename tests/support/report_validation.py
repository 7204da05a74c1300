"""A small made-up data set and models for the tests of the validation: its figures are known."""

from pathlib import Path

import numpy as np
import torch

from dentalign.alignment.base import AlignmentConfig
from dentalign.alignment.fc.latent_basis import LatentBasis
from dentalign.alignment.fc.model import FullyConnectedModel
from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.autoencoder.encoder import Encoder, EncoderConfig
from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout
from dentalign.files import weights
from dentalign.files.hashing import sha256_file
from dentalign.geometry import rigid
from dentalign.geometry.sampling import directions
from dentalign.mouth import T1, T2, Mouth
from dentalign.teeth import SLOT_INDEX
from dentalign.validation.measurement import Validate

POINTS, FEATURES, ENCODER = 16, 4, "e" * 64
TEETH = (36, 35, 33, 31, 41, 13, 11, 21, 26)
EXTRACTED, LATE = SLOT_INDEX[35], SLOT_INDEX[26]  # T1 only and T2 only, in every second case
SPLITS = ("train", "test", "val", "test", "train", "test")
SHIFT_MM = 1.25
SETTINGS = Validate(batch_cases=2, threads=1, device="cpu", solver=False)


def small_latents(
    path: Path, splits: tuple[str, ...] = SPLITS, encoder: str = ENCODER, t1_only: str = ""
) -> Path:
    """Teeth on a line, each moved by SHIFT_MM along y (three times that in test); a latent is the point.

    t1_only : a split whose cases have no tooth at T2
    """
    rng = np.random.default_rng(1)
    with mouth_store.create(path, Layout(POINTS, FEATURES), {"encoder_sha256": encoder}) as writer:
        for number, split in enumerate(splits):
            points = np.zeros((32, POINTS, 3), np.float32)
            pose = np.broadcast_to(np.eye(4), (2, 32, 4, 4)).copy()
            present = np.zeros((2, 32), np.bool_)
            latents = np.zeros((2, 32, POINTS, FEATURES), np.float16)
            for slot in (SLOT_INDEX[fdi] for fdi in TEETH):
                points[slot] = directions(POINTS) * rng.uniform(3, 4, 3)
                for stage in (T1, T2):
                    missing = EXTRACTED if stage == T2 else LATE
                    if (number % 2 and slot == missing) or (split == t1_only and stage == T2):
                        continue
                    shift = SHIFT_MM * (stage == T2) * (3 if split == "test" else 1)
                    present[stage, slot] = True
                    pose[stage, slot, :3, 3] = 7.0 * (slot % 16) - 50, shift, 20.0 * (slot // 16)
                    latents[stage, slot, :, :3] = rigid.apply(pose[stage, slot], points[slot])
            writer.append(
                Mouth(points, pose, present, latents=latents, case_id=f"case-{number}", split=split)
            )
    return path


def small_encoder(folder: Path) -> str:
    """Write an untrained encoder.pt for such latents; returns its SHA-256."""
    torch.manual_seed(0)
    weights.save(folder / "encoder.pt", Encoder(EncoderConfig(POINTS, 4, 3, 6, FEATURES)))
    return sha256_file(folder / "encoder.pt")


def small_models(folder: Path, encoder: str = ENCODER) -> tuple[Path, Path]:
    """Write a decoder that returns a latent's first three numbers, and a model that moves nothing."""
    decoder = Decoder(DecoderConfig(FEATURES, 8))
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        decoder.straight.weight[:, :3] = torch.eye(3)
    weights.save(folder / "decoder.pt", decoder)
    width = POINTS * FEATURES
    basis = torch.linalg.qr(torch.randn(32, width, 5, generator=torch.Generator().manual_seed(0)))[0]
    network = {"components": 5, "hidden": 8, "blocks": 1, "dropout": 0.0}
    decoder_sha256 = sha256_file(folder / "decoder.pt")
    torch.manual_seed(0)
    config = AlignmentConfig("fc", POINTS, FEATURES, network, encoder, decoder_sha256)
    model = FullyConnectedModel(config)
    model.set_basis(LatentBasis(torch.zeros(32, width), basis, torch.ones(32, 5)))
    model.network.from_movement.fill_(1.0)  # slots that have been learnt
    weights.save(folder / "alignment.pt", model)
    return folder / "decoder.pt", folder / "alignment.pt"
