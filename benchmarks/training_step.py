"""A step of the training, compared with the matrix products that it needs.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --cases 1984 --device cuda

For each model three loops: the training's own, the making of its batches alone, and the matrix products of a
step alone, forward and backward, at the shapes that the step has them in. The cases are made up
(`synthetic_cases`); the numbers a step works on do not change its time.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import synthetic_cases
import timing
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dentalign.alignment.attention.training import AttentionTask, AttentionTraining
from dentalign.alignment.base import TrainingData, TrainSection
from dentalign.alignment.fc.training import FullyConnectedTask, FullyConnectedTraining
from dentalign.cases.case_list import split_of
from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import Layout, MouthStore
from dentalign.files.hashing import sha256_file
from dentalign.running import state_dir
from dentalign.running.device import choose_device

FEATURES = 32
FC_LARGE = 64  # cases a batch, as docs/performance.md has it for data sets of a thousand cases
Step = Callable[[], object]


def steps_of(task: FullyConnectedTask | AttentionTask, epochs: int) -> Step:
    """Training for so many epochs, as `loop.train` does: loss, gradients, clipping, AdamW, average."""
    network = task.network.train()
    parameters: list[torch.Tensor] = list(network.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.98), fused=True)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.99))

    def train() -> None:
        generator = torch.Generator().manual_seed(0)
        for epoch in range(epochs):
            for loss in task.batches(epoch, generator):
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                average.update_parameters(network)
        _wait(next(network.parameters()).device)

    return train


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


class Products:
    """The matrix products of a forward pass by their shapes, and of the backward pass after it.

    `nn.Linear` and the attention's two products are counted; elementwise work is what the step has beyond.
    """

    def __init__(self, task: FullyConnectedTask | AttentionTask):
        shapes: dict[nn.Module, tuple[int, int, int]] = {}  # rows, in, out

        def note(layer: nn.Module, given: tuple[torch.Tensor], _: torch.Tensor) -> None:
            assert isinstance(layer, nn.Linear)
            shapes[layer] = (given[0].numel() // layer.in_features, layer.in_features, layer.out_features)

        self.device = next(task.network.parameters()).device
        layers = [module for module in task.network.modules() if isinstance(module, nn.Linear)]
        hooks = [layer.register_forward_hook(note) for layer in layers]
        next(iter(task.batches(0, torch.Generator().manual_seed(0))))
        for hook in hooks:
            hook.remove()
        self.linear = list(shapes.values())
        batch = task.settings.batch_cases
        self.bmm: list[tuple[int, int, int, int]] = []  # how many, rows, inner, columns
        if isinstance(task, FullyConnectedTask):
            components = task.settings.components  # the loss through the decoder: (slots, batch, d) x (d, d)
            self.bmm = [(32, batch, components, components)]
        else:
            settings = task.settings
            many, width = batch * settings.heads, settings.width // settings.heads
            self.bmm = [(many, 32, width, 32), (many, 32, 32, width)] * settings.layers
        self.operations = 3 * sum(2 * a * b * c for a, b, c in self.linear)
        self.operations += 3 * sum(2 * n * a * b * c for n, a, b, c in self.bmm)

        def random(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, device=self.device)

        self._linear = [(random(a, b), random(c, b), random(a, c)) for a, b, c in self.linear]
        self._bmm = [(random(n, a, b), random(n, b, c), random(n, a, c)) for n, a, b, c in self.bmm]

    @torch.no_grad()
    def __call__(self) -> None:
        """Forward, gradient of the input, gradient of the weights."""
        for x, w, y in self._linear:
            x @ w.T
            y @ w
            y.T @ x
        for a, b, c in self._bmm:
            a @ b
            c @ b.mT
            a.mT @ c


def measure(name: str, task: FullyConnectedTask | AttentionTask, cases: int, rounds: int) -> None:
    """Print the lines of one model."""
    steps = -(-cases // task.settings.batch_cases)
    epochs = max(1, 20 // steps)
    products, loss = Products(task), task.loss

    def all_products() -> None:
        for _ in range(steps * epochs):
            products()
        _wait(products.device)

    def batches() -> None:
        task.loss = lambda *_: torch.zeros(())  # type: ignore[assignment]
        for epoch in range(epochs):
            list(task.batches(epoch, torch.Generator().manual_seed(0)))
        task.loss = loss

    alone_on_a_core = products.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone_on_a_core else time.perf_counter
    whole, made, alone = name, f"{name}, its batches alone", f"{name}, its matrix products alone"
    timed = timing.interleaved(
        {whole: steps_of(task, epochs), made: batches, alone: all_products}, rounds, clock
    )
    for each, result in timed.items():
        print(f"  {each:44}{1e3 * result.median_s / (steps * epochs):8.2f} ms a step")
    rate = products.operations * steps * epochs / timed[alone].median_s / 1e9
    print(
        f"  {products.operations / 1e6:.0f} million operations a step in products, done at {rate:.0f} GFLOP/s"
    )
    share = float(np.median(timed[alone].seconds / timed[whole].seconds))
    print(f"  share of the step that its matrix products would take: {share:.2f} (wanted: at least 0.6)")


def of_split(split: str, count: int) -> list[str]:
    """Names of so many made-up cases of a split."""
    names = synthetic_cases.case_ids(20 * count)
    return [name for name in names if split_of(name) == split][:count]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=192, help=f"to learn from, a multiple of {FC_LARGE}")
    parser.add_argument("--points", type=int, default=256, help="of a tooth")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    if given.cases % FC_LARGE:
        parser.error(
            f"--cases must be a multiple of {FC_LARGE}: a last batch of fewer would count as a whole one"
        )
    torch.set_num_threads(given.threads)
    print(timing.machine())
    with tempfile.TemporaryDirectory() as name, state_dir.kept_in(Path(name) / "state"):
        folder = Path(name)
        encoder, decoder, latents = (folder / file for file in ("encoder.pt", "decoder.pt", "latents.h5"))
        synthetic_cases.write_networks(encoder, decoder, given.points)
        ids = [*of_split("train", given.cases), *of_split("val", 4)]
        attributes = {"encoder_sha256": sha256_file(encoder)}
        with mouth_store.create(latents, Layout(given.points, FEATURES), attributes) as writer:
            for mouth in synthetic_cases.mouths_with_latents(ids, given.points, FEATURES):
                writer.append(mouth)
        with MouthStore(latents) as store:
            cases = len(store.rows_of("train"))
            section = TrainSection(threads=given.threads, validation_cases=4)
            data = TrainingData(store, str(encoder), str(decoder), choose_device(given.device), section)
            print(f"{cases} cases, {given.threads} thread(s), {given.device}")
            for fc in (FullyConnectedTraining(), FullyConnectedTraining(batch_cases=FC_LARGE)):
                measure(f"fc, {fc.batch_cases} cases", fc.prepare(data), cases, given.rounds)
            attention = AttentionTraining()
            measure(f"attention, {attention.batch_cases} cases", attention.prepare(data), cases, given.rounds)


if __name__ == "__main__":
    main()
