"""Clinical measures of a mouth, by name, with their normal ranges.

Names, signs and units are those of docs/clinical-measures.md. A measure that a mouth does not allow is listed
with the reason, such as "36 and 46 are missing"; nothing is guessed.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dentalign.clinical import arch, bite, bolton, inclination, indices
from dentalign.clinical.mouth_points import SIDES, MouthPoints, NotMeasurable, mouth_points
from dentalign.geometry.rigid import Array
from dentalign.teeth import SLOTS

FORMAT_VERSION = 1  # of the JSON of a case

# Normal range of a number, as its source gives it (docs/clinical-measures.md): lowest and highest value.
NORMAL_RANGE: dict[str, tuple[float, float]] = {
    "overjet_mm": (1.0, 3.0),
    "overbite_mm": (1.0, 3.0),
    "upper_midline_mm": (-1.0, 1.0),
    "lower_midline_mm": (-1.0, 1.0),
    "bolton_overall_percent": (89.39, 93.21),
    "bolton_anterior_percent": (75.55, 78.85),
    "bolton_exported_overall_percent": (89.39, 93.21),
    "bolton_exported_anterior_percent": (75.55, 78.85),
    "par": (0.0, 5.0),
} | {
    f"{name}_{where}_mm": limits
    for name, places, limits in (
        ("molar_relation", SIDES, (-1.0, 1.0)),
        ("canine_relation", SIDES, (-1.0, 1.0)),
        ("irregularity", ("upper", "lower"), (0.0, 3.5)),
        ("crowding", ("upper", "lower"), (-1.0, 1.0)),
        ("spee", SIDES, (0.0, 1.5)),
    )
    for where in places
}

_WIDTHS = {"33": 3, "44": 4, "55": 5, "66": 6}
_Compute = Callable[[MouthPoints], dict[str, Any]]


def measure(
    landmarks: NDArray[np.floating],
    pose: Array,
    present: NDArray[np.bool_],
    fdi: NDArray[np.integer] | None = None,
    bolton_mm: NDArray[np.floating] | None = None,
) -> dict[str, dict[str, Any]]:
    """Measure a mouth at one time.

    landmarks : (32, L, 3) tooth-local mm, see `landmarks.LANDMARK_NAMES`; NaN where absent
    pose      : (32, 4, 4) tooth-local -> head, mm
    present   : (32,) bool, teeth that stand
    fdi       : (32,) FDI numbers in the file, 55 in the slot of 15; by default all teeth are permanent
    bolton_mm : (32,) widths that the export gives, NaN where absent; with some there are also OF_EXPORT
    returns   : {"measures": name -> number, list or dict; "not_measurable": name -> reason}. Every name is in
                one of the two; lengths are rounded to micrometres
    """
    measures: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    try:
        mouth = mouth_points(landmarks, pose, present, fdi)
    except NotMeasurable as reason:
        return {"measures": {}, "not_measurable": {name: str(reason) for name in NAMES}}
    widths = {} if bolton_mm is None else dict(zip(SLOTS, bolton_mm.tolist(), strict=True))
    widths = {tooth: width for tooth, width in widths.items() if width > 0}  # not NaN
    for names, compute in [*_MEASURES, *(_of_export(widths) if widths else ())]:
        try:
            measures |= {name: _rounded(value) for name, value in compute(mouth).items()}
        except NotMeasurable as reason:
            reasons |= dict.fromkeys(names, str(reason))
    reasons |= {f"ogs_parts.{name}": reason for name, reason in indices.OGS_NOT_MEASURABLE.items()}
    return {"measures": measures, "not_measurable": reasons}


def is_normal(name: str, value: float) -> bool | None:
    """True if the value is in the measure's normal range; None if it has none."""
    limits = NORMAL_RANGE.get(name)
    return None if limits is None else limits[0] <= value <= limits[1]


