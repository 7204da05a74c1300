"""Training mouths of the model `attention` as tensors: 53 kB per mouth with 64 points per tooth."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.alignment import conditions
from dentalign.alignment.attention.contact_loss import outward_normals
from dentalign.alignment.attention.posed_teeth import (
    PosedTeeth,
    from_poses,
    mirrored_points,
    mirrored_poses,
    to_canonical_frame,
)
from dentalign.dataset.mouth_store import MouthStore
from dentalign.mouth import T1, T2
from dentalign.teeth import MIRRORED_SLOT, SLOT_COUNT

_AT_ONCE = 64  # mouths


class Examples(NamedTuple):
    """N mouths at T1 and T2.

    points      : (N, 32, p, 3) tooth-local mm, relative to the tooth's centroid
    normals     : (N, 32, p, 3) outward normals at the points, tooth-local, see `outward_normals`
    t1_rotation, t2_rotation : (N, 32, 3, 3) tooth-local -> head
    t1_centroid, t2_centroid : (N, 32, 3) head, mm
    planned_mm  : (N, 32, 2) penetration depth with each neighbour at T2, see `planned_depth_mm`
    present     : (N, 32) bool, slots with a tooth at T1
    stays       : (N, 32) bool, slots with a tooth at T1 and T2
    held        : (N, 32) bool, teeth of `stays` that the plan does not move, see `conditions.HELD_MM`
    planner     : (N,) int64, 0 or the number of the planner
    """

    points: torch.Tensor
    normals: torch.Tensor
    t1_rotation: torch.Tensor
    t2_rotation: torch.Tensor
    t1_centroid: torch.Tensor
    t2_centroid: torch.Tensor
    planned_mm: torch.Tensor
    present: torch.Tensor
    stays: torch.Tensor
    held: torch.Tensor
    planner: torch.Tensor

    @property
    def t1(self) -> PosedTeeth:
        """The teeth at T1."""
        return PosedTeeth(self.points, self.t1_rotation, self.t1_centroid)

    @property
    def t2(self) -> PosedTeeth:
        """The teeth at T2."""
        return PosedTeeth(self.points, self.t2_rotation, self.t2_centroid)

    def at(self, rows: torch.Tensor | slice) -> "Examples":
        """Select mouths by row."""
        return Examples(*(part[rows] for part in self))

    def to(self, device: torch.device) -> "Examples":
        """Return the mouths on another device."""
        return Examples(*(part.to(device) for part in self))

    def mirrored(self) -> "Examples":
        """Mirror all mouths, x -> -x; see `Mouth.mirrored`."""
        t1, t2 = (mirrored_poses(*teeth[1:]) for teeth in (self.t1, self.t2))
        return Examples(
            mirrored_points(self.points),
            mirrored_points(self.normals),
            *(t1[0], t2[0], t1[1], t2[1]),
            self.planned_mm[:, MIRRORED_SLOT].flip(-1),  # the tooth before is now the one after
            self.present[:, MIRRORED_SLOT],
            self.stays[:, MIRRORED_SLOT],
            self.held[:, MIRRORED_SLOT],
            self.planner,
        )

    def in_canonical_frame(self, reference: torch.Tensor) -> "Examples":
        """Move each mouth, T1 and T2 alike, so that its T1 centroids best fit the reference (32, 3), mm."""
        motion = to_canonical_frame(self.t1_centroid, self.present, reference)
        t1, t2 = self.t1.moved(*motion), self.t2.moved(*motion)
        return self._replace(
            t1_rotation=t1.rotation,
            t2_rotation=t2.rotation,
            t1_centroid=t1.centroid,
            t2_centroid=t2.centroid,
        )


def read(store: MouthStore, rows: NDArray[np.intp], points: int, planner: NDArray[np.int64]) -> Examples:
    """Read mouths with `points` points per tooth, at their poses in the store; `planned_mm` is all 0.

    planner : (N,), number of each mouth's planner, see `Examples`
    """
    whole: Examples | None = None
    for start in range(0, len(rows), _AT_ONCE):
        mouths = store.mouths(rows[start : start + _AT_ONCE])
        (t1, _), (t2, _) = (from_poses(mouths.points, mouths.pose[:, stage], points) for stage in (T1, T2))
        part = Examples(
            t1.points,
            outward_normals(t1.points, store.layout.points),
            *(t1.rotation, t2.rotation, t1.centroid, t2.centroid),
            torch.zeros(len(mouths), SLOT_COUNT, 2),
            torch.from_numpy(mouths.present[:, T1]),
            torch.from_numpy(mouths.stays),
            torch.from_numpy(mouths.stays) & conditions.unmoved(t1[1:], t2[1:]),
            torch.from_numpy(planner[start : start + _AT_ONCE]),
        )
        if whole is None:  # all of it at once: a list of parts would be in memory twice in the end
            whole = Examples(*(value.new_empty(len(rows), *value.shape[1:]) for value in part))
        for all_values, values in zip(whole, part, strict=True):
            all_values[start : start + len(mouths)] = values
    assert whole is not None
    return whole
