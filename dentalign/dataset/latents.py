"""Clouds -> latents: every tooth of a case at T1 and T2 through the encoder, on one graph."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.dataset import case_store
from dentalign.dataset.case_store import CaseStore, Layout
from dentalign.errors import DentalignError
from dentalign.geometry import rigid
from dentalign.networks import weights
from dentalign.networks.encoder import Encoder, EncoderConfig
from dentalign.networks.neighbours import nearest_neighbours
from dentalign.progress import track

Latents = NDArray[np.float32]

# On a CPU: as many as the cache of a core holds the work of.
TEETH_AT_ONCE, STATES_AT_ONCE = 7, 2


class ToothEncoder:
    """The encoder of a weights file, ready to encode the teeth of a case; keeps no gradients.

    On a CPU each of torch's threads (`torch.get_num_threads`) works on some teeth of its own: an operation
    on so few is too short to be shared. So the numbers are the same for any number of threads.
    """

    def __init__(self, path: str | Path, device: str):
        self.network = weights.load(path, Encoder, EncoderConfig).to(choose_device(device))
        self.config = self.network.config
        self.device = next(self.network.parameters()).device
        self._pool: ThreadPoolExecutor | None = None

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

        @torch.inference_mode()
        def encode_some(teeth: slice) -> None:
            graph = nearest_neighbours(local[teeth].to(self.device), self.config.neighbours)  # (B, P, k)
            for states in self._parts(len(masks), STATES_AT_ONCE):
                given = torch.from_numpy(head[states, teeth]).to(self.device)
                latents[states, slots[teeth]] = self.network.encode_states(given, graph).cpu().numpy()

        self.each_by_a_thread(encode_some, self._parts(len(slots), TEETH_AT_ONCE))
        latents[~masks] = 0
        return latents

    def each_by_a_thread(self, work: Callable[[slice], None], parts: list[slice]) -> None:
        """Call `work` with each of the parts, on a CPU several at a time, each of them on one thread."""
        threads = torch.get_num_threads()
        if self.device.type != "cpu" or threads == 1 or len(parts) == 1:
            for part in parts:
                work(part)
            return
        self._pool = self._pool or ThreadPoolExecutor(threads)
        torch.set_num_threads(1)
        try:
            list(self._pool.map(work, parts))
        finally:
            torch.set_num_threads(threads)

    def _parts(self, count: int, at_once: int) -> list[slice]:
        """Slices of `at_once`, on a GPU one of all."""
        if self.device.type != "cpu":
            return [slice(0, count)]
        return [slice(start, start + at_once) for start in range(0, count, at_once)]


def choose_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one; raises DentalignError where `cuda` is asked for in vain."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise DentalignError("device 'cuda' is asked for, but torch finds none; set it to auto or cpu")
    return torch.device(device)


def encode_shard(
    clouds: str | Path, encoder_weights: str | Path, out: str | Path, device: str, threads: int
) -> int:
    """Write the latents of one shard; returns its number of cases. Memory does not grow with it.

    raises: DentalignError where the encoder is made for another number of points
    """
    torch.set_num_threads(threads)
    encoder = ToothEncoder(encoder_weights, device)
    with CaseStore(clouds) as source:
        if source.layout.points != encoder.config.points:
            raise DentalignError(
                f"{encoder_weights}: made for {encoder.config.points} points a tooth, "
                f"{clouds} has {source.layout.points}; set sample.points to {encoder.config.points}"
            )
        attributes = {
            "shard": source.attributes["shard"],
            "left_out": source.attributes["left_out"],
            "listed": source.attributes["listed"],
            "encoder_sha256": weights.file_sha256(encoder_weights),
        }
        layout = Layout(source.layout.points, encoder.config.features)
        with case_store.create(out, layout, attributes) as writer:
            for index in track(range(len(source)), "encoding", len(source)):
                row = source.row(index)
                poses = np.stack([row["t1/pose"], row["t2/pose"]])
                masks = np.stack([row["t1/mask"], row["t2/mask"]])
                latents = torch.from_numpy(encoder.encode(row["points"], poses, masks))
                row["t1/latents"], row["t2/latents"] = latents.half().numpy()  # as numpy, many times as fast
                writer.append(row)
        return len(source)
