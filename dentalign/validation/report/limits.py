"""Known limits of the models, as sentences for their model cards, from a validation."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dentalign.alignment.attention.model import AttentionModel
from dentalign.alignment.base import AlignmentModel
from dentalign.alignment.patterns import FEW_ALIKE, ToothPatterns
from dentalign.dataset.mouth_store import MouthStore
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2
from dentalign.teeth import ARCHES, SLOTS
from dentalign.validation.measurement import Validation, mean

Mask = NDArray[np.bool_]

FEW_TEETH = 5  # in a slot of the test split: below that its mean says little
WORST = 5  # slots that are named

ENCODER = (
    "Latents depend on where a tooth stands: points in another frame or unit give other latents.",
    "It does not use the order of the points, but the models after it do: they misread the latents of points "
    "in another order.",
)
DECODER = (
    "It decodes each point from its features alone, and also features that are no latent of a tooth.",
    "Decoded points are not exactly a rigid tooth (`rigidity_residual_mm` of the alignment model `fc`).",
)
_THIRD_MOLAR = np.array([fdi % 10 == 8 for fdi in SLOTS])


def of_autoencoder(found: Validation) -> list[str]:
    """Known limits of encoder plus decoder, as sentences."""
    error = mean(found.reconstruction_mm, (0, 1))
    worst = [slot for slot in _by_decreasing(error) if error[slot] > 0]
    sentences = []
    if worst:
        named = ", ".join(f"{SLOTS[slot]} ({error[slot]:.3f} mm)" for slot in worst[:WORST])
        sentences.append(f"Slots with the largest `reconstruction_mm`: {named}.")
    return sentences + _about_slots("No tooth in the test split, so not measured", np.isnan(error))


def of_alignment_model(found: Validation, store: MouthStore, model: AlignmentModel) -> list[str]:
    """Known limits of an alignment model, as sentences.

    store : the latents file, open; it holds the cases of the training and of the validation
    """
    train, test = store.present(store.rows_of("train")), store.present(found.rows)
    add, still = (mean(found.figures[method]["add_mm"], 0) for method in ("model", "identity"))
    teeth = found.measured.sum(0)
    enough = teeth >= FEW_TEETH
    sentences = [
        f"It was trained on {len(train)} cases, and not tested on other populations, appliances or scanners."
    ]
    if weakest := [slot for slot in _by_decreasing(add) if enough[slot]][:WORST]:
        named = ", ".join(f"{SLOTS[slot]} ({add[slot]:.2f} mm, {teeth[slot]} teeth)" for slot in weakest)
        sentences.append(f"Weakest slots by `add_mm` (of those with {FEW_TEETH} teeth or more): {named}.")
    for text, slots in (
        ("No better than leaving the tooth where it is", enough & (add >= still)),
        (f"Fewer than {FEW_TEETH} teeth in the test split, so hardly measured", (teeth > 0) & ~enough),
        ("No tooth that stays in the test split, so not measured", teeth == 0),
        ("Never present at both T1 and T2 in the train split", ~(train[:, T1] & train[:, T2]).any(0)),
    ):
        sentences += _about_slots(text, slots)
    if isinstance(model, AttentionModel):
        unknown = ~model.network.known_at_t2.cpu().numpy()
        sentences += _about_slots("Too rare in training, left where they stand", unknown)

    # Third molars do not count: some have them and some do not.
    lacking = (~test[:, T1] & ~_THIRD_MOLAR).any(1)
    losing = (test[:, T1] & ~test[:, T2] & ~_THIRD_MOLAR).any(1)
    patterns = ToothPatterns.of(train[:, T1], train[:, T2])
    unusual = np.array([patterns.mouths_alike(*present) < FEW_ALIKE for present in test])
    sentences += [
        "Missing teeth at T1 (third molars not counted): "
        f"{_compared(found, ('mouths that lack teeth', lacking), ('full mouths', ~lacking))}.",
        "Extractions (third molars not counted): "
        f"{_compared(found, ('mouths with extractions', losing), ('mouths without', ~losing))}.",
        f"Patterns of absent and extracted teeth with fewer than {FEW_ALIKE} training cases: "
        f"{_compared(found, ('mouths with such a pattern', unusual), ('all other mouths', ~unusual))}.",
    ]
    one_arch = sum(int((~train[:, T1, slots].any(1)).sum()) for slots in ARCHES.values())
    extracted = int((train[:, T1] & ~train[:, T2]).sum())
    return [
        *sentences,
        f"Cases that have one arch only, in its train split: {one_arch}.",
        f"Extracted teeth: {extracted} in the train split, {found.metrics['counts']['extracted_teeth']} in "
        "the test split; which teeth are extracted is an input, not a prediction.",
        "Its inputs have no roots, bone, gums or bite forces, and no teeth that must not move.",
    ]


def _compared(found: Validation, *groups: tuple[str, Mask]) -> str:
    """Errors of the model and of no movement, for each group of cases (N,)."""
    parts = []
    for name, cases in groups:
        teeth = found.measured & cases[:, None]
        add, still = (found.figures[method]["add_mm"][teeth] for method in ("model", "identity"))
        errors = (
            f"`add_mm` {add.mean():.2f} mm, without movement {still.mean():.2f} mm, {int(cases.sum())} cases"
            if teeth.any()
            else "none in the test split"
        )
        parts.append(f"{name} {errors}")
    return "; ".join(parts)


def _by_decreasing(values: Array) -> Sequence[int]:
    """Slots by decreasing value (32,), NaN last."""
    slots: list[int] = np.argsort(-np.nan_to_num(values, nan=-1.0), kind="stable").tolist()
    return slots


def _about_slots(text: str, slots: ArrayLike) -> list[str]:
    """A sentence that names slots (32,); none where there are none."""
    named = ", ".join(str(SLOTS[slot]) for slot in np.flatnonzero(slots))
    return [f"{text}: {named}."] if named else []
