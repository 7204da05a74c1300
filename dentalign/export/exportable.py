"""Substitutes for operations that ONNX lacks: sums of embedding bags, and the nearest rotation."""

from typing import Any

import torch
from torch import nn

from dentalign.alignment.attention.model import AttentionModel
from dentalign.alignment.attention.posed_teeth import PosedTeeth
from dentalign.alignment.conditions import Conditions
from dentalign.alignment.error_model import KIND_OF_SLOT, SMALL_MM

_SQUARINGS = 32


def gathered_bag(
    weight: torch.Tensor,
    rows: torch.Tensor,
    offsets: torch.Tensor,
    scale_grad_by_freq: bool,
    mode: int,
    sparse: bool,
    factors: torch.Tensor,
    *_: Any,
) -> tuple[torch.Tensor, ...]:
    """Compute `aten.embedding_bag` for B bags of equal length, which ONNX would compute in a loop.

    weight  : (V, F), a vector per index
    rows    : indices into `weight`, bag after bag
    offsets : (B,), start of each bag in `rows`
    factors : weight of each entry of `rows`
    returns : (B, F) sums, and in place of the operation's further outputs, which are not used, `offsets`
    """
    bags = (weight[rows] * factors[:, None]).unflatten(0, (offsets.shape[0], -1)).sum(1)
    return bags, offsets, offsets, offsets


class ExportableAttentionModel(nn.Module):
    """Module that computes `AttentionModel.predict` from tensors, with operations that ONNX has.

    It is told no conditions.
    """

    def __init__(self, model: AttentionModel):
        super().__init__()
        self.model = model

    def forward(
        self, points: torch.Tensor, pose: torch.Tensor, present: torch.Tensor, stays: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Predict the poses, the expected errors and their bounds at T2.

        points         : (N, 32, P, 3) float32, tooth-local, mm
        pose           : (N, 32, 4, 4) float64, at T1, tooth-local -> head, mm
        present, stays : (N, 32) bool, slots with a tooth at T1, and slots whose tooth is there at T2, too
        returns        : poses at T2 (N, 32, 4, 4), identity without a tooth at T2; expected_add_mm and
                         add_mm_90 (N, 32) float32, NaN there and for teeth that the model does not know,
                         which keep their pose at T1
        """
        network, count = self.model.network, points.shape[0]
        local = points[:, :, :: points.shape[2] // network.points].double()
        centre = local.mean(2, keepdim=True)  # (N, 32, 1, 3)
        rotation, translation = pose[..., :3, :3], pose[..., :3, 3:]
        centroid = (rotation @ centre.mT + translation)[..., 0]
        there = stays & present
        known, moves = present & network.known_at_t1, there & network.known_at_t1 & network.known_at_t2
        # One batch with the mouths as nobody in particular and as each planner would plan them.
        planners = len(self.model.config.planners)
        asked = 1 + planners if planners > 1 else 1
        told = Conditions.unknown(asked * count)
        told = told._replace(planner=torch.cat([told.planner[:count] + number for number in range(asked)]))
        teeth = (local - centre).float(), rotation.float(), centroid.float()
        found = self.model.forward(
            PosedTeeth(*(_repeated(part, asked) for part in teeth)),
            _repeated(known, asked),
            _repeated(there & known, asked),
            told,
            lambda matrix: nearest_rotation(matrix.double()).float(),
        )
        every, middle = (part.double().unflatten(0, (asked, count)) for part in found[:2])
        every = nearest_rotation(every)
        answers = _poses(every, middle[..., None] - every @ centre.mT)  # (1 + K, N, 32, 4, 4)
        nobody, *others = torch.where(moves[..., None, None], answers, pose)
        pose_t2 = torch.where(there[..., None, None], nobody, torch.eye(4, dtype=pose.dtype))
        # From here on as `base.error_features` and `ErrorModel`.
        whole = points.double()
        here, *ends = (_moved(place, whole) for place in (nobody, pose, *others))
        apart = [(here - end).norm(dim=-1).mean(-1) for end in ends]
        spread = torch.stack(apart[1:]).mean(0) if others else torch.zeros_like(apart[0])
        log_mm = found[2][:count].double()
        logs = [log_mm, (apart[0] + SMALL_MM).log(), (spread + SMALL_MM).log(), torch.ones_like(log_mm)]
        given, errors = torch.stack(logs, -1), self.model.error_model
        expected = torch.where(moves, (given @ errors.weights[0]).exp(), torch.nan)
        return pose_t2, expected.float(), (expected * errors.ratio[0][KIND_OF_SLOT]).float()


def _repeated(values: torch.Tensor, times: int) -> torch.Tensor:
    """Repeat a batch (N, ...) of mouths, (times * N, ...)."""
    return torch.cat([values] * times)


def _poses(rotation: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    """Poses (..., 4, 4) of rotations (..., 3, 3) and translations (..., 3, 1)."""
    last = torch.eye(4, dtype=rotation.dtype)[3:].expand(*rotation.shape[:-2], 1, 4)
    return torch.cat([torch.cat([rotation, translation], -1), last], -2)


def _moved(pose: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Points (..., P, 3) at poses (..., 4, 4)."""
    return points @ pose[..., :3, :3].mT + pose[..., None, :3, 3]


def _rotation(quaternion: torch.Tensor) -> torch.Tensor:
    """Rotations (..., 3, 3) of unit quaternions (..., 4), scalar first; a quadratic form of their entries."""
    w, x, y, z = quaternion.unbind(-1)
    entries = [
        w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z,
    ]  # fmt: skip
    return torch.stack(entries, -1).unflatten(-1, (3, 3))


# (4, 4, 3, 3): the rotation of a quaternion q is the sum of q_k q_l _FORMS[k, l].
_AXES = torch.eye(4, dtype=torch.float64)
_FORMS = (_rotation(_AXES[:, None] + _AXES) - _rotation(_AXES)[:, None] - _rotation(_AXES)) / 2


def nearest_rotation(matrix: torch.Tensor) -> torch.Tensor:
    """Rotation R nearest to each matrix M (..., 3, 3) float64, as `rotations.nearest`, by products only.

    trace(R^T M) is a quadratic form of R's unit quaternion (Horn 1987, doi:10.1364/JOSAA.4.000629), so the
    quaternion is the eigenvector of the largest eigenvalue. The matrix of the form is shifted until no
    eigenvalue is negative, and squared 32 times. This gives the projector onto that eigenvector, if the two
    largest eigenvalues differ by at least 1e-8, relatively. If they are equal, the nearest rotation is not
    unique.
    """
    power = _normed(torch.einsum("...ij,klij->...kl", matrix, _FORMS)) + _AXES
    for number in range(_SQUARINGS):
        if number % 4 == 0:  # in between the numbers cannot fall below 2^-16 of themselves
            power = _normed(power)
        power = power @ power
    largest = power.diagonal(dim1=-2, dim2=-1).argmax(-1)  # the column with most digits
    column = power.gather(-1, largest[..., None, None].expand(*power.shape[:-1], 1))[..., 0]
    quaternion = column / column.square().sum(-1, keepdim=True).sqrt()
    return _rotation(quaternion)


def _normed(matrix: torch.Tensor) -> torch.Tensor:
    return matrix / matrix.square().sum((-2, -1), keepdim=True).sqrt()
