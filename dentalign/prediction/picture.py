"""PNG picture of a prediction: T1, predicted T2 coloured by movement, and T2 of the input file, if any."""

from pathlib import Path

import numpy as np

from dentalign.reports import mouth_picture
from dentalign.reports.scene import Scene


def write(path: str | Path, scene: Scene) -> None:
    """Write the picture of a predicted case, all or nothing; the same scene gives the same bytes."""
    moved = {tooth.fdi: tooth.figures["movement_mm"] for tooth in scene.teeth if "predicted" in tooth.poses}
    most = max(moved, key=lambda fdi: moved[fdi])
    subtitle = (
        f"movement {np.mean(list(moved.values())):.2f} mm on average over {len(moved)} teeth, "
        f"most {moved[most]:.2f} mm (tooth {most})"
    )
    coloured = ("predicted", "movement_mm")
    mouth_picture.write(path, scene, f"Prediction: {scene.case_id}", subtitle, coloured, most_faces=1000)
