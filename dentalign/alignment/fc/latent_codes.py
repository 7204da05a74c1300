"""The training set of the alignment_model: the code of every training case, moved and mirrored many times.

A rigid motion or a mirror image cannot be applied to stored latents, so the points in
`data/latents.h5` are moved and encoded again; only the code is kept, a few thousand numbers a copy.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from dentalign.alignment.fc.latent_basis import LatentBasis
from dentalign.autoencoder.encoding import ToothEncoder
from dentalign.dataset.mouth_store import MouthStore
from dentalign.files.atomic import replacing
from dentalign.files.row_file import RowFile
from dentalign.mouth import Mouth, copies
from dentalign.params import NotNegative, Positive, Section
from dentalign.running.progress import track
from dentalign.running.state_dir import state_dir

_DIGESTS = "sha256.json"

BASIS_STATES = 400  # states of the mouth (T1 or T2, plain or mirrored) that the code is fitted to


class Augmentation(Section):
    """Copies of each training case: mirror images and motions of the whole mouth."""

    copies: Positive = 8
    turn_deg: Annotated[float, Field(ge=0)] = 6.0
    shift_mm: Annotated[float, Field(ge=0)] = 3.0
    seed: NotNegative = 0


@dataclass(frozen=True)
class LatentCodes:
    """Codes of the training cases: C copies of N cases at T1 and T2.

    z     : N C rows (2, 32, d) float32, zero where masked; they lie on disk and are read as they are used
    masks : (N, C, 2, 32) bool
    basis : the code
    """

    z: RowFile
    masks: NDArray[np.bool_]
    basis: LatentBasis

    def of_case(self, case: int) -> NDArray[np.float32]:
        """z (C, 2, 32, d) of all copies of a case."""
        copies = self.masks.shape[1]
        return self.z.read_from(case * copies, copies)

    def of_copies(self, cases: NDArray[np.int64], copies: NDArray[np.int64]) -> NDArray[np.float32]:
        """z (B, 2, 32, d) of one copy of each of B cases."""
        return self.z.read(cases * self.masks.shape[1] + copies)


def prepare(
    store: MouthStore, encoder: ToothEncoder, components: int, augmentation: Augmentation, key: str
) -> LatentCodes:
    """Codes of the train split, computed once and kept in the project's state folder.

    key : a name for everything the codes depend on, see `loop.checkpoint_key`
    """
    folder = state_dir() / "latent_codes" / key
    if folder.is_dir() and not _undamaged(folder):
        print(f"{folder}: damaged, made again", file=sys.stderr, flush=True)
        shutil.rmtree(folder)
    if not folder.is_dir():
        with replacing(folder) as part:
            part.mkdir()
            _compute(store, encoder, components, augmentation, part)
            (part / _DIGESTS).write_text(json.dumps(_digests(part)), encoding="utf-8")
    basis = {name: torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("mean", "basis", "spread")}
    masks = np.load(folder / "masks.npy")
    return LatentCodes(RowFile.of_npy(folder / "z.npy", 2)[0], masks, LatentBasis(**basis))


def _digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.glob("*.npy")):
        with open(path, "rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _undamaged(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _DIGESTS).read_bytes()) == _digests(folder))
    except (OSError, ValueError):
        return False


def _compute(
    store: MouthStore, encoder: ToothEncoder, components: int, augmentation: Augmentation, folder: Path
) -> None:
    rows = store.rows_of("train")
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), BASIS_STATES // 4)).astype(int))]
    basis = LatentBasis.fit(_plain_and_mirrored(store, encoder, chosen, augmentation), components)
    np.save(folder / "mean.npy", basis.mean.numpy())
    np.save(folder / "basis.npy", basis.basis.numpy())
    np.save(folder / "spread.npy", basis.spread.numpy())
    shape = (len(rows), augmentation.copies, 2, 32)
    masks, device = np.zeros(shape, bool), encoder.device
    there = basis.to(device)
    header = {"descr": "<f4", "fortran_order": False, "shape": (*shape, components)}
    with open(folder / "z.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for number, index in enumerate(track(rows, "moving and encoding", len(rows))):
            mouth = store.mouth(int(index), latents=False)
            copies_of_it = _encoded(mouth, encoder, augmentation, augmentation.copies)
            for copy, (latents, mask) in enumerate(copies_of_it):
                code = there.encode(torch.from_numpy(latents).to(device)).cpu().numpy()  # (2, 32, d)
                masks[number, copy] = mask
                file.write((code * mask[..., None]).astype("<f4").tobytes())
    np.save(folder / "masks.npy", masks)


def _plain_and_mirrored(
    store: MouthStore, encoder: ToothEncoder, rows: NDArray[np.intp], augmentation: Augmentation
) -> Iterator[tuple[Any, Any]]:
    for index in rows:
        for latents, mask in _encoded(store.mouth(int(index), latents=False), encoder, augmentation, 2):
            yield from zip(latents, mask, strict=True)


def _encoded(
    mouth: Mouth, encoder: ToothEncoder, augmentation: Augmentation, count: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Latents (2, 32, P, F) and masks (2, 32) of each copy of a case."""
    stream = hashlib.sha256(f"{augmentation.seed}/{mouth.case_id}".encode()).digest()[:8]
    rng = np.random.default_rng(int.from_bytes(stream, "big"))
    made = copies(mouth, count, rng, augmentation.turn_deg, augmentation.shift_mm)
    encoded: dict[int, NDArray[np.float32]] = {}
    for side in range(min(2, count)):  # the mouth and its mirror image: the same points, so one graph for all
        same = made[side::2]
        poses, masks = (np.concatenate([getattr(m, name) for m in same]) for name in ("pose", "present"))
        latents = encoder.encode(same[0].points, poses, masks)
        encoded |= zip(range(side, count, 2), np.split(latents, len(same)), strict=True)
    for number, copy in enumerate(made):
        yield encoded[number], copy.present
