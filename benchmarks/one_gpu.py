"""Times on one GPU: encode 1,000 cases, join them, train 500 epochs; one table.

    python benchmarks/one_gpu.py                                  # on a machine with a GPU
    python benchmarks/one_gpu.py --project .                      # with the clouds and networks of a project
    python benchmarks/one_gpu.py --device cpu --cases 40 --epochs 2 --points 32   # only that it runs

Needs nothing but this repository: left to itself it makes its cases up (`synthetic_cases`). With untrained
networks `add_mm` says nothing beside other figures; that it is the same within 1 % in both precisions still
has to hold. Wanted, on one H100 with 1,000 cases: encoding in less than 60 s, reading and writing included;
500 epochs in less than 5 minutes.

"mixed" is TensorFloat-32 for the matrix products of the training and float32 for all else
(torch.set_float32_matmul_precision("high")); the figures are of a validation in float32 either way.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import synthetic_cases
import timing
import torch

from dentalign.alignment.base import TrainSection
from dentalign.alignment.training import Train, train_align
from dentalign.autoencoder.encoding import ToothEncoder, encode_shard
from dentalign.autoencoder.settings import EncoderFile
from dentalign.dataset.concat import concatenate
from dentalign.dataset.mouth_store import MouthStore
from dentalign.running import state_dir
from dentalign.validation.measurement import Validate, validate

SHARDS = ["shard-000"]
PRECISIONS = ["float32", "mixed"]


def busy_share(clouds: Path, encoder: str, device: str, cases: int) -> float | None:
    """Share of the time that the device computes while it encodes some cases; None on a CPU."""
    if device != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    ours = ToothEncoder(encoder, device)
    with MouthStore(clouds) as store:
        mouths = [store.mouth(index) for index in range(min(cases, len(store)))]
    ours.encode(mouths[0].points, mouths[0].pose, mouths[0].present)

    def encode() -> float:
        start = time.perf_counter()
        for mouth in mouths:
            ours.encode(mouth.points, mouth.pose, mouth.present)
        torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds = encode()  # a profile slows the CPU's part down
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        encode()
    return sum(event.self_device_time_total for event in profiled.key_averages()) / 1e6 / seconds


def train(
    latents: Path, encoder: str, decoder: str, settings: TrainSection, mixed: bool
) -> tuple[float, dict[str, Any]]:
    """Seconds of the training from the latents on, and the figures of the model on the test split."""
    with tempfile.TemporaryDirectory() as folder, state_dir.kept_in(folder):
        model, log = Path(folder) / "alignment.pt", Path(folder) / "log"
        torch.set_float32_matmul_precision("high" if mixed else "highest")
        start = time.perf_counter()
        train_align(latents, encoder, decoder, model, log, settings)
        seconds = time.perf_counter() - start
        torch.set_float32_matmul_precision("highest")
        found = validate(latents, decoder, model, Validate(device=settings.device))
    return seconds, found.metrics


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--project", type=Path, help="folder with data/clouds and models; else made-up cases")
    parser.add_argument("--cases", type=int, default=1000, help="how many are made up")
    parser.add_argument("--points", type=int, default=256, help="of a tooth")
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--models", nargs="+", choices=["fc", "attention"], default=["fc", "attention"])
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU; --device cpu with few cases only tries the script out")
    clouds = sorted(given.project.glob("data/clouds/*.h5")) if given.project else []
    if given.project and not clouds:
        parser.error(f"{given.project}: no data/clouds/*.h5 there: run `dvc repro` or `dvc pull` in it")
    print(timing.machine())
    if given.device == "cuda":
        print(torch.cuda.get_device_name())
    with tempfile.TemporaryDirectory(prefix="dentalign-gpu-") as name:
        folder = Path(name)
        if given.project:
            encoder, decoder = (str(given.project / f"models/{name}.pt") for name in ("encoder", "decoder"))
        else:
            encoder, decoder = str(folder / "encoder.pt"), str(folder / "decoder.pt")
            synthetic_cases.write_networks(Path(encoder), Path(decoder), given.points)
            ids = synthetic_cases.case_ids(given.cases)
            clouds = synthetic_cases.write_clouds(folder / "clouds", ids, SHARDS, given.points)
        shards, latents = [folder / path.name for path in clouds], folder / "latents.h5"
        start = time.perf_counter()
        settings = EncoderFile(weights=encoder, device=given.device, threads=given.threads)
        cases = sum(encode_shard(path, settings, shard) for path, shard in zip(clouds, shards, strict=True))
        encoding_s = time.perf_counter() - start
        busy = busy_share(clouds[0], encoder, given.device, 50)
        start = time.perf_counter()
        concatenate(shards, [path.stem for path in clouds], latents)
        joining_s = time.perf_counter() - start
        for shard in shards:
            shard.unlink()
        print(f"encode {cases} cases at T1 and T2, reading and writing included: {encoding_s:.1f} s "
              f"(wanted for 1,000 on an H100: below 60 s); joined in {joining_s:.1f} s")  # fmt: skip
        print("  device busy while encoding: " + ("not measured" if busy is None else f"{100 * busy:.0f} %"))
        for model in given.models:
            how = Train(
                model=model, epochs=given.epochs, patience=given.epochs, threads=given.threads,
                device=given.device,
            )  # fmt: skip
            print(f"train {model}, {given.epochs} epochs (wanted for 500 on an H100: below 300 s)")
            add_mm = {}
            for precision in given.precisions:
                seconds, found = train(latents, encoder, decoder, how, precision == "mixed")
                add_mm[precision] = found["model"]["add_mm"]
                print(
                    f"  {precision}: {seconds:.1f} s, add_mm {add_mm[precision]:.4f}, "
                    f"{found['add_vs_identity']:.4f} of no movement"
                )
            if len(add_mm) == 2:
                change = 100 * (add_mm["mixed"] / add_mm["float32"] - 1)
                print(f"  mixed: add_mm {change:+.2f} % (wanted: within 1 %)")


if __name__ == "__main__":
    main()
