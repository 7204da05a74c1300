"""From clouds to latents: encoding of every tooth at T1 and T2, with one neighbour graph for both."""

import functools
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.autoencoder.encoder import Encoder, EncoderConfig
from dentalign.autoencoder.neighbours import nearest_neighbours
from dentalign.autoencoder.settings import EncoderFile
from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import DentalignError
from dentalign.files import weights
from dentalign.files.hashing import sha256_file
from dentalign.geometry import rigid
from dentalign.mouth import Mouth
from dentalign.running import pool, profiling
from dentalign.running.device import choose_device
from dentalign.running.pool import Engine
from dentalign.running.progress import track

STATES_AT_ONCE = 2  # on a CPU: T1 and T2 of a mouth; work on fewer is over before a second thread begins


class ToothEncoder:
    """Encoder, read from a weights file, that encodes the teeth of a mouth."""

    def __init__(self, path: str | Path, device: str):
        self.network = weights.load(path, Encoder, EncoderConfig).to(choose_device(device))
        self.config = self.network.config
        self.device = next(self.network.parameters()).device

    @torch.inference_mode()
    def encode(
        self, points: NDArray[np.floating], pose: NDArray[np.float64], present: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Encode the 32 slots in each of S states of a mouth (T1, T2, moved copies).

        points  : (32, P, 3), tooth-local mm
        pose    : (S, 32, 4, 4), tooth-local -> head, mm
        present : (S, 32) bool
        returns : (S, 32, P, features) float32, 0 where present is False
        """
        latents = np.zeros((*present.shape, self.config.points, self.config.features), np.float32)
        slots = np.flatnonzero(present.any(0))
        if not len(slots):
            return latents
        local = torch.from_numpy(points[slots] - points[slots].mean(1, keepdims=True)).float()
        head = np.stack([rigid.apply(state[slots], points[slots]) for state in pose]).astype(np.float32)

        graph = nearest_neighbours(local.to(self.device), self.config.neighbours)  # (B, P, k)
        at_once = STATES_AT_ONCE if self.device.type == "cpu" else len(present)
        for start in range(0, len(present), at_once):
            states = slice(start, start + at_once)
            given = torch.from_numpy(head[states]).to(self.device)
            latents[states, slots] = self.network.encode_states(given, graph).cpu().numpy()
        latents[~present] = 0
        return latents


def encode_shard(clouds: str | Path, settings: EncoderFile, out: str | Path, engine: Engine = "local") -> int:
    """Write the latents of one shard, in bounded memory; returns its number of cases.

    raises: DentalignError where the encoder needs another number of points per tooth
    """
    file = Path(settings.weights)
    sha256, remote = sha256_file(file), engine != "local"
    # On a cluster the GPU is that of a worker, and all workers must compute alike.
    device = settings.device if not remote else ("cuda" if settings.device == "cuda" else "cpu")
    config = _encoder(str(file), sha256, "cpu" if remote else device).config
    with MouthStore(clouds) as source:
        if source.layout.points != config.points:
            raise DentalignError(
                f"{file}: made for {config.points} points a tooth, "
                f"{clouds} has {source.layout.points}; set sample.points to {config.points}"
            )
        attributes = {"shard": source.attributes["shard"], "encoder_sha256": sha256}
        how = (str(file.resolve() if remote else file), sha256, device, settings.threads)
        calls = ((*how, source.mouth(index)) for index in range(len(source)))
        layout = replace(source.layout, features=config.features)
        with (
            mouth_store.create(out, layout, attributes) as writer,
            closing(pool.starmap(encode_mouth, calls, engine, gpu=device == "cuda")) as encoded,
        ):
            for mouth in track(encoded, "encoding", len(source)):
                writer.append(mouth)
                profiling.step()
            for record in ("left_out", "listed"):
                writer.write_record(record, source.record(record))
        return len(source)


def encode_mouth(encoder_weights: str, sha256: str, device: str, threads: int, mouth: Mouth) -> Mouth:
    """Return the mouth with its latents (float16).

    raises: DentalignError where the weights file is not the one with this SHA-256
    """
    torch.set_num_threads(threads)
    latents = _encoder(encoder_weights, sha256, device).encode(mouth.points, mouth.pose, mouth.present)
    return replace(mouth, latents=torch.from_numpy(latents).half().numpy())  # numpy takes many times as long


@functools.lru_cache(maxsize=1)
def _encoder(path: str, sha256: str, device: str) -> ToothEncoder:
    if sha256_file(path) != sha256:
        raise DentalignError(
            f"{path}: the worker's file differs from that of the pipeline stage; share the project's folder"
        )
    return ToothEncoder(path, device)
