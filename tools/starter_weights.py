"""Make dentalign/starter/: cases of two made-up clinics, and the models trained on them.

    python -m tools.starter_weights MAKE_CASES FOLDER

MAKE_CASES is the script that makes cases from the statistical shape model of real crowns (see
dentalign/starter/NOTICE.md). Two of three cases are of its hard clinic with several planners, the others of
its plain clinic with one. FOLDER takes some 3 GB: the meshes of each part go once its clouds are sampled. A
run that was stopped goes on with the next part. All steps are stages of the pipeline, without the latents,
which the model `attention` does not read.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dentalign import check, describe
from dentalign.dataset import mouth_store
from dentalign.dataset.mouth_store import MouthStore
from dentalign.files import atomic
from dentalign.files.hashing import sha256_file
from dentalign.planning.solver import Planning
from dentalign.prediction.model_sets import CARD, FILES
from dentalign.starter.folder import STARTER
from dentalign.validation.measurement import Validate, validate

ROOT = Path(__file__).resolve().parents[1]
SEED = 77
CASES = 200  # of a part
HARD, PLAIN = range(20), range(20, 30)  # numbers of the parts
# Every third part is a plain one, as validation takes its cases from the start.
ORDER = [part for three in zip(HARD[:10], HARD[10:], PLAIN, strict=True) for part in three]
AUTOENCODER_CASES = 320
TRAIN = {"model": "attention", "epochs": 120, "patience": 120, "seed": 0, "threads": 1}
# Learns more quickly than the defaults, which are as good in the end (docs/experiments.md).
ATTENTION = {"dropout": 0.1, "midway": 0.0, "contact": 0.0}
FIGURES = ("add_mm", "add_vs_identity", "rotation_error_deg", "best_of_3_add_mm", "add_mm_90_coverage")


class Recipe:
    """Folder in which the weights are made; every method runs one step.

    make_cases : script that makes cases
    folder     : working folder, with params.yaml and data/ as in the project
    """

    def __init__(self, make_cases: Path, folder: Path):
        self.make_cases, self.folder = make_cases.resolve(), folder.resolve()
        self.clouds = [folder / f"data/clouds/part-{number:03d}.h5" for number in range(len(ORDER))]
        (folder / "data").mkdir(parents=True, exist_ok=True)

    def stage(self, name: str, *arguments: str) -> None:
        """Run a stage of the pipeline in the folder."""
        subprocess.run([sys.executable, ROOT / f"stages/{name}.py", *arguments], check=True, cwd=self.folder)

    def write_params(self, shards: list[str]) -> None:
        """Write params.yaml: that of the project, with the cases and trainings of this recipe."""
        values: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        values["source"] |= {"cases": "cases.csv", "json": "part/json", "meshes": "part/stl"}
        values["shards"] = shards
        values["autoencoder"]["cases"] = "autoencoder_cases.csv"
        values["train"] |= TRAIN
        values["train"]["attention"] |= ATTENTION
        atomic.write_text(self.folder / "params.yaml", yaml.safe_dump(values, sort_keys=False))

    def make(self, number: int, count: int, out: Path) -> None:
        """Make the first cases of a part."""
        clinic = "hard" if number in HARD else "plain"
        choice = ["--clinic", clinic, "--cases", count, "--first", number * CASES, "--seed", SEED]
        subprocess.run(
            [sys.executable, self.make_cases, *map(str, choice), "--out", out],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def sample(self, number: int) -> None:
        """Make the cases of a part and their clouds; the meshes are removed."""
        if self.clouds[number].is_file():
            return
        made = self.folder / "part"
        shutil.rmtree(made, ignore_errors=True)
        self.make(number, CASES, made)
        facts = json.loads((made / "manifest.json").read_text(encoding="utf-8"))
        lines = [f"{name},{facts[name].get('planner', 'plain')}" for name in sorted(facts)]
        atomic.write_text(self.folder / "cases.csv", "\n".join(["case_id,planner", *lines, ""]))
        self.write_params([self.clouds[number].stem])
        self.stage("fetch_json")
        self.stage("rigid_transforms")
        self.stage(
            "sample_clouds", f"data/transforms/{self.clouds[number].stem}.json", str(self.clouds[number])
        )
        shutil.move(made / "manifest.json", self.folder / f"data/facts-{number:03d}.json")
        shutil.rmtree(made)

    def train(self) -> None:
        """Train the tooth autoencoder and the alignment model, and copy them to dentalign/starter/."""
        self.write_params([clouds.stem for clouds in self.clouds])
        with_plan = [(name, split) for path in self.clouds for name, split in _splits(path)]
        listed = [name for name, split in with_plan if split == "train"]
        listed = listed[:: max(1, len(listed) // AUTOENCODER_CASES)][:AUTOENCODER_CASES]
        atomic.write_text(self.folder / "autoencoder_cases.csv", "\n".join(["case_id", *listed, ""]))
        self.stage("autoencoder_cases", "data/clouds", "--shards", str(len(ORDER)))
        self.stage("train_autoencoder")
        self.join("clouds", ORDER)
        self.stage("train_align", "--latents", "data/clouds.h5")
        for name in FILES:
            shutil.copyfile(self.folder / "models" / name, STARTER / name)

    def join(self, name: str, parts: Sequence[int]) -> Path:
        """Join the clouds of parts into one file, for the encoder of this folder."""
        out = self.folder / f"data/{name}.h5"
        encoder = {"encoder_sha256": sha256_file(self.folder / "models/encoder.pt")}
        with MouthStore(self.clouds[0]) as first, mouth_store.create(out, first.layout, encoder) as writer:
            for number in parts:
                with MouthStore(self.clouds[number]) as store:
                    for row in range(len(store)):
                        writer.append(store.mouth(row))
        return out

    def write_card(self) -> None:
        """Measure the weights on the held-out mouths of both clinics, and write the model card."""
        figures: dict[str, float | str] = {}
        models = [self.folder / "models" / name for name in FILES]
        for clinic, parts in (("hard", HARD), ("plain", PLAIN)):
            clouds = self.join(clinic, parts)
            found = validate(clouds, models[1], models[2], Validate(solver=False), Planning()).metrics
            figures[f"{clinic}_clinic_test_cases"] = found["counts"]["cases"]
            figures[f"{clinic}_clinic_identity_add_mm"] = found["identity"]["add_mm"]
            measured = found["model"] | {"add_vs_identity": found["add_vs_identity"]}
            figures |= {f"{clinic}_clinic_{name}": measured[name] for name in FIGURES}
            if clinic == "hard":
                told = found["told"]
                figures |= {f"hard_clinic_{name}_told_add_mm": told[name]["add_mm"] for name in told}
        card = {
            "trained_on": f"{len(ORDER) * CASES} made-up plans on crowns of a statistical shape model of "
            f"real patients ({len(HARD) * CASES} of a clinic with five planners); not clinical",
            "figures": figures,
            "licence": "Apache-2.0 AND MIT",
            "recipe": "python -m tools.starter_weights MAKE_CASES FOLDER",
            "training": TRAIN
            | ATTENTION
            | {"clinic_seed": SEED, "make_cases_sha256": sha256_file(self.make_cases)},
            "sha256": {name: sha256_file(STARTER / name) for name in FILES},
        }
        atomic.write_text(STARTER / CARD, json.dumps(card, indent=2) + "\n")

    def describe(self) -> None:
        """Write describe.json, the fingerprint of some of the training cases."""
        made = self.folder / "described"
        shutil.rmtree(made, ignore_errors=True)
        self.make(HARD[0], CASES, made)
        self.make(PLAIN[0], CASES // 2, made)
        with check.locate(made) as places:
            describe.write(made, describe.describe(places, STARTER / "alignment.pt"))
        shutil.copyfile(made / "describe.json", STARTER / "describe.json")
        shutil.rmtree(made)


def _splits(clouds: Path) -> list[tuple[str, str]]:
    """Case ids and splits of a file."""
    with MouthStore(clouds) as store:
        return list(zip(store.case_ids, store.splits, strict=True))


def main() -> None:
    """Run the whole recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("make_cases", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    recipe = Recipe(given.make_cases, given.folder.resolve())
    for number in (*HARD, *PLAIN):
        recipe.sample(number)
    recipe.train()
    recipe.write_card()
    recipe.describe()


if __name__ == "__main__":
    main()
