"""The picture of a prediction: T1, predicted T2 coloured by movement, and the plan of the file, if any."""

from pathlib import Path

import matplotlib
import numpy as np

from dentalign.geometry import movement, stl
from dentalign.mouth import T1, T2
from dentalign.prediction.predictor import Prediction
from dentalign.reports.mouth_picture import bodies, mouth_figure
from dentalign.reports.rendering import save_png
from dentalign.reports.scene_mesh import thinned

FACES = 1000  # a crown; at the size of the picture more are not seen, and take most of the time


def write(path: str | Path, prediction: Prediction) -> None:
    """Write the picture (PNG), all or nothing; the same prediction gives the same bytes."""
    case = prediction.case
    surfaces = {
        slot: thinned(*stl.merged(triangles), FACES) if len(triangles) > FACES else stl.merged(triangles)
        for slot, triangles in case.crowns.items()
    }
    there = np.flatnonzero(prediction.mask)
    moved = {
        slot: movement.movement(
            int(case.mouth.fdi[slot]),
            case.mouth.pose[T1, slot],
            prediction.pose[slot],
            case.mouth.points[slot],
        )["movement_mm"]
        for slot in there.tolist()
    }
    states = [
        ("T1", bodies(surfaces, case.mouth.pose[T1], np.flatnonzero(case.mouth.present[T1]))),
        ("predicted T2", bodies(surfaces, prediction.pose, there, moved)),
    ]
    if case.has_plan:
        states.append(
            ("T2 of the file", bodies(surfaces, case.mouth.pose[T2], np.flatnonzero(case.mouth.present[T2])))
        )
    most = max(moved, key=lambda slot: moved[slot])
    subtitle = (
        f"movement {np.mean(list(moved.values())):.2f} mm on average over {len(moved)} teeth, "
        f"most {moved[most]:.2f} mm (tooth {case.mouth.fdi[most]})"
    )
    with matplotlib.rc_context(matplotlib.rcParamsDefault):  # the same bytes whatever the user's style
        title = f"Prediction: {case.case_id}"
        save_png(mouth_figure(title, subtitle, states, "movement of the tooth, mm"), path)
