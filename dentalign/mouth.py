"""Mouth and Mouths: up to 32 teeth in their slots at T1 and T2, the data that dentalign's packages exchange.

Slots are those of `dentalign.teeth.SLOTS`: lower 38 .. 48, then upper 18 .. 28. Coordinates are millimetres;
tooth-local is our frame (+z root to crown tip, +y buccal), head is LPS (x patient's left, y posterior, z up).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dentalign.geometry import rigid
from dentalign.geometry.rigid import Array
from dentalign.geometry.sampling import mirror_permutation
from dentalign.teeth import MIRRORED_SLOT, SLOT_COUNT

T1, T2 = 0, 1  # indices of the axis that has T1 and T2

# Directions of the points on an incisal edge, deg: tilt from +z, azimuth from mesial (0) to labial (90).
EDGE_TILTS = [(0, 0), *((20, azimuth) for azimuth in range(0, 360, 45))]
EDGE_TILTS += [(40, azimuth) for azimuth in range(0, 360, 24)]
EDGE_POINTS = tuple(f"edge_{tilt:02d}_{azimuth:03d}" for tilt, azimuth in EDGE_TILTS)

# Landmarks of a crown, see `clinical.landmarks`.
LANDMARK_NAMES = (
    "edge_middle",  # incisors: middle of the incisal edge, and its two ends
    "edge_mesial",
    "edge_distal",
    "buccal_cusp",  # canines: the cusp; premolars: buccal; molars: mesiobuccal
    "distobuccal_cusp",  # molars
    "lingual_cusp",  # premolars: lingual; molars: mesiolingual
    "distolingual_cusp",  # molars
    "mesial_contact",  # the most mesial and most distal points of the outline seen from occlusal
    "distal_contact",
    "facial_axis",  # FA point: facial surface, halfway up the crown, halfway between the contacts
    "facial_gingival",  # two points of the facial axis: the tangent at the FA point runs through them
    "facial_occlusal",
    "central_fossa",  # premolars and molars
    "mesial_ridge",  # premolars and molars: marginal ridges
    "distal_ridge",
    *EDGE_POINTS,  # incisors: the farthest points in these directions, so that one is the highest in any pose
)

# Points of a tooth that a planning system's export may give, see `cases.exported_points`.
EXPORTED_NAMES = (*LANDMARK_NAMES[:10], "facial_gingival_margin", "root_apex")

Bools = NDArray[np.bool_]

_FLIP = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Mouth:
    """Teeth of one case.

    points  : (32, P, 3) float32, ordered, tooth-local mm; the same points at T1 and T2, 0 in empty slots
    pose    : (2, 32, 4, 4) float64, tooth-local -> head, mm, at T1 and T2; identity where `present` is False
    present : (2, 32) bool, usable teeth at T1 and T2; a tooth at T1 only is extracted by the plan
    fdi     : (32,) uint8, number as in the file (55 in the slot of 15), 0 in empty slots
    dropped : (32,) bool, slots whose tooth cannot be used; such a slot is not the same as an empty one
    latents : (2, 32, P, F) float16 or float32, raw encoder output, 0 where `present` is False; None before
              encoding
    case_id : stem of the case's file
    split   : train, val or test
    planner : code of who planned T2, such as planner-01; "" if unknown
    landmarks : (32, L, 3) float32, points of the crown in the order of LANDMARK_NAMES, tooth-local mm; NaN
                where absent
    exported_landmarks : (32, E, 3) float32, points that the export gives and `fetch.keep` keeps, in the order
                         of EXPORTED_NAMES, tooth-local mm; NaN where absent
    bolton_mm : (32,) float32, mesiodistal width that the export gives for Bolton's analysis; NaN where absent
    """

    points: NDArray[np.float32]
    pose: Array
    present: Bools
    fdi: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(SLOT_COUNT, np.uint8))
    dropped: Bools = field(default_factory=lambda: np.zeros(SLOT_COUNT, np.bool_))
    latents: NDArray[Any] | None = None
    case_id: str = ""
    split: str = ""
    planner: str = ""
    landmarks: NDArray[np.float32] = field(
        default_factory=lambda: np.full((SLOT_COUNT, len(LANDMARK_NAMES), 3), np.nan, np.float32)
    )
    exported_landmarks: NDArray[np.float32] = field(
        default_factory=lambda: np.full((SLOT_COUNT, len(EXPORTED_NAMES), 3), np.nan, np.float32)
    )
    bolton_mm: NDArray[np.float32] = field(default_factory=lambda: np.full(SLOT_COUNT, np.nan, np.float32))

    @classmethod
    def empty(cls, points: int = 0, case_id: str = "", split: str = "") -> "Mouth":
        """Make a mouth without teeth, to be filled in; `points` is P, the number of points per tooth."""
        return cls(
            points=np.zeros((SLOT_COUNT, points, 3), np.float32),
            pose=np.tile(np.eye(4), (2, SLOT_COUNT, 1, 1)),
            present=np.zeros((2, SLOT_COUNT), np.bool_),
            case_id=case_id,
            split=split,
        )

    @property
    def stays(self) -> Bools:
        """Slots with a tooth at both T1 and T2, (32,) bool."""
        return self.present[T1] & self.present[T2]

    def dropping(self, slots: Iterable[int]) -> "Mouth":
        """Return the mouth without the teeth in `slots`, with these slots marked in `dropped`."""
        gone = np.isin(np.arange(SLOT_COUNT), list(slots))
        return replace(
            self,
            points=np.where(gone[:, None, None], np.float32(0), self.points),
            pose=np.where(gone[:, None, None], np.eye(4), self.pose),
            present=self.present & ~gone,
            dropped=self.dropped | gone,
            landmarks=np.where(gone[:, None, None], np.float32(np.nan), self.landmarks),
            exported_landmarks=np.where(gone[:, None, None], np.float32(np.nan), self.exported_landmarks),
            bolton_mm=np.where(gone, np.float32(np.nan), self.bolton_mm),
        )

    def mirrored(self) -> "Mouth":
        """Return the mirror image of the mouth (x -> -x).

        Antimeres exchange their slots. With S = diag(-1, 1, 1) a tooth's points p become S p, its rotation
        S R S, its translation S t. Points are reordered, so that each index keeps its place on the crown.
        Latents are dropped, because they contain coordinates that cannot be mirrored.
        """
        flip = np.diag([*_FLIP, 1.0])
        return replace(
            self,
            points=self.points[MIRRORED_SLOT][:, mirror_permutation(self.points.shape[1])]
            * _FLIP.astype(np.float32),
            pose=flip @ self.pose[:, MIRRORED_SLOT] @ flip,
            present=self.present[:, MIRRORED_SLOT],
            fdi=self.fdi[MIRRORED_SLOT],
            dropped=self.dropped[MIRRORED_SLOT],
            landmarks=self.landmarks[MIRRORED_SLOT] * _FLIP.astype(np.float32),
            exported_landmarks=self.exported_landmarks[MIRRORED_SLOT] * _FLIP.astype(np.float32),
            bolton_mm=self.bolton_mm[MIRRORED_SLOT],
            latents=None,
        )

    def moved(self, motion: Array) -> "Mouth":
        """Return the mouth, T1 and T2 moved by one rigid motion (4, 4), head -> head; drops latents."""
        pose = np.where(self.present[..., None, None], motion @ self.pose, self.pose)
        return replace(self, pose=pose, latents=None)


@dataclass(frozen=True)
class Mouths:
    """Arrays of N mouths, as in `Mouth` with a leading axis N; values in slots without a tooth are undefined.

    points   : (N, 32, P, 3) float32, tooth-local mm
    pose     : (N, 2, 32, 4, 4) float64, tooth-local -> head, mm
    present  : (N, 2, 32) bool
    latents  : (N, 2, 32, P, F), or None
    """

    points: NDArray[Any]
    pose: Array
    present: Bools
    latents: NDArray[Any] | None = None

    @classmethod
    def at_t1(
        cls,
        points: NDArray[Any],
        pose: Array,
        present: Bools,
        stays: Bools,
        latents: NDArray[Any] | None = None,
    ) -> "Mouths":
        """Make mouths before treatment; at T2 only `present` is set, poses are the identity and latents 0.

        points  : (N, 32, P, 3) tooth-local mm
        pose    : (N, 32, 4, 4) tooth-local -> head at T1, mm
        present : (N, 32) bool, teeth at T1
        stays   : (N, 32) bool, teeth of `present` that stay at T2
        latents : (N, 32, P, F) at T1
        """
        none = np.broadcast_to(np.eye(4), pose.shape)
        both = None if latents is None else np.stack([latents, np.zeros_like(latents)], axis=1)
        return cls(points, np.stack([pose, none], 1), np.stack([present, stays], 1), both)

    def __len__(self) -> int:
        return len(self.present)

    @property
    def stays(self) -> Bools:
        """Slots with a tooth at both T1 and T2, (N, 32) bool."""
        return self.present[:, T1] & self.present[:, T2]

    def without_plan(self) -> "Mouths":
        """Return the mouths without poses and latents of T2, see `at_t1`."""
        latents = None if self.latents is None else self.latents[:, T1]
        return Mouths.at_t1(self.points, self.pose[:, T1], self.present[:, T1], self.stays, latents)


def copies(
    mouth: Mouth, count: int, rng: np.random.Generator, turn_deg: float, shift_mm: float
) -> list[Mouth]:
    """Make `count` versions of a mouth: itself, its mirror image, then the two in turn, each moved at random.

    turn_deg : root mean square of the random rotation angle, about the centroid of the teeth at T1
    shift_mm : root mean square of the random shift
    """
    both = (mouth, mouth.mirrored())
    return [
        both[k % 2] if k < 2 else both[k % 2].moved(_random_motion(both[k % 2], rng, turn_deg, shift_mm))
        for k in range(count)
    ]


def _random_motion(mouth: Mouth, rng: np.random.Generator, turn_deg: float, shift_mm: float) -> Array:
    rotation = rigid.rotation_matrix(rng.normal(0, np.radians(turn_deg) / 3**0.5, 3))
    shift = rng.normal(0, shift_mm / 3**0.5, 3)
    centroid = mouth.pose[T1, mouth.present[T1], :3, 3].mean(0)
    return rigid.from_rotation(rotation, centroid + shift - rotation @ centroid)
