"""Teeth encoded per second, against the usual way with torch_geometric, side by side.

    python -m pip install torch_geometric
    python benchmarks/encoding.py

The peer is what earlier attempts did, in inference mode: tooth by tooth and stage by stage, a graph of
nearest neighbours (torch_cluster where it is installed, else scipy's cKDTree, which is about as fast), then
three `ChebConv` layers. Both have the same weights and give the same latents; that is checked first. The
teeth are those of `data/clouds` (`make demo` makes them).
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timing
import torch
from scipy.spatial import cKDTree
from torch.nn import functional

from dentalign.autoencoder.encoder import Encoder
from dentalign.autoencoder.encoding import ToothEncoder
from dentalign.autoencoder.neighbours import nearest_neighbours
from dentalign.dataset.mouth_store import MouthStore
from dentalign.mouth import Mouth
from dentalign.running import allocator


class Peer:
    """The encoder's function by torch_geometric, one tooth at a time."""

    def __init__(self, encoder: Encoder):
        from torch_geometric.nn import ChebConv

        self.encoder, self.layers = encoder, []
        for layer in (encoder.first, encoder.second, encoder.third):
            inputs = layer.linear.in_features // layer.terms
            conv = ChebConv(
                inputs, layer.linear.out_features, layer.terms, normalization="rw", flow="target_to_source"
            )
            for lin, weight in zip(conv.lins, layer.linear.weight.split(inputs, dim=1), strict=True):
                lin.weight.data.copy_(weight)
            conv.bias.data.copy_(layer.linear.bias)
            self.layers.append(conv.eval())
        self.knn = _torch_cluster() or _kd_tree

    @torch.inference_mode()
    def tooth(self, head: torch.Tensor) -> torch.Tensor:
        """Points (P, 3), head coordinates -> latent (P, F)."""
        graph = self.knn(head, self.encoder.config.neighbours)  # (2, P k): a point, its neighbour
        x = (head - self.encoder.centre) / self.encoder.scale
        for number, layer in enumerate(self.layers):
            x = layer(x, graph, lambda_max=torch.tensor(2.0))
            x = functional.silu(x) if number < 2 else x
        return x


def _kd_tree(points: torch.Tensor, count: int) -> torch.Tensor:
    found = cKDTree(points.numpy()).query(points.numpy(), count + 1)[1]
    rows = np.arange(len(found))[:, None]
    others = found[found != rows].reshape(len(found), count)
    return torch.from_numpy(np.stack([np.repeat(rows[:, 0], count), others.reshape(-1)]))


def _torch_cluster() -> Callable[[torch.Tensor, int], torch.Tensor] | None:
    try:
        from torch_cluster import knn_graph
    except ImportError:
        return None
    return lambda points, count: knn_graph(points, count).flip(0)


def in_head_frame(mouth: Mouth) -> list[torch.Tensor]:
    """Points of every tooth at T1 and at T2, (P, 3) each."""
    teeth = []
    for pose, present in zip(mouth.pose, mouth.present, strict=True):
        for slot in np.flatnonzero(present):
            head = mouth.points[slot] @ pose[slot, :3, :3].T + pose[slot, :3, 3]
            teeth.append(torch.from_numpy(head.astype(np.float32)))
    return teeth


def compare(mouths: list[Mouth], weights: str, threads: int, rounds: int) -> None:
    """Print the table for one number of threads."""
    torch.set_num_threads(threads)
    ours = ToothEncoder(weights, "cpu")
    peer = Peer(ours.network)
    teeth = [tooth for mouth in mouths for tooth in in_head_frame(mouth)]

    def encode_mouths() -> list[np.ndarray]:
        return [ours.encode(mouth.points, mouth.pose, mouth.present) for mouth in mouths]

    def encode_teeth() -> list[torch.Tensor]:
        return [peer.tooth(tooth) for tooth in teeth]

    found = np.concatenate([e[m.present] for e, m in zip(encode_mouths(), mouths, strict=True)])
    wanted = torch.stack(encode_teeth()).numpy()
    off = np.abs(found - wanted).max((1, 2)) / np.abs(wanted).max()
    print(f"largest difference of a tooth from the peer's, of the largest latent: {off.max():.1e}")

    # Each part by itself, for the teeth of a mouth as in `encode`.
    points = torch.from_numpy(np.stack([t.numpy() for t in teeth[:56]])).reshape(2, 28, -1, 3)
    local = points[0] - points[0].mean(1, keepdim=True)
    graph = nearest_neighbours(local, ours.config.neighbours)
    layers = [layer.linear for layer in (ours.network.first, ours.network.second, ours.network.third)]
    inputs = [torch.rand(56 * points.shape[2], layer.in_features) for layer in layers]

    @torch.inference_mode()
    def forward() -> None:
        ours.network.encode_states(points, graph)

    @torch.inference_mode()
    def products() -> None:
        for layer, x in zip(layers, inputs, strict=True):
            functional.linear(x, layer.weight)

    def neighbours() -> None:
        nearest_neighbours(local, ours.config.neighbours)

    names: dict[str, tuple[Callable[[], object], int]] = {
        "peer, whole": (encode_teeth, len(teeth)),
        "dentalign, whole": (encode_mouths, len(teeth)),
        "dentalign, neighbours alone": (neighbours, 28),
        "dentalign, network alone": (forward, 56),
        "its matrix products alone": (products, 56),
    }
    clock = time.process_time if threads == 1 else time.perf_counter
    timed = timing.interleaved({name: call for name, (call, _) in names.items()}, rounds, clock)
    print(f"{threads} thread(s){'':32}teeth/s")
    for name, (_, count) in names.items():
        print(f"  {name:40} {count / timed[name].median_s:8.0f}")
    low, middle, high = timed["dentalign, whole"].times_faster_than(timed["peer, whole"])
    print(f"  whole, times faster than the peer        {middle:8.1f} (quartiles {low:.1f} to {high:.1f})")
    share = timed["its matrix products alone"].median_s / timed["dentalign, network alone"].median_s
    print(f"  network, share of its matrix products    {share:8.2f}")


def main() -> None:
    """Measure with 1 and with 2 threads, each in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clouds", type=Path, default=Path("data/clouds/shard-000.h5"))
    parser.add_argument("--weights", default="models/encoder.pt")
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, help="only this number, in this process")
    given = parser.parse_args()
    allocator.keep_freed_memory()  # as every command does; the peer gains as well
    if given.threads:
        with MouthStore(given.clouds) as store:
            mouths = [store.mouth(index) for index in range(min(given.cases, len(store)))]
        compare(mouths, given.weights, given.threads, given.rounds)
        return
    print(timing.machine())
    for threads in (1, 2):
        subprocess.run([sys.executable, *sys.argv, "--threads", str(threads)], check=True)


if __name__ == "__main__":
    main()
