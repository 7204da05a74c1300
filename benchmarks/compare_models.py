"""`attention` and its peers, trained on the same cases for the same number of epochs, on the test split.

    python benchmarks/compare_models.py --latents data/latents.h5 --epochs 100
    python benchmarks/compare_models.py --train-cases 50 100 --epochs 240 170   # less to learn from

All get the same input in the same canonical frame, the same augmentation, loss (with --contact also for the
contacts), number of predictions (--twice), schedule, averaging of weights and mean over the mirror image; the
peers are better off than as published. What differs is the network, and that the peers predict a motion away
from T1, as they do. Results are appended to a CSV; `val_add_mm` is for choosing among learning rates. A run
goes on where a shorter one of the same settings ended.
"""

import argparse
import csv
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peers.pointnet_graph import PointNetGraph
from peers.token_transformer import TokenTransformer

from dentalign.alignment.attention.model import AttentionModel
from dentalign.alignment.attention.network import PoseNetwork, ToothAttention, ToothAttentionConfig
from dentalign.alignment.attention.training import AttentionTask, AttentionTraining, network_config
from dentalign.alignment.base import AlignmentConfig, TrainingData, TrainSection
from dentalign.alignment.calibration import calibrate
from dentalign.alignment.conditions import Conditions
from dentalign.dataset.mouth_store import MouthStore
from dentalign.geometry import rigid
from dentalign.mouth import T1, T2
from dentalign.training.loop import checkpoint_key, train
from dentalign.validation import metrics

NETWORKS: dict[str, Callable[[ToothAttentionConfig], PoseNetwork]] = {
    "attention": ToothAttention,
    "token_transformer": lambda config: TokenTransformer(config.points, config.planners),
    "pointnet_graph": lambda config: PointNetGraph(config.points, config.planners),
}


def made(
    model: str, settings: AttentionTraining, points: int, planners: tuple[str, ...] = ()
) -> AttentionModel:
    """An untrained alignment model around one of the networks."""
    config = network_config(settings, points, len(planners))
    alignment_model = AttentionModel(
        AlignmentConfig("attention", points, 1, asdict(config), "", "", planners=planners)
    )
    alignment_model.network = NETWORKS[model](config)
    return alignment_model


class CasesForFew(MouthStore):
    """A store of which the training sees only the first `most` training cases; 0: all."""

    def __init__(self, path: Path, most: int):
        super().__init__(path)
        self.most = most

    def rows_of(self, split: str) -> NDArray[np.intp]:
        """Rows of a split."""
        rows = super().rows_of(split)
        return rows[: self.most] if split == "train" and self.most else rows


def measured(store: MouthStore, alignment_model: AttentionModel) -> dict[str, float]:
    """The figures of the test split."""
    rows = store.rows_of("test")
    mouths = store.mouths(rows)
    both = mouths.stays
    known = list(alignment_model.config.planners)
    planner = [known.index(code) + 1 if code in known else 0 for code in np.array(store.planners)[rows]]
    placed = alignment_model.predict(mouths.without_plan())
    told = alignment_model.predict(
        mouths.without_plan(), Conditions.of_plan(mouths, np.array(planner, np.int64)).only("planner")
    )
    points, true_pose = mouths.points[both], mouths.pose[:, T2][both]
    true, still = rigid.apply(true_pose, points), rigid.apply(mouths.pose[:, T1][both], points)
    add, add_told, none = (
        metrics.add_mm(places, true)
        for places in (*(rigid.apply(plan.pose[both], points) for plan in (placed, told)), still)
    )
    assert placed.expected_add_mm is not None
    return {
        "add_mm": float(add.mean()),
        "add_vs_identity": float(add.mean() / none.mean()),
        "planner_told_add_vs_identity": float(add_told.mean() / none.mean()),
        "rotation_error_deg": float(metrics.rotation_error_deg(placed.pose[both], true_pose).mean()),
        "rank_correlation": metrics.confidence(placed.expected_add_mm[both], add).get(
            "rank_correlation", np.nan
        ),
    }


def main() -> None:
    """Train and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latents", type=Path, default=Path("data/latents.h5"))
    parser.add_argument("--models", nargs="+", default=["attention", "token_transformer", "pointnet_graph"])
    parser.add_argument("--train-cases", type=int, nargs="+", default=[0], help="0: all")
    parser.add_argument("--epochs", type=int, nargs="+", default=[100], help="one, or one for each of these")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=0.001)
    parser.add_argument(
        "--contact", type=float, default=0.0, help="the loss term, see train.attention.contact"
    )
    parser.add_argument("--twice", action="store_true", help="predict twice, see train.attention.midway")
    parser.add_argument("--out", type=Path, default=Path("reports/compare_models.csv"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    settings = AttentionTraining(learning_rate=given.learning_rate, contact=given.contact)
    epochs = given.epochs * len(given.train_cases) if len(given.epochs) == 1 else given.epochs
    for seed in given.seeds:
        for most, length in zip(given.train_cases, epochs, strict=True):
            for model in given.models:
                _append(given.out, one(model, most, seed, length, given.latents, settings, given.twice))


def one(
    model: str, most: int, seed: int, epochs: int, latents: Path, settings: AttentionTraining, twice: bool
) -> dict[str, object]:
    """Train a model on the first `most` training cases (0: all), and measure it: a row of the table."""
    started = time.monotonic()
    torch.manual_seed(seed)
    with CasesForFew(latents, most) as store:
        section = TrainSection(model="attention", seed=seed, threads=torch.get_num_threads())
        data = TrainingData(store, "", "", torch.device("cpu"), section)
        alignment_model = made(model, settings, store.layout.points, data.planners)
        alignment_model.midway *= twice
        task = AttentionTask(data, alignment_model, settings)
        schedule = settings.schedule(epochs, epochs)
        networks = sorted(Path(__file__).with_name("peers").glob("*.py"))
        key = checkpoint_key(
            [latents, *networks],
            {**settings.model_dump(), "model": model, "most": most, "seed": seed, "twice": twice},
            __file__,
        )
        outcome = train(task, schedule, seed, f"compare/{key}")
        alignment_model.network.load_state_dict(outcome.best_state)
        calibrate(alignment_model.eval(), data.calibration_mouths(latents=False))
        figures = measured(store, alignment_model)
        return {
            "model": model,
            "train_cases": len(store.rows_of("train")),
            "seed": seed,
            "epochs": epochs,
            "learning_rate": settings.learning_rate,
            "contact": settings.contact,
            "twice": twice,
            "weights": sum(value.numel() for value in alignment_model.network.parameters()),
            "best_epoch": outcome.best_epoch,
            "val_add_mm": float(f"{outcome.best['val_add_mm']:.4g}"),
            **{name: float(f"{value:.4g}") for name, value in figures.items()},
            "minutes": round((time.monotonic() - started) / 60, 1),
        }


def _append(path: Path, row: dict[str, object]) -> None:
    print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    if not new and path.read_text(encoding="utf-8").splitlines()[:1] != [",".join(row)]:
        raise SystemExit(f"{path}: has other columns; give another --out")
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
