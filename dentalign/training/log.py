"""Log of a training in DVCLive's layout, which DVC and its VS Code extension show live."""

from pathlib import Path

from dvclive import Live

from dentalign.training.loop import Metrics


class TrainingLog:
    """Folder with `metrics.json` and `plots/metrics/*.tsv`; DVC deletes it before every run."""

    def __init__(self, folder: str | Path):
        # dvcyaml and save_dvc_exp off: dvc.yaml is written by hand, experiments are DVC's business.
        self._live = Live(
            dir=str(folder), save_dvc_exp=False, dvcyaml=None, report=None, monitor_system=False, resume=False
        )

    def __enter__(self) -> "TrainingLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._live.end()

    def epoch(self, number: int, metrics: Metrics) -> None:
        """Log the metrics of one epoch; `number` counts from 1."""
        self._live.step = number
        for name, value in metrics.items():
            self._live.log_metric(name, value)
        self._live.make_summary()

    def summary(self, metrics: Metrics) -> None:
        """Write the metrics of the best epoch to `metrics.json`, as `best/<name>`."""
        for name, value in metrics.items():
            self._live.log_metric(f"best/{name}" if name != "best_epoch" else name, value, plot=False)
        self._live.make_summary()
