"""Decisions made before a plan, as inputs of models: who plans, which teeth stay, how each arch moves.

A condition is an input that may be unknown. Training computes the conditions from the plans themselves and
reveals a random part of them (`revealed`); a prediction is told what is decided, and the rest is unknown.
Arches are in the order of `dentalign.teeth.ARCHES`: lower, upper.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.geometry import arch_motion as arches
from dentalign.geometry import rigid, rotations
from dentalign.mouth import T1, T2, Mouths
from dentalign.teeth import ARCHES, MIRRORED_SLOT, SLOT_COUNT, SLOT_INDEX

ARCH_COUNT = len(ARCHES)
HELD_MM, HELD_DEG = 0.5, 3.0  # a tooth of a plan stays in place if it moves less than both
WIDTHS = ("3-3", "6-6")  # names of the widths of an arch
_WIDTH_TEETH = [[(33, 43), (36, 46)], [(13, 23), (16, 26)]]  # per arch, the teeth whose distance they are
_WIDTH_SLOTS = np.array([[[SLOT_INDEX[fdi] for fdi in pair] for pair in arch] for arch in _WIDTH_TEETH])
_ARCH_OF_SLOT = np.concatenate([np.full(len(slots), k) for k, slots in enumerate(ARCHES.values())])
_SMALLEST_MM2 = 0.05  # keeps the rotation of an arch of one or two teeth at 0
_MM_OR_RADIANS = torch.tensor(
    [2.0, 2.0, 2.0, 0.1, 0.1, 0.1]
)  # of motions in treatments: brings them to order 1
OF_MOUTH = 2 * SLOT_COUNT + 2 * ARCH_COUNT * (6 + 2)  # numbers of a mouth in `of_mouth`
FIELD = 3 + 3 + 6 + 2 + 2 + 2  # numbers of a tooth in `field`


class Conditions(NamedTuple):
    """Conditions of N mouths; NaN, False and 0 stand for unknown.

    planner : (N,) int64, 0 or the number of a planner from 1 on
    held    : (N, 32) bool, teeth that keep their pose of T1
    moves   : (N, 32) bool, teeth of which it is known that they are not held
    motion  : (N, 2, 6), motion of each arch as a whole from T1 to T2: translation of the centroid of its
              teeth, mm, and rotation vector about it, radians; axes of the frame that the mouths are in
    width   : (N, 2, 2), mm, change of the distances 3-3 and 6-6 between centroids in each arch
    """

    planner: torch.Tensor
    held: torch.Tensor
    moves: torch.Tensor
    motion: torch.Tensor
    width: torch.Tensor

    @classmethod
    def unknown(cls, count: int) -> "Conditions":
        """Make conditions of `count` mouths of which nothing is known."""
        nan = torch.nan
        return cls(
            torch.zeros(count, dtype=torch.long),
            torch.zeros(count, SLOT_COUNT, dtype=torch.bool),
            torch.zeros(count, SLOT_COUNT, dtype=torch.bool),
            torch.full((count, ARCH_COUNT, 6), nan),
            torch.full((count, ARCH_COUNT, 2), nan),
        )

    @classmethod
    def of_plan(cls, mouths: Mouths, planner: NDArray[np.int64]) -> "Conditions":
        """Compute all conditions of N mouths from their poses at T2, axes of the head frame.

        planner : (N,), number of who plans each mouth, 0 if unknown
        """
        stays = torch.from_numpy(mouths.stays)
        before, after = (centroids(mouths.points, mouths.pose[:, stage]) for stage in (T1, T2))
        rotation = torch.from_numpy(mouths.pose[..., :3, :3]).float()
        teeth = before, after, stays
        held = stays & unmoved((rotation[:, T1], before), (rotation[:, T2], after))
        return cls(torch.from_numpy(planner), held, stays & ~held, arch_motion(*teeth), width_change(*teeth))

    def only(self, *names: str) -> "Conditions":
        """Keep the conditions of these names and make the others unknown."""
        return Conditions.unknown(len(self.planner))._replace(**{name: getattr(self, name) for name in names})

    def to(self, device: torch.device) -> "Conditions":
        """Return the conditions on another device."""
        return Conditions(*(part.to(device) for part in self))

    def at(self, rows: torch.Tensor | slice) -> "Conditions":
        """Select mouths by row."""
        return Conditions(*(part[rows] for part in self))

    def mirrored(self) -> "Conditions":
        """Mirror all mouths, x -> -x: translations become (-x, y, z), rotation vectors (x, -y, -z)."""
        flip = torch.tensor([-1.0, 1.0, 1.0, 1.0, -1.0, -1.0]).to(self.motion)
        return self._replace(
            held=self.held[:, MIRRORED_SLOT], moves=self.moves[:, MIRRORED_SLOT], motion=self.motion * flip
        )

    def turned(self, rotation: torch.Tensor) -> "Conditions":
        """Turn the frame of the mouths by rotations (N, 3, 3).

        A vector of which some components are unknown cannot be turned; it is taken as it is, which is right
        for small angles.
        """
        vectors = self.motion.unflatten(-1, (2, 3))
        turned = vectors @ rotation.mT[:, None]
        whole = torch.isfinite(vectors).all(-1, keepdim=True)
        return self._replace(motion=torch.where(whole, turned, vectors).flatten(-2))

    def of(self, motion: torch.Tensor, width: torch.Tensor) -> "Conditions":
        """Replace the known motions and widths by others, such as those of mouths that have been changed."""
        known = [torch.isfinite(part) for part in (self.motion, self.width)]
        return self._replace(
            motion=torch.where(known[0], motion, torch.nan), width=torch.where(known[1], width, torch.nan)
        )

    def after(
        self,
        before: torch.Tensor,
        now: torch.Tensor,
        stays: torch.Tensor,
        nearest: Callable[[torch.Tensor], torch.Tensor] = rotations.nearest,
    ) -> "Conditions":
        """Return what is left of the motions and widths when teeth have moved from `before` to `now`.

        before, now, stays, nearest : see `arch_motion`
        """
        motion, width = arch_motion(before, now, stays, nearest), width_change(before, now, stays)
        return self._replace(motion=self.motion - motion, width=self.width - width)


def centroids(points: NDArray[np.floating[Any]], pose: NDArray[np.float64]) -> torch.Tensor:
    """Centroids (N, 32, 3) float32, head, mm, of tooth-local points (N, 32, P, 3) at poses (N, 32, 4, 4)."""
    centre = points.mean(2, dtype=np.float64)[:, :, None]
    return torch.from_numpy(rigid.apply(pose, centre)[:, :, 0]).float()


def arch_motion(
    before: torch.Tensor,
    after: torch.Tensor,
    stays: torch.Tensor,
    nearest: Callable[[torch.Tensor], torch.Tensor] = rotations.nearest,
) -> torch.Tensor:
    """Best rigid motion (N, 2, 6) of each arch, as `geometry.arch_motion`, in torch; 0 without teeth.

    before, after : (N, 32, 3) centroids, mm
    stays         : (N, 32) bool, teeth that count
    nearest       : replacement for `rotations.nearest`, such as one that can be exported

    Kabsch 1976, doi:10.1107/S0567739476001873, on the centroids.
    """
    motions = []
    for slots in ARCHES.values():
        weight = stays[:, slots, None].to(before)
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1)
        start, end = ((weight * part[:, slots]).sum(1, keepdim=True) for part in (before, after))
        covariance = (weight * (after[:, slots] - end)).mT @ (before[:, slots] - start)
        rotation = nearest(covariance + _SMALLEST_MM2 * torch.eye(3).to(covariance))
        motions.append(torch.cat([(end - start)[:, 0], rotations.vector(rotation)], -1))
    return torch.stack(motions, 1)


def width_change(before: torch.Tensor, after: torch.Tensor, stays: torch.Tensor) -> torch.Tensor:
    """Change (N, 2, 2), mm, of the widths of each arch, see `Conditions.width`; NaN where a tooth is missing.

    before, after, stays : as for `arch_motion`
    """
    one, other = _WIDTH_SLOTS[..., 0], _WIDTH_SLOTS[..., 1]
    change = (after[:, one] - after[:, other]).norm(dim=-1) - (before[:, one] - before[:, other]).norm(dim=-1)
    return torch.where(stays[:, one] & stays[:, other], change, torch.nan)


def unmoved(
    before: tuple[torch.Tensor, torch.Tensor], after: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Find the teeth (N, 32) that move less than HELD_MM and HELD_DEG, bool.

    before, after : rotation (N, 32, 3, 3) and centroid (N, 32, 3), mm
    """
    angle = rotations.vector(before[0].mT @ after[0]).norm(dim=-1)
    near: torch.Tensor = (after[1] - before[1]).norm(dim=-1) < HELD_MM
    return near & (angle < np.radians(HELD_DEG))


