"""Alignment model `attention`: poses at T1 in, poses at T2 out, exactly rigid."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from dentalign.alignment.attention import posed_teeth
from dentalign.alignment.attention.network import PoseNetwork, ToothAttention, ToothAttentionConfig
from dentalign.alignment.attention.posed_teeth import PosedTeeth, mirrored_poses
from dentalign.alignment.base import AlignmentConfig, AlignmentModel, PredictedT2
from dentalign.alignment.conditions import Conditions
from dentalign.autoencoder.interface import Interface, Port
from dentalign.errors import DentalignError
from dentalign.geometry import rigid, rotations
from dentalign.mouth import T1, Mouths
from dentalign.teeth import MIRRORED_SLOT, SLOT_COUNT


class AttentionModel(AlignmentModel):
    """Alignment model with the network `ToothAttention`; needs neither latents nor a decoder."""

    network: PoseNetwork

    def __init__(self, config: AlignmentConfig):
        super().__init__(config)
        network = ToothAttentionConfig(**config.network)
        self.midway = network.midway
        self.network = ToothAttention(network)

    @torch.inference_mode()
    def place(self, mouths: Mouths, told: Conditions) -> PredictedT2:
        """See `AlignmentModel.place`; teeth in slots that it has not learnt keep their pose of T1."""
        network, device = self.network, self.network.reference.device
        t1_pose, at_t1 = mouths.pose[:, T1], mouths.present[:, T1]
        here = at_t1[..., None, None]
        points, given = np.where(here, mouths.points, 0), np.where(here, t1_pose, np.eye(4))
        teeth, centre = posed_teeth.from_poses(points, given, network.points)
        teeth = PosedTeeth(*(part.to(device) for part in teeth))
        present = torch.from_numpy(at_t1).to(device) & network.known_at_t1
        stays = torch.from_numpy(mouths.stays).to(device) & present
        told = told.to(device)
        try:
            found = self(teeth, present, stays, told)
            finite = all(torch.isfinite(part[stays]).all() for part in found)
        except torch.linalg.LinAlgError:  # NaN has no nearest rotation
            finite = False
        if not finite:
            raise DentalignError("the alignment model predicts numbers that are not finite; train it again")
        rotation, centroid, log_expected_error = found
        moves = (stays & network.known_at_t2 & ~told.held).cpu().numpy()
        pose = np.where(mouths.stays[..., None, None], t1_pose, np.eye(4))
        exact = rotations.nearest(rotation.cpu()[moves].double()).numpy()
        shift = centroid.cpu()[moves].double().numpy() - (exact @ centre[moves][..., None])[..., 0]
        pose[moves] = rigid.from_rotation(exact, shift)
        expected = log_expected_error.exp().cpu().numpy().astype(np.float64)
        expected[~moves] = np.nan
        return PredictedT2(pose, expected_add_mm=expected)

    def forward(
        self,
        teeth: PosedTeeth,
        present: torch.Tensor,
        stays: torch.Tensor,
        told: Conditions,
        nearest: Callable[[torch.Tensor], torch.Tensor] = rotations.nearest,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Predict T2 like `PoseNetwork.forward`, but with input and output in the head frame.

        With `midway` above 0 it predicts twice. Before the second prediction each tooth is moved by that
        share of the way to its first prediction: mouths closer to T2 differ less (docs/experiments.md has the
        gain).

        nearest : replacement for `rotations.nearest`, such as one that can be exported
        """

        def once(teeth: PosedTeeth, told: Conditions) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            turned, translation = posed_teeth.to_canonical_frame(
                teeth.centroid, present, self.network.reference, nearest
            )
            moved = teeth.moved(turned, translation)
            rotation, centroid, log_error = self.mirror_averaged(moved, present, stays, told.turned(turned))
            return turned.mT[:, None] @ rotation, (centroid - translation[:, None]) @ turned, log_error

        found = once(teeth, told)
        if not self.midway:
            return found
        # The others stay in place, as their neighbours see them.
        moves = stays & self.network.known_at_t2 & ~told.held
        halfway = teeth.towards(*found[:2], self.midway * moves)
        return once(halfway, told.after(teeth.centroid, halfway.centroid, stays, nearest))

    def mirror_averaged(
        self, teeth: PosedTeeth, present: torch.Tensor, stays: torch.Tensor, told: Conditions
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Average `PoseNetwork.forward` over mouths in the canonical frame and their mirror images."""
        rotation, centroid, log_error = self.network(teeth, present, stays, told)
        masks = present[:, MIRRORED_SLOT], stays[:, MIRRORED_SLOT]
        other = self.network(teeth.mirrored(), *masks, told.mirrored())
        rotation_back, centroid_back = mirrored_poses(*other[:2])
        half = rotations.matrix(0.5 * rotations.vector(rotation.mT @ rotation_back))
        log_error = 0.5 * (log_error + other[2][:, MIRRORED_SLOT])
        return rotation @ half, 0.5 * (centroid + centroid_back), log_error

    def interface(self) -> Interface:
        """See `AlignmentModel.interface`."""
        poses = super().interface()
        expected = Port(
            "expected_add_mm", "float32", ("N", SLOT_COUNT), "mm",
            "expected error of the tooth; NaN where no tooth stays or the model has not learnt the slot",
        )  # fmt: skip
        bound = Port(
            "add_mm_90", "float32", ("N", SLOT_COUNT), "mm",
            "upper bound of the error of 90 of 100 teeth; NaN where expected_add_mm is, or not calibrated",
        )  # fmt: skip
        return replace(poses, outputs=(*poses.outputs, expected, bound))
