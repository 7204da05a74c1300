"""Peak memory of every heavy stage at 300, 1,000 and 10,000 cases.

    python benchmarks/memory.py                        # 25 GB of disk and half an hour on two cores
    python benchmarks/memory.py --cases 300 1000       # some minutes
    python benchmarks/memory.py --points 32 --copies 1 # 3 GB, a third of the time, the same growth

The cases are made up (`synthetic_cases`), of the real shape; each stage is the script that DVC runs, on all
of them, in a process of its own. What is printed is the largest resident set of that process (VmHWM of
Linux; its ru_maxrss would begin with the memory of the program that starts it): its own memory and the pages
of files it had mapped. The system's cache of files that were read is not in it, and nothing here is mapped
but programs. Training keeps its mouths in memory: 53 kB each for `attention`, 10 kB a copy for `fc`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import synthetic_cases
import timing
import yaml

ROOT = Path(__file__).parent.parent
SHARDS = ["shard-000"]  # all cases in one: of several shards each process would see a part
LIMIT_MIB, GROWTH = 1536, 1.10
STAGES = ("encode", "concat", "train fc", "train attention", "validate fc", "validate attention")


# The stage's script, as if it were called itself; the last thing the process does is to tell its peak.
AND_TELL = """
import atexit, pathlib, runpy, sys
status, out = pathlib.Path("/proc/self/status"), pathlib.Path(sys.argv[1])
atexit.register(lambda: out.write_text(status.read_text().split("VmHWM:")[1].split()[0]))
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def peak(folder: Path, *words: str) -> float:
    """Largest resident set, MiB, of a stage that runs in a folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(folder)}
    script, *given = words
    told = folder / "peak_kib.txt"
    command = [sys.executable, "-c", AND_TELL, str(told), str(ROOT / "stages" / script), *given]
    with open(folder / "log.txt", "ab") as log:
        done = subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log, check=False)
    if done.returncode:
        sys.exit(f"{script} ended with {done.returncode}:\n" + (folder / "log.txt").read_text()[-2000:])
    return int(told.read_text()) / 1024


def parameters(model: str, points: int, copies: int) -> dict[str, object]:
    """params.yaml: the defaults but for the length of the training, the shards and the points."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["shards"], values["sample"]["points"] = SHARDS, points
    values["train"] |= {"model": model, "epochs": 2}
    for section in ("encoder", "train", "validate"):
        values[section] |= {"device": "cpu"}
    values["train"]["fc"]["augmentation"]["copies"] = copies
    return dict(values)


def measure(
    count: int, points: int, copies: int, models: list[str], parent: Path | None
) -> dict[str, tuple[float, float]]:
    """(MiB, seconds) of each stage for so many cases."""
    found: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory(prefix="dentalign-memory-", dir=parent) as name:
        folder = Path(name)

        def stage(name: str, *words: str) -> None:
            start = time.perf_counter()
            mib, seconds = found.get(name, (0.0, 0.0))
            found[name] = max(mib, peak(folder, *words)), seconds + time.perf_counter() - start
            print(f"  {count} cases, {name}: {found[name][0]:.0f} MiB, {found[name][1]:.0f} s", flush=True)

        def write(model: str) -> None:
            (folder / "params.yaml").write_text(yaml.safe_dump(parameters(model, points, copies)))

        write("fc")
        clouds = synthetic_cases.write_clouds(
            folder / "data/clouds", synthetic_cases.case_ids(count), SHARDS, points
        )
        synthetic_cases.write_networks(folder / "models/encoder.pt", folder / "models/decoder.pt", points)
        latents = [folder / "data/latents" / file.name for file in clouds]
        for given, out in zip(clouds, latents, strict=True):
            stage("encode", "encode_latents_sharded.py", str(given), str(out))
        stage("concat", "concat_hdf5.py", str(folder / "data/latents"), "--shards", str(len(latents)))
        shutil.rmtree(folder / "data/latents")
        for model in models:
            write(model)
            stage(f"train {model}", "train_align.py")
            stage(f"validate {model}", "validate.py")
            shutil.rmtree(folder / ".dentalign")
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, nargs="+", default=[300, 1000, 10_000])
    parser.add_argument("--points", type=int, default=256, help="of a tooth")
    parser.add_argument("--copies", type=int, default=2, help="of each training case of fc")
    parser.add_argument("--models", nargs="*", choices=["fc", "attention"], default=["fc", "attention"])
    parser.add_argument("--folder", type=Path, help="where to put the files meanwhile")
    given = parser.parse_args()
    print(timing.machine())
    print(f"{given.points} points a tooth, {given.copies} copies of a case for fc, two epochs")
    found = {
        count: measure(count, given.points, given.copies, given.models, given.folder) for count in given.cases
    }
    first, last = given.cases[0], given.cases[-1]
    print(f"{'MiB':20}" + "".join(f"{count:>9,}" for count in given.cases) + "   grows by")
    for name in (name for name in STAGES if name in found[first]):
        sizes = [found[count][name][0] for count in given.cases]
        growth = sizes[-1] / sizes[0]
        well = (growth < GROWTH or name.startswith("train")) and max(sizes) < LIMIT_MIB
        print(f"{name:20}" + "".join(f"{size:9.0f}" for size in sizes)
              + f"   {100 * (growth - 1):5.1f} %{'' if well else '   MISSED'}")  # fmt: skip
    print(
        f"wanted: at most {LIMIT_MIB} MiB and, but for training, a growth of {100 * (GROWTH - 1):.0f} % from "
        f"{first:,} to {last:,} cases"
    )


if __name__ == "__main__":
    main()
