"""Likeness of a mouth at T1 to the training mouths, so that a mouth of another kind is named.

A model predicts something for every mouth, and may expect a small error where it has seen nothing alike. So
the weights file keeps what the training mouths were like: mean and variance of pose, size and shape of the
teeth in each slot, and of the size of whole mouths. Held-out mouths decide how far from that is unlike. Plans
are not compared: an unusual plan of a usual mouth is not found.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dentalign.alignment.attention.posed_teeth import (
    PosedTeeth,
    from_poses,
    mirrored_poses,
    thinned_count,
    to_canonical_frame,
)
from dentalign.dataset.mouth_store import MouthStore
from dentalign.geometry import rigid, rotations
from dentalign.mouth import T1, Mouths
from dentalign.teeth import MIRRORED_SLOT, SLOT_COUNT

PARTS = ("placement", "size", "poses", "shapes")
SILENT_SHARE = 0.95  # of the held-out mouths
FEWEST_TEETH = 6  # of a mouth; fewer do not determine its canonical frame

_POINTS = 32  # per tooth, at most
_FOLDS = 8  # of the training mouths
_ROUNDS = 5  # of fitting the training mouths to their mean
_KNOWN = 8  # teeth of a slot and of its antimere together, without which it is not compared
_PRIOR = 8.0  # as if so many teeth of each slot had the mean variance of all slots
_SLACK_DEG, _SLACK_MM = 10.0, 10.0  # models are little affected by a motion of the whole mouth
_AT_ONCE = 64  # mouths
_POSE, _SHAPE = slice(0, 6), slice(6, None)  # features of a tooth

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Likeness:
    """Comparison of N mouths with the training mouths.

    parts       : (N, 4) distance from the training mouths in each of PARTS, relative to its limit: above 1 is
                  unlike. NaN in a mouth with fewer than FEWEST_TEETH teeth in slots that training has seen,
                  and in all mouths where the training mouths are unknown
    turn_deg    : (N,) rotation of the whole mouth in the head frame, from the mean training mouth
    shift_mm    : (N,) distance of its centroid from that of the mean training mouth
    scale       : (N,) size of the mouth, 1 for the mean training mouth
    pose_teeth  : (N, 32) distance of each tooth's pose from the mean of its slot, in standard deviations; 0
                  without a tooth, and in a slot that training has hardly seen
    shape_teeth : (N, 32) the same for the tooth's shape, whatever its size
    """

    parts: Array
    turn_deg: Array
    shift_mm: Array
    scale: Array
    pose_teeth: Array
    shape_teeth: Array


class Teeth(NamedTuple):
    """Teeth of N mouths at T1, with few points each.

    posed   : the teeth, float32
    present : (N, 32) bool
    """

    posed: PosedTeeth
    present: torch.Tensor

    @classmethod
    def of(cls, mouths: Mouths) -> "Teeth":
        """Take the teeth of mouths at T1."""
        present = mouths.present[:, T1]
        here = present[..., None, None]
        points, pose = np.where(here, mouths.points, 0), np.where(here, mouths.pose[:, T1], np.eye(4))
        posed, _ = from_poses(points, pose, thinned_count(points.shape[2], _POINTS))
        return cls(posed, torch.from_numpy(present))

    @classmethod
    def read(cls, store: MouthStore, rows: NDArray[np.intp]) -> "Teeth":
        """Read mouths, a few at a time: of 100 kB of points per mouth, 12 kB are kept."""
        starts = range(0, len(rows), _AT_ONCE)
        parts = [cls.of(store.mouths(rows[start : start + _AT_ONCE])) for start in starts]
        posed = PosedTeeth(*map(torch.cat, zip(*(part.posed for part in parts), strict=True)))
        return cls(posed, torch.cat([part.present for part in parts]))

    def at(self, rows: torch.Tensor) -> "Teeth":
        """Select mouths by row."""
        return Teeth(PosedTeeth(*(part[rows] for part in self.posed)), self.present[rows])

    def batches(self) -> Iterator["Teeth"]:
        """Yield the mouths in batches, in float64."""
        for rows in torch.arange(len(self.present)).split(_AT_ONCE):
            posed, present = self.at(rows)
            yield Teeth(PosedTeeth(*(part.double() for part in posed)), present)

    def mirrored(self) -> "Teeth":
        """Mirror all mouths; antimeres exchange their slots."""
        return Teeth(self.posed.mirrored(), self.present[:, MIRRORED_SLOT])


class Measured(NamedTuple):
    """Mouths in the canonical frame of the training mouths; float64.

    features : (N, 32, F) of each tooth: position (mm) and rotation vector (radians) relative to the mean pose
               of its slot, then its points divided by their root mean square radius
    radius   : (N, 32) log of that radius
    arch     : (N,) log of the size of the arches, by the positions of the teeth
    here     : (N, 32) bool, teeth whose slot is known
    turn_deg : (N,) rotation to the canonical frame
    shift_mm : (N,) distance of the mouth's centroid from that of the same teeth of the reference
    """

    features: torch.Tensor
    radius: torch.Tensor
    arch: torch.Tensor
    here: torch.Tensor
    turn_deg: torch.Tensor
    shift_mm: torch.Tensor

    def sizes(self, radius: torch.Tensor) -> torch.Tensor:
        """Log (N, 2) of the size of the crowns, compared with mean `radius` (32,), and of the arches."""
        crowns = ((self.radius - radius) * self.here).sum(1) / self.here.sum(1).clamp(min=1)
        return torch.stack([crowns, self.arch], 1)


class Statistics(NamedTuple):
    """Means and variances of training mouths and their mirror images, in the canonical frame; float64.

    reference      : (32, 3) mean centroids, mm
    rotation       : (32, 3, 3) mean rotations, tooth-local -> canonical frame
    known          : (32,) bool, slots with enough teeth
    mean, variance : (32, F), of `Measured.features`
    radius         : (32,) mean of `Measured.radius`
    size_mean      : (2,) mean of `Measured.sizes`
    size_weight    : (2,) weights of these sizes in the size of a mouth
    """

    reference: torch.Tensor
    rotation: torch.Tensor
    known: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    radius: torch.Tensor
    size_mean: torch.Tensor
    size_weight: torch.Tensor

    @classmethod
    def empty(cls, points: int) -> "Statistics":
        """Make statistics for mouths with `points` points per tooth, all 0."""
        features = 6 + 3 * thinned_count(points, _POINTS)
        shapes = ((32, 3), (32, 3, 3), (32,), (32, features), (32, features), (32,), (2,), (2,))
        values = [torch.zeros(shape, dtype=torch.float64) for shape in shapes]
        return cls(*values)._replace(known=torch.zeros(SLOT_COUNT, dtype=torch.bool))

    @classmethod
    def of(cls, teeth: Teeth) -> "Statistics":
        """Learn from training mouths."""
        poses = teeth.posed.rotation.double(), teeth.posed.centroid.double()
        rotation, centroid = map(torch.cat, zip(poses, mirrored_poses(*poses), strict=True))
        here = torch.cat([teeth.present, teeth.present[:, MIRRORED_SLOT]])
        known = here.sum(0) >= _KNOWN
        here, count = here & known, (here.sum(0) * known)[:, None]
        # Generalised Procrustes (Gower 1975, doi:10.1007/BF02291478), as in the training of `attention`.
        for _ in range(_ROUNDS):
            reference = (centroid * here[..., None]).sum(0) / count.clamp(min=1)
            turn, shift = to_canonical_frame(centroid, here, reference)
            centroid, rotation = centroid @ turn.mT + shift[:, None], turn[:, None] @ rotation
        sum_of_rotations = (rotation * here[..., None, None]).sum(0) + 1e-6 * torch.eye(3).double()
        found = cls.empty(teeth.posed.points.shape[2])._replace(
            reference=reference, rotation=rotations.nearest(sum_of_rotations), known=known
        )
        sums, small = torch.zeros(2, *found.mean.shape, dtype=torch.float64), []
        for batch in teeth.batches():
            for measured in map(found.measure, (batch, batch.mirrored())):
                features = measured.features * measured.here[..., None]
                sums += torch.stack([features.sum(0), features.square().sum(0)])
                small.append(measured._replace(features=features[:, :, :0]))
        mean, square = sums / count.clamp(min=1)
        squares = count * (square - mean.square()).clamp(min=0)
        prior = _PRIOR * squares.sum(0) / count.sum().clamp(min=1)
        both = Measured(*map(torch.cat, zip(*small, strict=True)))
        radius = (both.radius * both.here).sum(0) / count[:, 0].clamp(min=1)
        sizes = both.sizes(radius)
        # Generalised least squares: the most precise mean of two correlated measures of one size.
        weight = torch.linalg.solve(sizes.T.cov() + 1e-9 * torch.eye(2).double(), torch.ones(2).double())
        return found._replace(
            mean=mean,
            variance=(squares + prior) / (count + _PRIOR) + 1e-9,
            radius=radius,
            size_mean=sizes.mean(0),
            size_weight=weight / weight.sum(),
        )

    def measure(self, teeth: Teeth) -> Measured:
        """Measure mouths, float64; of the statistics it uses `reference`, `rotation` and `known`."""
        here = teeth.present & self.known
        turn, shift = to_canonical_frame(teeth.posed.centroid, here, self.reference)
        points, rotation, centroid = teeth.posed.moved(turn, shift)
        turned = rotations.nearest(self.rotation.mT @ rotation).numpy()
        radius = points.square().sum(-1).mean(-1).sqrt().clamp(min=1e-3)
        pose = [centroid - self.reference, torch.from_numpy(rigid.rotation_vector(turned))]
        shape = (points / radius[..., None, None]).flatten(2)
        weight = here[..., None] / here.sum(1)[:, None, None].clamp(min=1)
        centre = (weight * centroid).sum(1, keepdim=True)
        reference = self.reference - centre
        along, square = ((weight * reference * v).sum((1, 2)) for v in (centroid - centre, reference))
        arch = (along / square.clamp(min=1e-9)).clamp(min=0.05).log()
        moved = (weight * teeth.posed.centroid).sum(1) - centre[:, 0]
        turn_deg = torch.from_numpy(rigid.angle_deg(turn.numpy()))
        return Measured(torch.cat([*pose, shape], -1), radius.log(), arch, here, turn_deg, moved.norm(dim=-1))

    def compare(self, teeth: Teeth, limits: torch.Tensor) -> Likeness:
        """Compare mouths with the training mouths; `limits` (5,) as in `Familiarity`."""
        found: list[list[torch.Tensor]] = []
        for batch in teeth.batches():
            measured = self.measure(batch)
            here = measured.here
            square = (measured.features - self.mean).square() / self.variance * here[..., None]
            of_teeth = [square[..., part].mean(-1).sqrt() for part in (_POSE, _SHAPE)]
            size = (measured.sizes(self.radius) - self.size_mean) @ self.size_weight
            enough = torch.where(here.sum(1) < FEWEST_TEETH, torch.nan, 1.0)
            # The fourth power: few very unusual teeth count for more than many a little unusual.
            mean = [(part**4).sum(1).div(here.sum(1)) ** 0.25 for part in of_teeth]
            distance = torch.stack([measured.turn_deg, measured.shift_mm, size.abs(), *mean], 1)
            found.append([enough[:, None] * distance, size.exp(), *of_teeth])
        distance, scale, *of_teeth = map(torch.cat, zip(*found, strict=True))
        parts = distance / limits
        parts = torch.cat([parts[:, :2].amax(1, keepdim=True), parts[:, 2:]], 1)
        values = (parts, *distance.T[:2], scale, *of_teeth)
        return Likeness(*(value.numpy() for value in values))


class Familiarity(nn.Module):
    """Training mouths of an alignment model, as `Statistics`, and limits beyond which a mouth is unlike them.

    All are buffers, which the weights file of the model has: the fields of `Statistics`, and `limits` (5,):
    of rotation (degrees) and translation (mm) of a mouth in the head frame, of its size (log), and of the
    distances of poses and shapes (standard deviations). They are NaN before `fit`.
    """

    limits: torch.Tensor
    threshold = 1.0

    def __init__(self, points: int):
        """Make it for mouths with `points` points per tooth."""
        super().__init__()
        for name, value in Statistics.empty(points)._asdict().items():
            self.register_buffer(name, value)
        self.register_buffer("limits", torch.full((5,), torch.nan, dtype=torch.float64))

    @property
    def fitted(self) -> bool:
        """True if the training mouths are known; False in a weights file from before they were stored."""
        return bool(self.limits.isfinite().all())

    @torch.inference_mode()
    def fit(self, training: Teeth, held_out: Teeth) -> None:
        """Learn the training mouths, and set limits that SILENT_SHARE of held-out mouths keep.

        Held-out mouths are those of `held_out` and, in turn, each of _FOLDS parts of the training mouths, by
        the statistics of the other parts. A part is a run of rows, as cases of one patient often are
        neighbours.
        """
        statistics, as_measured = Statistics.of(training), torch.ones(5)
        compared = [statistics.compare(held_out, as_measured)]
        rows = torch.arange(len(training.present))
        for part in rows.tensor_split(min(_FOLDS, len(rows))):
            if len(others := rows[~torch.isin(rows, part)]):
                without = Statistics.of(training.at(others))
                compared.append(without.compare(training.at(part), as_measured))
        held = np.concatenate(
            [np.column_stack([one.turn_deg, one.shift_mm, one.parts[:, 1:]]) for one in compared]
        )
        held = held[np.isfinite(held).all(1)]
        for name, value in statistics._asdict().items():
            getattr(self, name).copy_(value)
        if len(held):
            moved = np.quantile(held[:, :2], 0.99, axis=0) + np.array([_SLACK_DEG, _SLACK_MM])
            self.limits.copy_(torch.from_numpy(np.concatenate([moved, _limits(held[:, 2:])])))

    @torch.inference_mode()
    def compare(self, mouths: Mouths) -> Likeness:
        """Compare mouths at T1 with the training mouths."""
        statistics = Statistics(*(getattr(self, name).cpu() for name in Statistics._fields))
        return statistics.compare(Teeth.of(mouths), self.limits.cpu())

    def score(self, mouths: Mouths) -> Array:
        """Distance (N,) of mouths at T1 from the training mouths: the largest of `Likeness.parts`.

        Above `threshold` a mouth is unlike them; NaN where nothing can be said.
        """
        score: Array = self.compare(mouths).parts.max(1)
        return score

    def unlike(self, mouths: Mouths) -> NDArray[np.bool_]:
        """Tell which mouths (N,) are unlike the training mouths; False where nothing can be said."""
        return np.asarray(self.score(mouths) > self.threshold)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        """Load the buffers, or leave them empty if an older weights file has none of them."""
        if any(name.startswith(prefix) for name in state_dict):
            super()._load_from_state_dict(state_dict, prefix, *others)


def _limits(held: Array) -> Array:
    """Limits (k,) of k distances (n, k) of held-out mouths, of which SILENT_SHARE keep all.

    Each distance counts from its median, in units of the way from there to its 97.5 % quantile. The limit of
    the largest is a conformal quantile: a further mouth of the same kind keeps it with that probability.
    """
    median, high = np.quantile(held, [0.5, 0.975], axis=0)
    unit = np.maximum(high - median, 0.1 * median + 1e-9)
    largest = np.sort(((held - median) / unit).max(1))
    rank = min(int(np.ceil(SILENT_SHARE * (len(held) + 1))), len(held))
    limits: Array = median + largest[rank - 1] * unit
    return limits
