"""Baseline `ridge`: linear regression from the poses of all teeth at T1 to the motion of each tooth.

Inputs and motions are in the canonical frame: the whole mouth is moved so that its centroids at T1 fit those
of the average mouth best. Each slot has a regression of its own, over the teeth in it that stay. Mirror
images count as further training cases: as the average mouth is symmetric, their inputs are those of the mouth
with other signs and in another order, so that their sums are made from its sums.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from dentalign.alignment.attention.posed_teeth import to_canonical_frame
from dentalign.dataset.mouth_store import MouthStore
from dentalign.geometry import rigid
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, T2, Mouths
from dentalign.teeth import MIRRORED_SLOT, SLOT_COUNT
from dentalign.validation.metrics import add_mm
from dentalign.validation.motions import centroids, motion_to, moved

STRENGTHS = (1.0, 10.0, 100.0, 1_000.0, 10_000.0)
_BATCH_CASES = 64  # bounds the memory, whatever the number of training cases

# Signs under x -> -x: of a vector, of a rotation vector, of the two masks.
_MOTION_SIGNS = np.array([-1.0, 1.0, 1.0, 1.0, -1.0, -1.0])
_TOOTH_SIGNS = np.append(_MOTION_SIGNS, [1.0, 1.0])
_INPUTS = SLOT_COUNT * len(_TOOTH_SIGNS)
_MIRRORED_INPUT = np.append(np.arange(_INPUTS).reshape(SLOT_COUNT, -1)[MIRRORED_SLOT].ravel(), _INPUTS)
_INPUT_SIGNS = np.append(np.tile(_TOOTH_SIGNS, SLOT_COUNT), 1.0)
_MOUTHS = SLOT_COUNT  # the regression that counts every mouth, after those of the slots
_MIRRORED_REGRESSION = np.append(MIRRORED_SLOT, _MOUTHS)


@dataclass(frozen=True)
class Ridge:
    """Linear model of the motion of each tooth.

    weights  : (32, 257, 6), of the inputs of `_inputs`, for each slot; the last input is the constant 1
    strength : factor of the penalty, see `fit_ridge`
    """

    weights: Array
    strength: float

    def predict(self, mouths: Mouths) -> Array:
        """Predict poses (N, 32, 4, 4) at T2; of T2 it reads only which teeth stay."""
        inputs, frame = _inputs(mouths)
        motion = np.einsum("nf,sfk->nsk", inputs, self.weights, optimize=True)
        return moved(mouths, _turned(motion, np.swapaxes(frame, -1, -2)))


def fit_ridge(store: MouthStore) -> Ridge:
    """Fit to the train split for each of `STRENGTHS`, and return the one with the least ADD on the val split.

    Least squares with the penalty strength x variance of the input x weight^2; the constant has none. A slot
    without a training tooth does not move. Without a tooth in the val split the strongest penalty is taken.

    Source: Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634.
    """
    squares, products = _sums(store)
    fits = [Ridge(_solved(squares, products, strength), strength) for strength in STRENGTHS]
    total = np.zeros(len(fits))
    for mouths in _batches(store, "val"):
        stays = mouths.stays
        points = mouths.points[stays].astype(np.float64)
        true = rigid.apply(mouths.pose[:, T2][stays], points)
        total += [add_mm(rigid.apply(fit.predict(mouths)[stays], points), true).sum() for fit in fits]
    return fits[int(total.argmin())] if total.any() else fits[-1]


def _batches(store: MouthStore, split: str) -> Iterator[Mouths]:
    rows = store.rows_of(split)
    for start in range(0, len(rows), _BATCH_CASES):
        yield store.mouths(rows[start : start + _BATCH_CASES])


def _inputs(mouths: Mouths) -> tuple[Array, Array]:
    """Inputs (N, 257) of the regressions, and the rotation (N, 3, 3) from the head to the canonical frame.

    Of each slot: centroid and rotation vector relative to the average mouth, 0 without a tooth at T1; 1 for a
    tooth at T1, 1 for a tooth that stays, else 0. At the end the constant 1.
    """
    average, present = average_mouth(), mouths.present[:, T1]
    pose = np.where(present[..., None, None], mouths.pose[:, T1], np.eye(4))
    centroid = centroids(mouths, pose)
    motion = to_canonical_frame(
        torch.from_numpy(centroid), torch.from_numpy(present), torch.tensor(average.position)
    )
    frame, shift = (part.numpy() for part in motion)
    place = centroid @ np.swapaxes(frame, -1, -2) + shift[:, None] - average.position
    rotation = frame[:, None] @ pose[..., :3, :3] @ np.swapaxes(average.rotation, -1, -2)
    relative = np.concatenate([place, rigid.rotation_vector(rotation)], axis=-1)
    masks = np.stack([present, mouths.stays], axis=-1)
    by_tooth = np.concatenate([np.where(present[..., None], relative, 0.0), masks], axis=-1)
    return np.column_stack([by_tooth.reshape(-1, _INPUTS), np.ones(len(mouths))]), frame


def _turned(motion: Array, rotation: Array) -> Array:
    """Motions (N, 32, 6) in another frame, by rotations (N, 3, 3)."""
    vectors = motion.reshape(*motion.shape[:-1], 2, 3)
    return (vectors @ np.swapaxes(rotation, -1, -2)[:, None]).reshape(motion.shape)


def _sums(store: MouthStore) -> tuple[Array, Array]:
    """Normal equations of the train split and its mirror image, per slot, and at the end over all mouths.

    returns : sums of input x input (33, 257, 257) and of input x motion (33, 257, 6)
    """
    squares = np.zeros((SLOT_COUNT + 1, _INPUTS + 1, _INPUTS + 1))
    products = np.zeros((SLOT_COUNT + 1, _INPUTS + 1, 6))
    for mouths in _batches(store, "train"):
        inputs, frame = _inputs(mouths)
        motion = _turned(motion_to(mouths, mouths.pose[:, T2]), frame)
        for slot, counted in enumerate(mouths.stays.T):
            x = inputs[counted]
            squares[slot] += x.T @ x
            products[slot] += x.T @ motion[counted, slot]
        squares[_MOUTHS] += inputs.T @ inputs
    squares += _mirrored(_mirrored(squares, 2), 1)[_MIRRORED_REGRESSION]
    products += _mirrored(products, 1)[_MIRRORED_REGRESSION] * _MOTION_SIGNS
    return squares, products


def _mirrored(sums: Array, axis: int) -> Array:
    """Sums whose inputs along an axis are those of the mirror image."""
    signs = np.expand_dims(_INPUT_SIGNS, tuple(range(1, sums.ndim - axis)))
    return np.take(sums, _MIRRORED_INPUT, axis) * signs


def _solved(squares: Array, products: Array, strength: float) -> Array:
    """Weights (32, 257, 6) of all slots."""
    mouths, total = squares[_MOUTHS, -1, -1], squares[_MOUTHS, -1]
    mean = total / max(mouths, 1.0)
    variance = squares[_MOUTHS].diagonal() / max(mouths, 1.0) - mean**2
    constant = variance < 1e-9  # of such an input a weight cannot be told from the constant
    penalty = np.diag(strength * np.where(constant, 1.0, variance))
    penalty[-1, -1] = 1e-9  # the constant has none, but a slot without teeth needs a solution, which is 0
    return np.asarray(np.linalg.solve(squares[:_MOUTHS] + penalty, products[:_MOUTHS]), np.float64)
