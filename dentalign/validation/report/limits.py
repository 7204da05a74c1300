"""Where a model is not to be trusted, in sentences, from what the validation found."""

import numpy as np
from numpy.typing import NDArray

from dentalign.alignment.attention.model import AttentionModel
from dentalign.alignment.base import AlignmentModel
from dentalign.alignment.patterns import FEW_ALIKE, ToothPatterns
from dentalign.dataset.mouth_store import MouthStore
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2
from dentalign.teeth import ARCHES, SLOTS
from dentalign.validation.measurement import Validation

Mask = NDArray[np.bool_]

FEW_TEETH = 5  # in a slot of the test split: below that its mean says little
WORST = 5  # slots that are named

ENCODER = (
    "It tells where a tooth stands: points in another frame or unit give latents that mean something else.",
    "It knows a point by its neighbours alone; the models after it know a point by its place in the fixed "
    "order, so points in another order are encoded well and understood wrongly.",
)
DECODER = (
    "It reads each point's features alone and knows of no tooth: what no encoder gave is decoded, too.",
    "Decoded points bend a tooth a little (`rigidity_residual_mm` of the alignment model `fc`).",
)
_THIRD_MOLAR = np.array([fdi % 10 == 8 for fdi in SLOTS])


def of_autoencoder(found: Validation) -> list[str]:
    """Of encoder and decoder together."""
    error = found.slot_reconstruction_mm
    worst = [slot for slot in np.argsort(-np.nan_to_num(error, nan=-1.0), kind="stable") if error[slot] > 0]
    limits = []
    if worst:
        named = ", ".join(f"{SLOTS[slot]} ({error[slot]:.3f} mm)" for slot in worst[:WORST])
        limits.append(f"Slots with the largest `reconstruction_mm`: {named}.")
    if (unseen := np.flatnonzero(np.isnan(error))).size:
        limits.append(f"No tooth in the test split, so not measured: {_slots(unseen)}.")
    return limits


def of_alignment_model(found: Validation, store: MouthStore, model: AlignmentModel) -> list[str]:
    """Of an alignment model; `store` holds the cases that it learnt from and was measured on."""
    train, both = store.rows_of("train"), found.figures
    t1, t2 = store.present(train).swapaxes(0, 1)
    seen = (t1 & t2).sum(0)  # (32,) teeth of the train split
    add = _by_slot(found.slot, both["model"]["add_mm"])
    still = _by_slot(found.slot, both["identity"]["add_mm"])
    teeth = np.bincount(found.slot, minlength=len(SLOTS))
    measured = teeth >= FEW_TEETH
    limits = [
        f"It knows what the {len(train)} cases of its train split show, and nothing of other populations, "
        "appliances or scanners.",
        *_weak_slots(add, still, teeth, measured),
    ]
    if (few := np.flatnonzero((teeth > 0) & ~measured)).size:
        limits.append(f"Fewer than {FEW_TEETH} teeth in the test split, so hardly measured: {_slots(few)}.")
    if (none := np.flatnonzero(teeth == 0)).size:
        limits.append(f"No tooth that stays in the test split, so not measured: {_slots(none)}.")
    if (never := np.flatnonzero(seen == 0)).size:
        limits.append(f"Never seen at T1 and T2 in the train split: {_slots(never)}.")
    if isinstance(model, AttentionModel):
        unknown = np.flatnonzero(~model.network.known_at_t2.cpu().numpy())
        if unknown.size:
            limits.append(f"Too rare in training, left where they stand: {_slots(unknown)}.")
    else:
        limits.append("It does not say how sure it is of a tooth.")
    limits += [_missing(found, store), _extracted(found, store), _few_alike(found, store, t1, t2)]
    one_arch = sum(int((~t1[:, slots].any(1)).sum()) for slots in ARCHES.values())
    limits.append(f"Cases that have one arch only, in its train split: {one_arch}.")
    extracted = found.metrics["counts"]["extracted_teeth"]
    limits.append(
        f"Extracted teeth: {int((t1 & ~t2).sum())} in the train split, {extracted} in the test split; "
        "which teeth go is told to it, it does not decide that."
    )
    limits.append("It knows nothing of roots, bone, gums, bite forces or of teeth that must not move.")
    return limits


def _weak_slots(add: Array, still: Array, teeth: NDArray[np.intp], measured: NDArray[np.bool_]) -> list[str]:
    order = [slot for slot in np.argsort(-np.nan_to_num(add, nan=-1.0), kind="stable") if measured[slot]]
    if not order:
        return []
    named = ", ".join(f"{SLOTS[slot]} ({add[slot]:.2f} mm, {teeth[slot]} teeth)" for slot in order[:WORST])
    limits = [f"Weakest slots by `add_mm` (of those with {FEW_TEETH} teeth or more): {named}."]
    worse = np.flatnonzero(measured & (add >= still))
    if worse.size:
        limits.append(f"No better than leaving the tooth where it is: {_slots(worse)}.")
    return limits


def _missing(found: Validation, store: MouthStore) -> str:
    """The error in mouths that lack teeth at T1 beside that in full ones; third molars do not count."""
    present = store.present(found.rows)[:, T1]  # (N, 32)
    lacking = (~present & ~_THIRD_MOLAR).any(1)
    of = _beside(found, ("mouths that lack teeth", lacking), ("full mouths", ~lacking))
    return f"Missing teeth at T1 (third molars not counted): {of}."


def _extracted(found: Validation, store: MouthStore) -> str:
    """The error where the plan takes teeth out beside that where it does not; third molars do not count."""
    present = store.present(found.rows)
    out = present[:, T1] & ~present[:, T2]  # (N, 32)
    taken = (out & ~_THIRD_MOLAR).any(1)
    of = _beside(found, ("mouths with extractions", taken), ("mouths without", ~taken))
    return f"Extractions (third molars not counted): {of}."


def _few_alike(found: Validation, store: MouthStore, t1: Mask, t2: Mask) -> str:
    """The error where (nearly) no training case, masks t1 and t2 (N, 32), lacked and lost the same teeth."""
    seen = ToothPatterns.of(t1, t2)
    masks = store.present(found.rows)
    few = np.array([seen.mouths_alike(*both) < FEW_ALIKE for both in masks])
    of = _beside(found, ("mouths with such", few), ("the others", ~few))
    return f"Absent and extracted teeth that fewer than {FEW_ALIKE} training cases have in common: {of}."


def _beside(found: Validation, *groups: tuple[str, NDArray[np.bool_]]) -> str:
    """The error of the teeth of each group of cases (N,), and that of no movement."""
    parts = []
    for name, cases in groups:
        chosen = cases[found.case]
        add, still = (found.figures[method]["add_mm"][chosen] for method in ("model", "identity"))
        figure = (
            f"`add_mm` {add.mean():.2f} mm, without movement {still.mean():.2f} mm, {int(cases.sum())} cases"
            if chosen.any()
            else "none in the test split"
        )
        parts.append(f"{name} {figure}")
    return "; ".join(parts)


def _by_slot(slot: NDArray[np.intp], values: Array) -> Array:
    """Means (32,), not a number where there is no tooth."""
    number = np.bincount(slot, minlength=len(SLOTS))
    total = np.bincount(slot, values, minlength=len(SLOTS))
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _slots(slots: NDArray[np.intp]) -> str:
    return ", ".join(str(SLOTS[slot]) for slot in slots)
