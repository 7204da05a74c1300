"""Clouds -> latents: every tooth of a case at T1 and T2 through the encoder, on one graph."""

import functools
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign import engines, params, profiling
from dentalign.dataset import case_store
from dentalign.dataset.case_store import CaseStore, Layout, Row
from dentalign.errors import DentalignError
from dentalign.geometry import rigid
from dentalign.networks import weights
from dentalign.networks.encoder import Encoder, EncoderConfig
from dentalign.networks.neighbours import nearest_neighbours
from dentalign.params import Engine
from dentalign.progress import track

Latents = NDArray[np.float32]

# On a CPU: T1 and T2 of a mouth. Work on fewer teeth is over before a second thread has begun, and Python's
# own threads would wait for each other between the short operations.
STATES_AT_ONCE = 2


class ToothEncoder:
    """The encoder of a weights file, ready to encode the teeth of a case; keeps no gradients."""

    def __init__(self, path: str | Path, device: str):
        self.network = weights.load(path, Encoder, EncoderConfig).to(choose_device(device))
        self.config = self.network.config
        self.device = next(self.network.parameters()).device

    @torch.inference_mode()
    def encode(
        self, points: NDArray[np.floating], poses: NDArray[np.float64], masks: NDArray[np.bool_]
    ) -> Latents:
        """Latents of the 32 slots in each of S states of the mouth (T1, T2, moved copies).

        points  : (32, P, 3), tooth-local mm
        poses   : (S, 32, 4, 4), tooth-local -> head, mm
        masks   : (S, 32) bool
        returns : (S, 32, P, features) float32, zero where masked
        """
        latents = np.zeros((*masks.shape, self.config.points, self.config.features), np.float32)
        slots = np.flatnonzero(masks.any(0))
        if not len(slots):
            return latents
        local = torch.from_numpy(points[slots] - points[slots].mean(1, keepdims=True)).float()
        head = np.stack([rigid.apply(pose[slots], points[slots]) for pose in poses]).astype(np.float32)

        with profiling.span("neighbours"):
            graph = nearest_neighbours(local.to(self.device), self.config.neighbours)  # (B, P, k)
        at_once = STATES_AT_ONCE if self.device.type == "cpu" else len(masks)
        for start in range(0, len(masks), at_once):
            states = slice(start, start + at_once)
            given = torch.from_numpy(head[states]).to(self.device)
            with profiling.span("network"):
                encoded = self.network.encode_states(given, graph).cpu().numpy()
            latents[states, slots] = encoded
        latents[~masks] = 0
        return latents


def choose_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one; raises DentalignError where another is asked for in vain."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise DentalignError("device 'cuda' is asked for, but torch finds none; set it to auto or cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise DentalignError(
            f"device {device!r} is none that torch knows; set it to auto, cpu or cuda"
        ) from error


def encode_shard(
    clouds: str | Path, settings: params.Encoder, out: str | Path, engine: Engine = "local"
) -> int:
    """Write the latents of one shard; returns its number of cases. Memory does not grow with it.

    raises: DentalignError where the encoder is made for another number of points
    """
    file = Path(settings.weights)
    sha256, remote = weights.file_sha256(file), engine != "local"
    # On a cluster it is the workers that have a GPU or not, and all of them must work alike.
    device = settings.device if not remote else ("cuda" if settings.device == "cuda" else "cpu")
    config = _encoder(str(file), sha256, "cpu" if remote else device).config
    with CaseStore(clouds) as source:
        if source.layout.points != config.points:
            raise DentalignError(
                f"{file}: made for {config.points} points a tooth, "
                f"{clouds} has {source.layout.points}; set sample.points to {config.points}"
            )
        attributes = {
            "shard": source.attributes["shard"],
            "left_out": source.attributes["left_out"],
            "listed": source.attributes["listed"],
            "encoder_sha256": sha256,
        }
        how = (str(file.resolve() if remote else file), sha256, device, settings.threads)
        under_way: deque[Row] = deque()

        def calls() -> Iterator[tuple[Any, ...]]:
            for index in range(len(source)):
                under_way.append(row := source.row(index))
                yield *how, row["points"], *_states(row)

        layout = Layout(source.layout.points, config.features)
        with (
            case_store.create(out, layout, attributes) as writer,
            closing(engines.in_order(encode_case, calls(), engine, gpu=device == "cuda")) as encoded,
        ):
            for latents in track(encoded, "encoding", len(source)):
                row = under_way.popleft()
                row["t1/latents"], row["t2/latents"] = latents
                writer.append(row)
                profiling.step()
        return len(source)


def _states(row: Row) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Poses (2, 32, 4, 4) and masks (2, 32) at T1 and T2."""
    poses, masks = ([row[f"{stage}/{name}"] for stage in ("t1", "t2")] for name in ("pose", "mask"))
    return np.stack(poses), np.stack(masks)


def encode_case(
    encoder_weights: str,
    sha256: str,
    device: str,
    threads: int,
    points: NDArray[np.float32],
    poses: NDArray[np.float64],
    masks: NDArray[np.bool_],
) -> NDArray[np.float16]:
    """`ToothEncoder.encode` by the weights of a file, in the type that they are stored in.

    raises: DentalignError where the file is not the one with this SHA-256
    """
    torch.set_num_threads(threads)
    latents = _encoder(encoder_weights, sha256, device).encode(points, poses, masks)
    return torch.from_numpy(latents).half().numpy()  # as numpy rounds, many times as fast


@functools.lru_cache(maxsize=1)
def _encoder(path: str, sha256: str, device: str) -> ToothEncoder:
    if weights.file_sha256(path) != sha256:
        raise DentalignError(
            f"{path}: not the same file here as where the stage runs; share the project's folder"
        )
    return ToothEncoder(path, device)
