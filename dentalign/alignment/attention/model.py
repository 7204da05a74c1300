"""Alignment model `attention` around its network: poses at T1 in, poses at T2 out, exactly rigid."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dentalign.alignment.attention.network import (
    PosedTeeth,
    PoseNetwork,
    ToothAttention,
    ToothAttentionConfig,
)
from dentalign.alignment.base import AlignmentConfig, AlignmentModel, PredictedT2
from dentalign.autoencoder.decoder import Decoder
from dentalign.errors import DentalignError
from dentalign.geometry import rigid, rotations
from dentalign.geometry.sampling import mirror_permutation
from dentalign.mouth import T1, Mouths
from dentalign.teeth import MIRRORED_SLOT


class AttentionModel(AlignmentModel):
    """Tooth attention; needs neither latents nor the decoder."""

    uses_latents = False

    def __init__(self, config: AlignmentConfig):
        super().__init__()
        self.config = config
        network = ToothAttentionConfig(**config.network)
        self.midway = network.midway
        self.network: PoseNetwork = ToothAttention(network)

    def place(self, mouths: Mouths, decoder: Decoder | None = None) -> PredictedT2:
        """See `AlignmentModel.place`, and `answer` for how."""
        pose, expected = self.poses(mouths)
        return PredictedT2(pose, rigid.apply(pose, mouths.points), expected)

    @torch.inference_mode()
    def poses(self, mouths: Mouths) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Poses at T2 and expected ADD of `place`, without the points."""
        device = self.network.reference.device
        t1_pose, at_t1 = mouths.pose[:, T1], mouths.present[:, T1]
        there = at_t1[..., None, None]
        points, given = np.where(there, mouths.points, 0), np.where(there, t1_pose, np.eye(4))
        teeth, centre = teeth_of(points, given, self.network.points)
        teeth = PosedTeeth(*(part.to(device) for part in teeth))
        present = torch.from_numpy(at_t1).to(device) & self.network.known_at_t1
        stays = torch.from_numpy(mouths.stays).to(device) & present
        try:
            rotation, middle, doubt = self.answer(teeth, present, stays, self.network.to_standard_place)
            finite = all(torch.isfinite(part[stays]).all() for part in (rotation, middle, doubt))
        except torch.linalg.LinAlgError:  # of a first answer that is no number nothing is nearest
            finite = False
        if not finite:
            raise DentalignError("the alignment model predicts numbers that are not finite; train it again")
        here, wanted = (stays & self.network.known_at_t2).cpu().numpy(), mouths.stays
        pose = np.where(wanted[..., None, None], t1_pose, np.eye(4))  # what it does not know stays there
        pose[here] = _pose(rotation.cpu()[here], middle.cpu()[here], centre[here])
        expected = (doubt.exp() * self.network.doubt_scale).cpu().numpy().astype(np.float64)
        expected[~here] = np.nan
        return pose, expected

    def answer(
        self,
        teeth: PosedTeeth,
        present: torch.Tensor,
        stays: torch.Tensor,
        to_standard_place: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Where the teeth stand at T2, as `PoseNetwork.forward`, of mouths wherever they are.

        Where the network has learnt from mouths that stand part of the way to T2 (`midway`), it is asked
        again with the teeth that far on the way to its first answer: a plan that is halfway done has the same
        end, and mouths nearer to it are more alike (docs/experiments.md has what it is worth).

        to_standard_place : `PoseNetwork.to_standard_place`, or another form of it
        """

        def once(teeth: PosedTeeth) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            turn, shift = to_standard_place(teeth.middle, present)
            rotation, middle, doubt = self.both_ways(moved(teeth, turn, shift), present, stays)
            return turn.mT[:, None] @ rotation, (middle - shift[:, None]) @ turn, doubt

        found = once(teeth)
        if not self.midway:
            return found
        learnt = stays & self.network.known_at_t2  # others stay where they are for their neighbours, too
        share = self.midway * learnt
        return once(part_of_the_way(teeth, *found[:2], share))

    def both_ways(
        self, teeth: PosedTeeth, present: torch.Tensor, stays: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The mean of what the network says of mouths in the standard place and of their mirror images.

        So left and right are treated alike. Arguments and answer as in `PoseNetwork.forward`.
        """
        rotation, middle, doubt = self.network(teeth, present, stays)
        other = self.network(mirrored(teeth), present[:, MIRRORED_SLOT], stays[:, MIRRORED_SLOT])
        rotation_back, middle_back = mirrored_places(*other[:2])
        half = rotations.matrix(0.5 * rotations.vector(rotation.mT @ rotation_back))
        return rotation @ half, 0.5 * (middle + middle_back), 0.5 * (doubt + other[2][:, MIRRORED_SLOT])


def thinned(points: NDArray[Any], count: int) -> NDArray[Any]:
    """Every so many of the points (..., P, 3), `count` of them, so that the mirrored order still fits."""
    total = points.shape[-2]
    if total % count or (total // 2) % (total // count):
        raise ValueError(f"{total} points cannot be thinned to {count}")
    return points[..., :: total // count, :]


def thinned_count(points: int, most: int) -> int:
    """The largest number that `points` can be thinned to and that is not above `most`."""
    half = points // 2
    return 2 * max(n for n in range(1, half + 1) if half % n == 0 and (2 * n <= most or n == 1))


def moved(teeth: PosedTeeth, turn: torch.Tensor, shift: torch.Tensor) -> PosedTeeth:
    """Whole mouths moved by (N, 3, 3) and (N, 3)."""
    return PosedTeeth(teeth.points, turn[:, None] @ teeth.rotation, teeth.middle @ turn.mT + shift[:, None])


def part_of_the_way(
    teeth: PosedTeeth, rotation: torch.Tensor, middle: torch.Tensor, share: torch.Tensor
) -> PosedTeeth:
    """Teeth moved by a share (N, 32) of the way to where they are to stand, straight and about one axis."""
    turn = share[..., None] * rotations.vector(teeth.rotation.mT @ rotation)
    place = teeth.middle + share[..., None] * (middle - teeth.middle)
    return PosedTeeth(teeth.points, teeth.rotation @ rotations.matrix(turn), place)


def mirrored(teeth: PosedTeeth) -> PosedTeeth:
    """The mouths in a mirror, x -> -x; see `Mouth.mirrored`."""
    return PosedTeeth(mirrored_points(teeth.points), *mirrored_places(teeth.rotation, teeth.middle))


def mirrored_points(points: torch.Tensor) -> torch.Tensor:
    """The points (N, 32, p, 3) of mirrored mouths, tooth-local; or the normals there."""
    slots = torch.from_numpy(MIRRORED_SLOT).to(points.device)
    order = torch.from_numpy(mirror_permutation(points.shape[2])).to(points.device)
    flip = torch.tensor([-1.0, 1.0, 1.0]).to(points)
    return points.index_select(1, slots).index_select(2, order) * flip


def mirrored_places(rotation: torch.Tensor, middle: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How the teeth of the mouths in a mirror stand: rotation and middle."""
    flip = torch.tensor([-1.0, 1.0, 1.0]).to(middle)
    return flip[:, None] * rotation[:, MIRRORED_SLOT] * flip, middle[:, MIRRORED_SLOT] * flip


def teeth_of(
    points: NDArray[Any], pose: NDArray[np.float64], count: int
) -> tuple[PosedTeeth, NDArray[np.float64]]:
    """Teeth as the network sees them, `count` points of each, and their middles (N, 32, 3), tooth-local mm.

    points : (N, 32, P, 3) tooth-local mm
    pose   : (N, 32, 4, 4) tooth-local -> head
    """
    local = thinned(points, count).astype(np.float64)
    centre = local.mean(2)
    middle = rigid.apply(pose, centre[:, :, None])[:, :, 0]
    parts = (local - centre[:, :, None], pose[..., :3, :3], middle)
    return PosedTeeth(*(torch.from_numpy(part.astype(np.float32)) for part in parts)), centre


def _pose(rotation: torch.Tensor, middle: torch.Tensor, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poses (T, 4, 4) of rotations in float32 and of where a tooth's middle goes, the rotation made exact."""
    exact = rotations.nearest(rotation.double()).numpy()
    return rigid.from_rotation(exact, middle.double().numpy() - (exact @ centre[..., None])[..., 0])


def build(
    network: ToothAttentionConfig, latent_shape: tuple[int, int], encoder_sha256: str, decoder_sha256: str
) -> AttentionModel:
    """An untrained alignment_model."""
    return AttentionModel(
        AlignmentConfig("attention", *latent_shape, asdict(network), encoder_sha256, decoder_sha256)
    )
