"""Made-up mouths by the thousand for the benchmarks and tests, without a file per case.

A tooth is an ellipsoid with a wavy surface, its points in anatomical order; T2 is the average mouth, where
it stands clear of its neighbours, T1 is that with every tooth shaken. Quick to make (some hundreds a second),
all of the real shape.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.autoencoder.decoder import Decoder, DecoderConfig
from dentalign.autoencoder.encoder import Encoder, EncoderConfig
from dentalign.cases.case_list import shard_of, split_of
from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout
from dentalign.files import weights
from dentalign.geometry import rigid
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.sampling import directions
from dentalign.mouth import Mouth
from dentalign.teeth import ARCHES, SLOT_COUNT, SLOTS

_WISDOM = [slot for slot, fdi in enumerate(SLOTS) if fdi % 10 == 8]
_TEETH = 28
_WAVE_MM = 0.3


@functools.cache
def _room_mm() -> NDArray[np.float64]:
    """Half axes (32, 3) of crowns that stand clear of their neighbours, as those of real mouths nearly do."""
    place = average_mouth().position
    room = np.full((SLOT_COUNT, 3), 5.0)
    for slots in ARCHES.values():
        steps = np.linalg.norm(np.diff(place[slots], axis=0), axis=1)
        nearest = np.minimum(np.append(steps, np.inf), np.insert(steps, 0, np.inf))
        room[slots, :2] = nearest[:, None] / 2 - _WAVE_MM
    return room


def case_ids(count: int) -> list[str]:
    """Names of `count` cases."""
    return [f"synthetic-{number:06d}" for number in range(count)]


def mouth(case_id: str, points: int) -> Mouth:
    """A mouth of 28 teeth at T1 and T2, the same for the same name."""
    rng = np.random.default_rng([*case_id.encode()])
    present = np.ones((2, SLOT_COUNT), bool)
    present[:, _WISDOM] = False
    here = present[0]
    end = rigid.from_rotation(np.tile(np.eye(3), (SLOT_COUNT, 1, 1)), average_mouth().position)
    rotation = rigid.rotation_matrix(rng.normal(0, 0.1, (SLOT_COUNT, 3)))
    begin = end @ rigid.from_rotation(rotation, rng.normal(0, 1, (SLOT_COUNT, 3)))
    axes = rng.uniform(0.8, 1, (SLOT_COUNT, 1, 3)) * _room_mm()[:, None]
    waves = np.sin(directions(points) @ rng.normal(0, 2, (SLOT_COUNT, 3, 3)))  # up to 1
    crowns = directions(points) * axes + _WAVE_MM * waves
    return Mouth(
        (crowns * here[:, None, None]).astype(np.float32),
        np.where(present[..., None, None], np.stack([begin, end]), np.eye(4)),
        present,
        np.array(SLOTS, np.uint8) * here,
        case_id=case_id,
        split=split_of(case_id),
    )


def write_clouds(folder: Path, ids: Sequence[str], shards: Sequence[str], points: int) -> list[Path]:
    """Write the clouds of the cases, shard by shard as sample_clouds does; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for shard in shards:
        mine = sorted(case_id for case_id in ids if shard_of(case_id, shards) == shard)
        files.append(folder / f"{shard}.h5")
        with mouth_store.create(files[-1], Layout(points), {"shard": shard}) as writer:
            for case_id in mine:
                writer.append(mouth(case_id, points))
            writer.write_record("left_out", [])
            writer.write_record("listed", {"cases": len(mine), "teeth": _TEETH * len(mine)})
    return files


def write_networks(encoder: Path, decoder: Path, points: int) -> None:
    """Write an untrained encoder and decoder of the real shape, enough to measure time and memory."""
    torch.manual_seed(0)
    for path, network in (
        (encoder, Encoder(replace(EncoderConfig(), points=points))),
        (decoder, Decoder(DecoderConfig())),
    ):
        network.centre.copy_(torch.tensor([0.0, -25.0, 0.0]))
        network.scale.fill_(20.0)
        path.parent.mkdir(parents=True, exist_ok=True)
        weights.save(path, network)


def mouths_with_latents(ids: Sequence[str], points: int, features: int) -> Iterator[Mouth]:
    """Yield mouths whose latents are noise, in the order given: for what reads and writes them unseen."""
    rng = np.random.default_rng(0)
    for case_id in ids:
        made = mouth(case_id, points)
        latents = rng.standard_normal((2, SLOT_COUNT, points, features), dtype=np.float32)
        yield replace(made, latents=(latents * made.present[..., None, None]).astype(np.float16))
