"""What one GPU does: encode 1,000 cases, join them, train 500 epochs; one table.

    python benchmarks/one_gpu.py                                  # on a machine with a GPU
    python benchmarks/one_gpu.py --device cpu --cases 40 --epochs 2 --points 32   # only that it runs

Needs nothing but this repository: the cases are made up (`synthetic_cases`). With untrained networks `add_mm`
says nothing beside other figures; that it is the same within 1 % in both precisions still has to hold. Give
`--encoder` and `--decoder` for trained ones. Wanted, on one H100: encoding in less than 60 s, reading and
writing included; 500 epochs in less than 5 minutes.

"mixed" is TensorFloat-32 for the matrix products of the training and float32 for all else
(torch.set_float32_matmul_precision("high")); validation is in float32 either way.
"""

import argparse
import tempfile
import time
from pathlib import Path

import synthetic_cases
import timing
import torch

from dentalign import state
from dentalign.dataset.case_store import CaseStore
from dentalign.dataset.concatenation import concatenate
from dentalign.dataset.latents import ToothEncoder, encode_shard
from dentalign.params import Encoder
from dentalign.training.align_training import Train, train_align
from dentalign.training.latent_codes import mouth_of
from dentalign.validation.measurement import Validate, validate

SHARD = "shard-000"


def busy_share(clouds: Path, encoder: str, device: str, cases: int) -> float | None:
    """Share of the time that the device computes while it encodes some cases; None on a CPU."""
    if device != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    ours = ToothEncoder(encoder, device)
    with CaseStore(clouds) as store:
        mouths = [mouth_of(store.row(index)) for index in range(min(cases, len(store)))]
    ours.encode(mouths[0].points, mouths[0].poses, mouths[0].masks)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        start = time.perf_counter()
        for mouth in mouths:
            ours.encode(mouth.points, mouth.poses, mouth.masks)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    return sum(event.self_device_time_total for event in profiled.key_averages()) / 1e6 / seconds


def train(latents: Path, encoder: str, decoder: str, settings: Train, mixed: bool) -> tuple[float, float]:
    """Seconds of the training from the latents on, and `add_mm` of the model on the test split."""
    with tempfile.TemporaryDirectory() as folder, state.kept_in(folder):
        model, log = Path(folder) / "aligner.pt", Path(folder) / "log"
        torch.set_float32_matmul_precision("high" if mixed else "highest")
        start = time.perf_counter()
        train_align(latents, encoder, decoder, model, log, settings)
        seconds = time.perf_counter() - start
        torch.set_float32_matmul_precision("highest")
        found = validate(latents, decoder, model, Validate(device=settings.device))
    return seconds, found.metrics["model"]["add_mm"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--points", type=int, default=256, help="of a tooth")
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--models", nargs="+", choices=["fc", "attention"], default=["fc", "attention"])
    parser.add_argument("--encoder", help="weights; left out, an untrained encoder")
    parser.add_argument("--decoder", help="weights; left out, an untrained decoder")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU; --device cpu with few cases only tries the script out")
    print(timing.machine())
    if given.device == "cuda":
        print(torch.cuda.get_device_name())
    with tempfile.TemporaryDirectory(prefix="dentalign-gpu-") as name:
        folder = Path(name)
        untrained = folder / "encoder.pt", folder / "decoder.pt"
        synthetic_cases.write_networks(*untrained, given.points)
        encoder, decoder = given.encoder or str(untrained[0]), given.decoder or str(untrained[1])
        ids = synthetic_cases.case_ids(given.cases)
        (clouds,) = synthetic_cases.write_clouds(folder / "clouds", ids, [SHARD], given.points)
        shard, latents = folder / f"{SHARD}.h5", folder / "latents.h5"
        start = time.perf_counter()
        encode_shard(clouds, Encoder(weights=encoder, device=given.device, threads=given.threads), shard)
        encoding_s = time.perf_counter() - start
        busy = busy_share(clouds, encoder, given.device, 50)
        concatenate([shard], [SHARD], latents)
        shard.unlink()
        print(f"encode {given.cases} cases at T1 and T2, reading and writing included: {encoding_s:.1f} s "
              f"(wanted for 1,000 on an H100: below 60 s)")  # fmt: skip
        print("  device busy while encoding: " + ("not measured" if busy is None else f"{100 * busy:.0f} %"))
        for model in given.models:
            settings = Train(
                model=model, epochs=given.epochs, patience=given.epochs, threads=given.threads,
                device=given.device,
            )  # fmt: skip
            single, mixed = (train(latents, encoder, decoder, settings, mixed) for mixed in (False, True))
            print(f"train {model}, {given.epochs} epochs (wanted for 500 on an H100: below 300 s)")
            print(f"  {single[0]:.1f} s in float32, {mixed[0]:.1f} s mixed")
            change = 100 * (mixed[1] / single[1] - 1)
            print(f"  add_mm {single[1]:.4f} in float32, mixed {change:+.2f} % (wanted: within 1 %)")


if __name__ == "__main__":
    main()
