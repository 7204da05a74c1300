"""A picture of what `compare_models.py --train-cases` found: the error against the number of training cases.

    python benchmarks/data_efficiency.py reports/compare_models.csv --out docs/pictures/data-efficiency.svg

Of several runs of a model on as many cases the longest counts, of several learning rates the one with the
least `val_add_mm`; several seeds are a mean.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot


def curves(files: list[Path]) -> dict[str, dict[int, float]]:
    """Model -> training cases -> `add_vs_identity`."""
    runs: dict[tuple[str, int], dict[tuple[int, str], dict[str, tuple[float, float]]]] = {}
    for file in files:
        with open(file, newline="", encoding="utf-8") as rows:
            for row in csv.DictReader(rows):
                of = runs.setdefault((row["model"], int(row["train_cases"])), {})
                seeds = of.setdefault((int(row["epochs"]), row["learning_rate"]), {})
                seeds[row["seed"]] = float(row["val_add_mm"]), float(row["add_vs_identity"])
    models: dict[str, dict[int, float]] = defaultdict(dict)
    for (model, cases), settings in sorted(runs.items()):
        longest = max(epochs for epochs, _ in settings)
        means = [
            np.mean(list(seeds.values()), axis=0)
            for (epochs, _), seeds in settings.items()
            if epochs == longest
        ]
        models[model][cases] = float(min(means, key=lambda mean: float(mean[0]))[1])
    return models


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, help="CSV of compare_models.py")
    parser.add_argument("--out", type=Path, required=True, help="SVG or PNG")
    given = parser.parse_args()
    matplotlib.rcParams["svg.hashsalt"] = "dentalign"  # the same bytes each time
    figure, axes = pyplot.subplots(figsize=(5.5, 3.6), layout="constrained")
    for model, points in curves(given.files).items():
        axes.plot(list(points), list(points.values()), marker="o", label=model)
    axes.set_xscale("log")
    ticks = sorted({cases for points in curves(given.files).values() for cases in points})
    axes.set_xticks(ticks, [str(cases) for cases in ticks], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("training cases")
    axes.set_ylabel("add_mm over no movement (test split)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(given.out, metadata={"Date": None} if given.out.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