def off_norm(name: str, value: float) -> float:
    """Distance of a value from the normal range of its measure; 0 within."""
    low, high = NORMAL_RANGE[name]
    return max(low - value, value - high, 0.0)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return round(value, 3) + 0.0 if isinstance(value, float) else value  # no -0.0


def _number(name: str, compute: Callable[[MouthPoints], float]) -> tuple[tuple[str, ...], _Compute]:
    return (name,), lambda mouth: {name: compute(mouth)}


def _several(
    names: tuple[str, ...], compute: Callable[[MouthPoints], tuple[Any, ...]]
) -> tuple[Any, _Compute]:
    return names, lambda mouth: dict(zip(names, compute(mouth), strict=True))


def _with_class(name: str, side: str, relation: Callable[[MouthPoints, str], float]) -> tuple[Any, _Compute]:
    names = (f"{name}_{side}_mm", f"{name}_{side}_class")

    def compute(mouth: MouthPoints) -> dict[str, Any]:
        found = relation(mouth, side)
        return dict(zip(names, (found, bite.angle_class(found)), strict=True))

    return names, compute


def _par(mouth: MouthPoints) -> tuple[int, dict[str, int]]:
    components = indices.par_components(mouth)
    return indices.par(components), components


def _list() -> list[tuple[tuple[str, ...], _Compute]]:
    found = [
        _several(("overjet_mm", "overbite_mm"), bite.overjet_and_overbite_mm),
        *(_number(f"{name}_midline_mm", partial(bite.midline_mm, arch=name)) for name in ("upper", "lower")),
        *(_with_class("molar_relation", side, bite.molar_relation_mm) for side in SIDES),
        *(_with_class("canine_relation", side, bite.canine_relation_mm) for side in SIDES),
        _several(("crossbite_teeth", "scissor_bite_teeth"), bite.crossbites),
        _number("bolton_overall_percent", bolton.overall_percent),
        _number("bolton_anterior_percent", bolton.anterior_percent),
    ]
    for name in ("upper", "lower"):
        found += [
            _number(f"irregularity_{name}_mm", partial(arch.irregularity_mm, arch=name)),
            _number(f"crowding_{name}_mm", partial(arch.crowding_mm, arch=name)),
            _number(f"arch_length_{name}_mm", partial(arch.length_mm, arch=name)),
            *(
                _number(f"width_{label}_{name}_mm", partial(arch.width_mm, arch=name, position=position))
                for label, position in _WIDTHS.items()
            ),
        ]
    found += [
        *(_number(f"spee_{side}_mm", partial(arch.spee_mm, side=side)) for side in SIDES),
        _several(("tip_deg", "torque_deg"), inclination.tip_and_torque),
        _several(("par", "par_components"), _par),
        (("ogs_parts",), lambda mouth: {"ogs_parts": indices.ogs_parts(mouth)}),
    ]
    return found


def _of_export(widths: dict[int, float]) -> list[tuple[tuple[str, ...], _Compute]]:
    """Measures of the widths that an export gives, FDI number -> mm, beside those of the crowns."""

    def of_crowns(mouth: MouthPoints) -> dict[str, dict[str, float]]:
        there = [fdi for fdi in widths if mouth.is_there(fdi)]
        return {
            "tooth_width_mm": {str(fdi): mouth.width(fdi) for fdi in there},
            "tooth_width_exported_mm": {str(fdi): widths[fdi] for fdi in there},
        }

    ratios = {"overall": 6, "anterior": 3}
    return [
        *(
            _number(
                f"bolton_exported_{name}_percent", partial(bolton.exported_percent, widths=widths, last=last)
            )
            for name, last in ratios.items()
        ),
        (("tooth_width_mm", "tooth_width_exported_mm"), of_crowns),
    ]


_MEASURES = _list()
NAMES = tuple(name for names, _ in _MEASURES for name in names)
OF_EXPORT = tuple(name for names, _ in _of_export({}) for name in names)
