"""Clinical measures of a new patient: at T1, at the predicted T2, and of the plan in the file."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dentalign.cases.crowns import Sampler
from dentalign.cases.left_out import LeftOut
from dentalign.cases.settings import Fetch
from dentalign.clinical import tables
from dentalign.clinical.measures import measure
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2
from dentalign.prediction import new_case
from dentalign.prediction.new_case import NewCase


def states(
    case: NewCase, predicted: tuple[Array, NDArray[np.bool_]] | None = None
) -> dict[str, dict[str, Any]]:
    """Measure a case: "t1", "predicted" if given, and "plan" if the file has one; each as `measures.measure`.

    predicted : poses (32, 4, 4), tooth-local -> head, mm, and teeth (32,) that stand
    """
    mouth = case.mouth
    times = {"t1": (mouth.pose[T1], mouth.present[T1])}
    if predicted is not None:
        times["predicted"] = predicted
    if case.has_plan:
        times["plan"] = (mouth.pose[T2], mouth.present[T2])
    return {
        time: measure(mouth.landmarks, pose, present, mouth.fdi, mouth.bolton_mm)
        for time, (pose, present) in times.items()
    }


def measure_case(
    json_file: Path,
    meshes: str,
    sampler: Sampler,
    *,
    fetch: Fetch | None = None,
    find_axis: bool = True,
    lines: list[LeftOut] | None = None,
    out: Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Measure a case as it stands, without a model; parameters and errors as for `new_case.read`.

    out     : folder for `<case_id>.json` and `<case_id>.csv`; None to write nothing
    returns : see `states`
    """
    case = new_case.read(json_file, meshes, sampler, fetch=fetch, find_axis=find_axis, lines=lines)
    found = states(case)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        tables.write(out, case.case_id, found)
    return found
