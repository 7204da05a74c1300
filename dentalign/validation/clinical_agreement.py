"""Agreement of clinical measures between predicted T2 and plan, on the test split."""

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dentalign.clinical.measures import NORMAL_RANGE, is_normal, measure
from dentalign.dataset.mouth_store import MouthStore
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2

TIMES = ("t1", "predicted", "plan")


def agreement(store: MouthStore, rows: NDArray[np.intp], predicted: Array) -> dict[str, Any]:
    """Compare the clinical measures of N predicted mouths with those of their plans.

    predicted : (N, 32, 4, 4) poses of the teeth that stay, tooth-local -> head, mm
    returns   : `<measure>_error_<unit>`, mean absolute difference of prediction and plan over the cases in
                which both can be measured; `molar_class_agreement` and `canine_class_agreement`, share of
                sides; `within_normal`: time -> measure -> share of the cases within its normal range. Widths
                of teeth do not move, so Bolton's ratios have no error. A measure that no case allows has no
                entry
    """
    errors: dict[str, list[float]] = defaultdict(list)
    normal: dict[str, dict[str, list[bool]]] = {time: defaultdict(list) for time in TIMES}
    for row, pose in zip(rows, predicted, strict=True):
        mouth = store.mouth(int(row), latents=False)
        poses = {"t1": mouth.pose[T1], "predicted": pose, "plan": mouth.pose[T2]}
        present = {"t1": mouth.present[T1], "predicted": mouth.stays, "plan": mouth.stays}
        found = {
            time: measure(mouth.landmarks, poses[time], present[time], mouth.fdi)["measures"]
            for time in TIMES
        }
        for name, value in found["plan"].items():
            if name.startswith("bolton") or name not in found["predicted"]:
                continue
            if isinstance(value, str):
                kind = f"{name.partition('_')[0]}_class_agreement"
                errors[kind].append(float(found["predicted"][name] == value))
            elif isinstance(value, int | float):
                errors[_error_name(name)].append(abs(found["predicted"][name] - value))
        for time in TIMES:
            for name, value in found[time].items():
                if name in NORMAL_RANGE:
                    normal[time][name].append(bool(is_normal(name, value)))
    block: dict[str, Any] = {name: float(np.mean(values)) for name, values in errors.items()}
    within = {
        time: {name: float(np.mean(values)) for name, values in names.items()}
        for time, names in normal.items()
    }
    return block | ({"within_normal": within} if any(within.values()) else {})


def _error_name(measure_name: str) -> str:
    """Name of an error: overjet_mm -> overjet_error_mm, par -> par_error."""
    words, _, unit = measure_name.rpartition("_")
    return f"{words}_error_{unit}" if unit == "mm" else f"{measure_name}_error"
