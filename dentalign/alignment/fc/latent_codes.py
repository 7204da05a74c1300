"""Training set of the model `fc`: latent codes of all training cases and of moved and mirrored copies.

Latents cannot be moved. The points of each copy are moved and encoded, and only the latent codes are kept,
9 kB per copy, with the centroids, from which training computes the conditions of the copy's plan.
"""

import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from dentalign.alignment import conditions
from dentalign.alignment.fc.latent_basis import LatentBasis
from dentalign.autoencoder.encoding import ToothEncoder
from dentalign.dataset.mouth_store import MouthStore
from dentalign.files.atomic import replacing
from dentalign.files.hashing import sha256
from dentalign.geometry import rigid
from dentalign.mouth import T1, T2, Mouth, copies
from dentalign.params import NotNegative, Positive, Section
from dentalign.running.locks import exclusive
from dentalign.running.progress import track
from dentalign.running.state_dir import state_dir

BASIS_STATES = 400  # at most so many states (T1 or T2 of a mouth or its mirror image) is the basis fitted to


class Augmentation(Section):
    """Section `train.fc.augmentation` of params.yaml: mirrored and moved copies of each training case."""

    copies: Positive = 8
    rotation_deg: Annotated[float, Field(ge=0)] = 6.0
    translation_mm: Annotated[float, Field(ge=0)] = 3.0
    seed: NotNegative = 0


@dataclass(frozen=True)
class LatentCodes:
    """Latent codes of C copies of N training cases at T1 and T2.

    z        : (N, C, 2, 32, d) float32, 0 in slots without a tooth
    present  : (N, C, 2, 32) bool, slots with a tooth
    centroid : (N, C, 2, 32, 3) float32, centroids, head coordinates of the copy, mm
    held     : (N, C, 32) bool, teeth that the plan does not move, see `conditions.unmoved`
    extent   : (N, C, 32, 3) float32, extents of the crowns along the axes of the tooth-local frame, mm
    basis    : basis of the latent codes
    """

    z: NDArray[np.float32]
    present: NDArray[np.bool_]
    centroid: NDArray[np.float32]
    held: NDArray[np.bool_]
    extent: NDArray[np.float32]
    basis: LatentBasis


def prepare(
    store: MouthStore, encoder: ToothEncoder, components: int, augmentation: Augmentation, key: str
) -> LatentCodes:
    """Compute the latent codes of the train split, or read them if they were computed before with this key.

    components : d, length of the latent code of a tooth
    key        : hash of everything that the codes depend on, see `loop.checkpoint_key`
    """
    path = state_dir() / "latent_codes" / f"{key}.npz"
    with exclusive(path):
        codes = _read(path)
        if codes is None:
            codes = _compute(store, encoder, components, augmentation)
            basis = codes.basis
            with replacing(path) as part, open(part, "wb") as file:
                np.savez(
                    file, z=codes.z, present=codes.present, centroid=codes.centroid, held=codes.held,
                    extent=codes.extent,
                    mean=basis.mean, basis=basis.basis, spread=basis.spread,
                )  # fmt: skip
    return codes


def _read(path: Path) -> LatentCodes | None:
    if not path.is_file():
        return None
    try:
        with np.load(path) as saved:  # zip has a checksum of each array
            basis = LatentBasis(*(torch.from_numpy(saved[name]) for name in ("mean", "basis", "spread")))
            names = "z", "present", "centroid", "held", "extent"
            return LatentCodes(**{name: saved[name] for name in names}, basis=basis)
    except (OSError, ValueError, LookupError, zipfile.BadZipFile):
        print(f"{path}: damaged, made again", file=sys.stderr, flush=True)
        return None


def _compute(
    store: MouthStore, encoder: ToothEncoder, components: int, augmentation: Augmentation
) -> LatentCodes:
    rows = store.rows_of("train")
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), BASIS_STATES // 4)).astype(int))]
    states = (
        state
        for index in chosen
        for copy, latents in _encoded(store.mouth(int(index), latents=False), encoder, augmentation, 2)
        for state in zip(latents, copy.present, strict=True)
    )
    basis = LatentBasis.fit(states, components)
    shape = (len(rows), augmentation.copies, 2, 32)
    z, present = np.zeros((*shape, components), np.float32), np.zeros(shape, bool)
    centroid, held = np.zeros((*shape, 3), np.float32), np.zeros((*shape[:2], 32), bool)
    extent = np.zeros((*shape[:2], 32, 3), np.float32)
    on_device = basis.to(encoder.device)
    for number, index in enumerate(track(rows, "moving and encoding", len(rows))):
        mouth = store.mouth(int(index), latents=False)
        encoded = _encoded(mouth, encoder, augmentation, augmentation.copies)
        for k, (copy, latents) in enumerate(encoded):
            code = on_device.encode(torch.from_numpy(latents).to(encoder.device)).cpu().numpy()
            present[number, k] = copy.present
            z[number, k] = code * copy.present[..., None]  # (2, 32, d)
            centroid[number, k] = centroids(copy.points, copy.pose)
            extent[number, k] = np.ptp(copy.points, axis=1)
            at_t1, at_t2 = (
                (torch.from_numpy(copy.pose[stage, :, :3, :3]), torch.from_numpy(centroid[number, k, stage]))
                for stage in (T1, T2)
            )
            held[number, k] = copy.stays & conditions.unmoved(at_t1, at_t2).numpy()
    return LatentCodes(z, present, centroid, held, extent, basis)


def centroids(points: NDArray[np.float32], pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centroids (..., 2, 32, 3) of teeth with points (..., 32, P, 3) at poses (..., 2, 32, 4, 4), mm."""
    return rigid.apply(pose, points.mean(-2)[..., None, :, None, :])[..., 0, :]


def _encoded(
    mouth: Mouth, encoder: ToothEncoder, augmentation: Augmentation, count: int
) -> Iterator[tuple[Mouth, NDArray[np.float32]]]:
    """Yield each copy of a case and its latents (2, 32, P, F)."""
    rng = np.random.default_rng(int(sha256(f"{augmentation.seed}/{mouth.case_id}")[:16], 16))
    made = copies(mouth, count, rng, augmentation.rotation_deg, augmentation.translation_mm)
    encoded: dict[int, NDArray[np.float32]] = {}
    for side in range(min(2, count)):  # the mouth and its mirror image: the same points, so one graph for all
        same = made[side::2]
        pose, present = (np.concatenate([getattr(m, name) for m in same]) for name in ("pose", "present"))
        latents = encoder.encode(same[0].points, pose, present)
        encoded |= zip(range(side, count, 2), np.split(latents, len(same)), strict=True)
    for number, copy in enumerate(made):
        yield copy, encoded[number]
