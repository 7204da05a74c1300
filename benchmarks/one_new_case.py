"""Time of `dvc repro` to a new latents.h5, by stage: everything, then one case more, then nothing changed.

    python benchmarks/one_new_case.py                                   # 1,000 cases, 16 shards
    python benchmarks/one_new_case.py --cache-type hardlink,symlink      # see docs/machines.md
    python benchmarks/one_new_case.py --cases 10000 --points 32 --link   # as many files, on little disk

A project of its own in a temporary folder, real DVC, real stages. The cases are copies of a few of the demo
clinic's under other ids, a file for each JSON and each mesh; the encoder is untrained, which takes the same
time. Targets: one case more in at most 15 % of the full run's time; nothing changed in less than 3 s on the
demo.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import synthetic_cases
import timing

from dentalign.cases import case_list
from dentalign.demo_clinic import case_files, clinic
from dentalign.geometry import stl
from tests.support import pipeline_project
from tests.support.pipeline_project import Project
from tools.shards import set_shards

KINDS = 8  # different made-up mouths


class Store:
    """Store of the user's cases."""

    def __init__(self, root: Path, teeth: int, link: bool):
        self.root, self.teeth, self.ids = root, teeth, list[str]()
        self.copy = os.link if link else shutil.copy2
        self.made = [clinic.make_case(number, seed=3, complete=True) for number in range(KINDS)]
        self.meshes = []
        for number, case in enumerate(self.made):
            folder = root / "kinds" / str(number)
            folder.mkdir(parents=True)
            wanted = sorted(case.patient.mouth)[:: max(1, len(case.patient.mouth) // teeth)][:teeth]
            for fdi in wanted:
                stl.write_binary(
                    folder / f"{fdi}.stl", case.patient.mouth[fdi].vertices, case.patient.mouth[fdi].faces
                )
            self.meshes.append(folder)
        (root / "json").mkdir()
        (root / "stl").mkdir()

    def add(self, case_id: str) -> None:
        """Add a case."""
        kind = len(self.ids) % KINDS
        known = {file.stem for file in self.meshes[kind].iterdir()}
        document = self.made[kind].document | {"CaseID": case_id}
        document["Staging"] = [
            stage | {name: {fdi: pose for fdi, pose in stage[name].items() if fdi in known}
                     for name in case_files.SPELLINGS if name in stage}
            for stage in document["Staging"]
        ]  # fmt: skip
        case_files.write_json(self.root / "json" / f"{case_id}.json", document)
        shutil.copytree(self.meshes[kind], self.root / "stl" / case_id, copy_function=self.copy)
        self.ids.append(case_id)

    def list(self) -> None:
        """Write the list of all cases."""
        listed = [case_list.ListedCase(case_id, case_id) for case_id in sorted(self.ids)]
        case_list.write(self.root / "cases.csv", listed)


def project_in(folder: Path, shards: int, points: int, teeth: int, link: bool) -> tuple[Project, Store]:
    """Make a project without cases, and its empty store."""
    project = pipeline_project.make(folder / "project")
    shutil.rmtree(project.root / "cases")
    store = Store(project.root / "cases", teeth, link)
    set_shards(project.root, shards)
    for name, value in {
        "source.cases": "cases/cases.csv",
        "sample.points": points,
        "sample.oversampling": 8,
        "sample.workers": 0,
        "encoder.weights": "cases/encoder.pt",
        "encoder.threads": os.cpu_count() or 1,
        "limits.max_dropped_teeth": 32,
    }.items():
        project.set(name, value)
    encoder, decoder = store.root / "encoder.pt", store.root / "decoder.pt"
    synthetic_cases.write_networks(encoder, decoder, points)
    project.environment |= {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    return project, store


def timed(project: Project, target: str) -> tuple[float, dict[str, float]]:
    """Time `dvc repro`: seconds in all, and by stage, from the line that starts it to the next one's."""
    os.sync()  # so that no run waits for the disk writes of the one before
    parts: dict[str, float] = defaultdict(float)
    start = last = time.perf_counter()
    part, output = "DVC before the first stage", []
    command = [sys.executable, "-m", "dvc", "repro", target]
    with subprocess.Popen(
        command, cwd=project.root, env=project.environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout
        for line in process.stdout:
            output.append(line)
            if found := re.match(r"Running stage '(?:[^':]*:)?([^'@]+)", line):
                now = time.perf_counter()
                parts[part] += now - last
                part, last = found[1], now
    end = time.perf_counter()
    parts[part] += end - last
    if process.returncode:
        sys.exit("".join(output[-30:]))
    return end - start, dict(parts)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--points", type=int, default=256, help="of a tooth")
    parser.add_argument("--teeth", type=int, default=28, help="of a case, at most")
    parser.add_argument("--target", default="concat_hdf5", help="stage up to which everything runs")
    parser.add_argument("--link", action="store_true", help="meshes of a kind are one file under many names")
    parser.add_argument("--url", action="store_true", help="folders by *.url files, which DVC does not list")
    parser.add_argument("--cache-type", help="of DVC, such as hardlink,symlink; else that of .dvc/config")
    parser.add_argument("--folder", type=Path, help="where to put the files meanwhile")
    given = parser.parse_args()
    print(timing.machine())
    with tempfile.TemporaryDirectory(prefix="dentalign-new-case-", dir=given.folder) as name:
        project, store = project_in(Path(name), given.shards, given.points, given.teeth, given.link)
        for case_id in synthetic_cases.case_ids(given.cases):
            store.add(case_id)
        store.list()
        if given.url:
            for kind, parameter in (("json", "source.json"), ("stl", "source.meshes")):
                file = store.root / f"{kind}.url"
                file.write_text((store.root / kind).as_uri() + "\n", encoding="utf-8")
                project.set(parameter, f"cases/{file.name}")
        if given.cache_type:
            project.dvc("config", "--local", "cache.type", given.cache_type)
        runs = {"everything": timed(project, given.target)}
        store.copy = shutil.copy2  # a further link would give every mesh of its kind a new ctime
        store.add("one-more")
        store.list()
        runs["one case more"] = timed(project, given.target)
        runs["nothing changed"] = timed(project, given.target)
        files = sum(len(names) for _, _, names in os.walk(store.root))
    print(
        f"{given.cases:,} cases of {given.teeth} teeth at most, {given.points} points, {given.shards} shards"
    )
    print(f"{files:,} files in the store")
    print(f"{'seconds':28}" + "".join(f"{run:>17}" for run in runs))
    for part in dict.fromkeys(part for _, parts in runs.values() for part in parts):
        print(f"{part:28}" + "".join(f"{parts.get(part, 0):17.1f}" for _, parts in runs.values()))
    print(f"{'all':28}" + "".join(f"{seconds:17.1f}" for seconds, _ in runs.values()))
    share = runs["one case more"][0] / runs["everything"][0]
    print(f"one case more takes {100 * share:.1f} % of the time of everything (wanted: at most 15 %)")


if __name__ == "__main__":
    main()