def of_mouth(told: Conditions) -> torch.Tensor:
    """Features (N, OF_MOUTH) of each mouth: held and moving teeth, motions, widths, and which are known."""
    parts = [told.held, told.moves]
    for values, unit in (
        (told.motion.flatten(1), _MM_OR_RADIANS.to(told.motion.device).repeat(ARCH_COUNT)),
        (told.width.flatten(1), 2.0),
    ):
        parts += [values.nan_to_num(0.0) / unit, torch.isfinite(values)]
    return torch.cat([part.to(told.motion.dtype) for part in parts], -1)


def field(told: Conditions, centroid: torch.Tensor, stays: torch.Tensor) -> torch.Tensor:
    """Features (N, 32, FIELD) of each tooth from the conditions of its arch: mm, radians, 1 where known.

    A tooth has the displacement and the rotation vector that the motion of its arch gives it, with unknown
    components taken as 0, the changes of width, whether each of these is known, and whether it is held.

    centroid : (N, 32, 3), at T1, mm, in the frame of the conditions
    stays    : (N, 32) bool
    """
    motion, width = (part.nan_to_num(0.0) for part in (told.motion, told.width))
    known = [torch.isfinite(part).to(centroid) for part in (told.motion, told.width)]
    displaced = torch.zeros_like(centroid)
    for k, slots in enumerate(ARCHES.values()):
        weight = stays[:, slots, None].to(centroid)
        middle = (weight * centroid[:, slots]).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
        away = centroid[:, slots] - middle
        turned = away @ rotations.matrix(motion[:, k, 3:]).mT - away
        displaced[:, slots] = turned + motion[:, k, None, :3]
    of_arch = torch.cat([motion[..., 3:], *known, width], -1)[:, _ARCH_OF_SLOT]
    of_tooth = torch.stack([told.held, told.moves], -1).to(centroid)
    return torch.cat([displaced, of_arch, of_tooth], -1)


