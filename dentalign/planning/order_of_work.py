"""Order of work of a staged plan: who moves when, spaces, and enamel to remove, as tables and in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.planning.staging import TOLERANCE_MM, StagedPlan

COLUMNS = ("stage", "tooth", "mm", "degrees", "waits")
WAITS_MM, WAITS_DEG = 0.01, 0.1  # a tooth that moves less waits
SPACE_MM = 0.1  # a gap wider than that, with none before or after it, is a space that opens or closes
ENAMEL_MM = 0.02  # less overlap of neighbours at T2 is not listed as enamel to remove


@dataclass(frozen=True)
class Steps:
    """Movement of each tooth from each stage to the next.

    slots   : (T,) int
    mm      : (K, T), of the crown's centroid
    degrees : (K, T)
    waits   : (K, T) bool
    """

    slots: NDArray[np.intp]
    mm: Array
    degrees: Array
    waits: NDArray[np.bool_]


def steps(before: Array, plan: StagedPlan, mask: NDArray[np.bool_], points: NDArray[np.floating]) -> Steps:
    """Measure the steps of a plan; arguments as for `staging.plan`."""
    slots = np.flatnonzero(mask)
    poses = np.concatenate([before[None], plan.poses])[:, slots]
    place = rigid.apply(poses, points[slots].astype(np.float64).mean(1)[:, None])[:, :, 0]
    mm = np.linalg.norm(np.diff(place, axis=0), axis=-1)
    degrees = rigid.angle_deg(np.swapaxes(poses[:-1, :, :3, :3], -1, -2) @ poses[1:, :, :3, :3])
    return Steps(slots, mm, degrees, (mm < WAITS_MM) & (degrees < WAITS_DEG))


def rows(found: Steps, fdi: NDArray[np.integer]) -> list[dict[str, object]]:
    """Rows of `staging/<case_id>.csv`, see `COLUMNS`: a row per stage and tooth; `waits` is 1 or 0."""
    return [
        {
            "stage": stage + 1,
            "tooth": int(fdi[slot]),
            "mm": f"{found.mm[stage, tooth]:.4f}",
            "degrees": f"{found.degrees[stage, tooth]:.3f}",
            "waits": int(found.waits[stage, tooth]),
        }
        for stage in range(len(found.mm))
        for tooth, slot in enumerate(found.slots.tolist())
    ]


def enamel_to_remove(plan: StagedPlan, fdi: NDArray[np.integer]) -> list[tuple[str, float]]:
    """Contacts of neighbours that overlap at T2, such as "12-11", and the enamel to remove there, mm."""
    overlap = -plan.gap_mm[-1]
    return [
        (contact, round(float(mm), 2))
        for contact, mm in zip(_contacts(plan, fdi), overlap, strict=True)
        if mm > ENAMEL_MM
    ]


def collisions(plan: StagedPlan, fdi: Mapping[int, int] | NDArray[np.integer]) -> list[tuple[int, int, str]]:
    """The two teeth of each collision, FDI numbers, and the finding in words."""
    found = []
    for collision in plan.collisions:
        one, other = (int(fdi[slot]) for slot in collision.slots)
        seen = (
            f"{one} and {other} overlap by {collision.depth_mm:.2f} mm at stage {collision.stage}, "
            f"{collision.depth_mm - collision.allowed_mm:.2f} mm more than at T1 and T2"
        )
        found.append((one, other, seen))
    return found


def in_words(found: Steps, plan: StagedPlan, fdi: NDArray[np.integer]) -> list[str]:
    """Sentences for the technician: stages, first and last movement of each tooth, spaces, enamel."""
    count = len(plan.poses)
    said = [f"{count} stages; even motion takes {plan.even_stages} within the same limits."]
    moves: dict[str, list[str]] = {}
    for tooth, slot in enumerate(found.slots.tolist()):
        moving = np.flatnonzero(~found.waits[:, tooth]) + 1
        when = f"stages {moving[0]} to {moving[-1]}" if len(moving) else "never"
        if len(moving) and (pauses := moving[-1] - moving[0] + 1 - len(moving)):
            when += f" with {pauses} pauses"
        moves.setdefault(when, []).append(str(fdi[slot]))
    said += [f"Moving in {when}: {', '.join(teeth)}." for when, teeth in moves.items() if when != "never"]
    if still := moves.get("never"):
        said.append(f"Not moving: {', '.join(still)}.")
    said += _spaces(plan, fdi)
    if enamel := enamel_to_remove(plan, fdi):
        said.append(f"Enamel to remove: {'; '.join(f'{name} {mm:.2f} mm' for name, mm in enamel)}.")
    if plan.collisions:
        said.append(f"Pairs that overlap by more than {TOLERANCE_MM:g} mm beyond T1 and T2 are listed above.")
    return said


def _contacts(plan: StagedPlan, fdi: NDArray[np.integer]) -> list[str]:
    return [f"{fdi[one]}-{fdi[other]}" for one, other in plan.neighbours.tolist()]


def _spaces(plan: StagedPlan, fdi: NDArray[np.integer]) -> list[str]:
    """Sentences on the spaces between neighbours that open or close."""
    opens: list[str] = []
    closes: list[str] = []
    for contact, gap in zip(_contacts(plan, fdi), (plan.gap_mm > SPACE_MM).T, strict=True):
        spaces = runs(gap.tolist())
        opens += [f"{contact} at stage {first}" for first, _ in spaces if first > 0]
        closes += [f"{contact} at stage {last + 1}" for _, last in spaces if last < len(gap) - 1]
    words = (("Spaces that open", opens), ("Spaces that close", closes))
    return [f"{what}: {'; '.join(where)}." for what, where in words if where]


def runs(flags: Sequence[bool]) -> list[tuple[int, int]]:
    """First and last index of each run of True."""
    found = []
    for flag, group in groupby(enumerate(flags), key=lambda item: item[1]):
        if flag:
            indices = [index for index, _ in group]
            found.append((indices[0], indices[-1]))
    return found
