"""Ways to store latents: size, writing, reading, and the effect on the model.

    python benchmarks/storage.py              # the demo's latents, after `make demo`
    python benchmarks/storage.py --train      # and train `fc` on float32 and on float16, some minutes

Each way writes the same latents (`t1/latents`, `t2/latents`) with h5py, a case a chunk, and reads them again
case by case in an order drawn at random, each with HDF5's checksum as the library does it. The files lie in
the system's cache when they are read: measured is the time of the processor, on one thread, not of the
disk.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import timing
import torch

from dentalign.autoencoder.encoding import ToothEncoder
from dentalign.dataset.mouth_store import MouthStore

_GZIP = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
_LZF = {"compression": "lzf", "shuffle": True}
WAYS: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "f4"},
    "float16": {"dtype": "f2"},
    "float32, gzip-4 + shuffle": {"dtype": "f4", **_GZIP},
    "float16, gzip-4 + shuffle": {"dtype": "f2", **_GZIP},
    "float32, lzf + shuffle": {"dtype": "f4", **_LZF},
    "float16, lzf + shuffle": {"dtype": "f2", **_LZF},
}
IN_USE = "float16"


def encoded(clouds: Path, weights: str, cases: int) -> np.ndarray:
    """Latents (N, 2, 32, P, F) float32 of the first cases of a file of clouds."""
    encoder = ToothEncoder(weights, "cpu")
    with MouthStore(clouds) as store:
        mouths = [store.mouth(index) for index in range(min(cases, len(store)))]
    return np.stack([encoder.encode(mouth.points, mouth.pose, mouth.present) for mouth in mouths])


def write(path: Path, latents: np.ndarray, how: dict[str, Any]) -> None:
    """One dataset, a case a chunk."""
    with h5py.File(path, "w") as file:
        chunks = (1, *latents.shape[1:])
        dataset = file.create_dataset("latents", latents.shape, chunks=chunks, fletcher32=True, **how)
        for number, case in enumerate(torch.from_numpy(latents)):
            dataset[number] = (case.half() if how["dtype"] == "f2" else case).numpy()


def read(path: Path, order: np.ndarray) -> None:
    """Case by case, to float32, as the library does it."""
    with h5py.File(path, "r") as file:
        for number in order:
            torch.from_numpy(file["latents"][number]).float()


def sizes_and_speeds(latents: np.ndarray, rounds: int) -> None:
    """Print a line for each way."""
    order = np.random.default_rng(0).permutation(len(latents))
    plain_mb = latents.nbytes / 1e6
    with tempfile.TemporaryDirectory() as name:
        files = {way: Path(name) / f"{number}.h5" for number, way in enumerate(WAYS)}
        writing: dict[str, Callable[[], object]] = {}
        reading: dict[str, Callable[[], object]] = {}
        for way, how in WAYS.items():
            writing[way] = lambda way=way, how=how: write(files[way], latents, how)  # type: ignore[misc]
            reading[way] = lambda way=way: read(files[way], order)  # type: ignore[misc]
        written = timing.interleaved(writing, rounds, time.process_time)
        found = timing.interleaved(reading, rounds, time.process_time)
        print(f"{'':28}MB/case   write MB/s   read MB/s   read time of float32's   (MB of float32)")
        for way in WAYS:
            size = os.path.getsize(files[way]) / 1e6 / len(latents)
            speeds = [plain_mb / timed[way].median_s for timed in (written, found)]
            ratio = 1 / found[way].times_faster_than(found["float32"])[1]
            mark = "   <- in use" if way == IN_USE else ""
            print(f"{way:28}{size:7.2f}{speeds[0]:13.0f}{speeds[1]:12.0f}{ratio:17.2f}{mark}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clouds", type=Path, default=Path("data/clouds/shard-000.h5"))
    parser.add_argument("--weights", default="models/encoder.pt")
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--train", action="store_true", help="needs data/latents.h5 and models/decoder.pt")
    parser.add_argument("--latents", type=Path, default=Path("data/latents.h5"))
    parser.add_argument("--decoder", default="models/decoder.pt")
    parser.add_argument("--epochs", type=int, default=60)
    given = parser.parse_args()
    print(timing.machine())
    latents = encoded(given.clouds, given.weights, given.cases)
    print(f"{len(latents)} cases, {latents.nbytes / 1e6 / len(latents):.2f} MB each as float32")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sizes_and_speeds(latents, given.rounds)
    torch.set_num_threads(threads)
    if given.train:
        import storage_effect

        storage_effect.compare(given.latents, given.weights, given.decoder, given.epochs)


if __name__ == "__main__":
    main()