def carry_out(told: Conditions, mouths: Mouths, pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correct predicted poses (N, 32, 4, 4) so that each arch moves as it is told.

    What the prediction leaves of the known motions is done to each arch as a whole, but not to held teeth.
    """
    known = torch.isfinite(told.motion).numpy()
    if not known.any():
        return pose
    stays, centre = mouths.stays, mouths.points.mean(2, dtype=np.float64)[:, :, None]
    before, now = (rigid.apply(place, centre)[:, :, 0] for place in (mouths.pose[:, T1], pose))
    left = np.where(known, told.motion.numpy() - arches.arch_motion(before, now, stays), 0.0)
    motion = arches.of_teeth(left, now, stays)
    rotation = rigid.rotation_matrix(motion[..., 3:]) @ pose[..., :3, :3]
    moved = rigid.from_rotation(
        rotation, now + motion[..., :3] - (rotation @ np.swapaxes(centre, -1, -2))[..., 0]
    )
    moves = stays & ~told.held.numpy()
    return np.where(moves[..., None, None], moved, pose)


def revealed(told: Conditions, generator: torch.Generator) -> Conditions:
    """Hide a random part of the conditions, so that a network learns to do with any part of them."""
    count = len(told.planner)

    def chance(share: float, *shape: int) -> torch.Tensor:
        return torch.rand(count, *shape, generator=generator) < share

    def some(*shape: int) -> torch.Tensor:
        """All of a mouth's values in half of the mouths, in the others each with a chance of one half."""
        return chance(0.5, *(1,) * len(shape)) | chance(0.5, *shape)

    planner = told.planner * chance(0.65)
    stated = chance(0.5, 1)
    all_stated = chance(0.7, 1)  # as `only` does; else some of the held teeth, as `fixed` does
    held = told.held & stated & (all_stated | chance(0.5, SLOT_COUNT))
    moves = told.moves & stated & all_stated
    how = torch.rand(count, 1, 1, generator=generator)
    parts = chance(0.5, ARCH_COUNT, 1) & some(6)[:, None]
    shown = (how < 0.3) | (how < 0.4) & (torch.arange(6) < 3) | (how < 0.5) & parts
    widens = chance(0.3, 1, 1) & some(ARCH_COUNT, 2)
    return Conditions(
        planner,
        held,
        moves,
        told.motion.masked_fill(~shown, torch.nan),
        told.width.masked_fill(~widens, torch.nan),
    )
