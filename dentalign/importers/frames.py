"""Head frame and tooth-local frames of scanned mouths, found from the positions and shapes of the crowns.

Head frame. Each arch is fitted to an average arch (`dentalign.geometry.arch_fit`), which gives the directions
left and back; their cross product is the direction up. Two observations check it: the upper arch stands above
the lower one, and crowns point away from the gum. If left and right are exchanged in the tooth numbers, the
cross product points down.

Tooth-local frame. Origin: the area centroid of the crown. +z: from root to crown tip. A crown cut out of a
scan is open at the gum. The vector area of an open surface depends on its border only (Stokes), so its
direction is the normal of the gum line. For a closed crown, +z is the direction of an upright tooth in the
average arch. +y: outwards from the arch, made perpendicular to z. x = y x z. T2 is not used, as a frame made
from the target would leak it to the model.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from trimesh import Trimesh
from trimesh.grouping import group_rows

from dentalign.cases.slots import slot_of
from dentalign.errors import CaseDefect, ToothDefect
from dentalign.geometry import rigid
from dentalign.geometry.arch_fit import MIN_TEETH_OF_ARCH, Arch, find_arch
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.rigid import Array
from dentalign.teeth import ARCHES, SLOT_COUNT, is_upper

APART_MM = 2.0  # nearer arches do not show which one is above
CLEAR_COSINE = 0.5  # median of crown axis and up: below it the crowns do not show which way is up
OPEN = 0.15  # length of the vector area over the area: 0.5 for a hemisphere, 0 for a closed surface
UPRIGHT_COSINE = 0.5  # a gum line that leans by more than 60 degrees is no gum line


@dataclass(frozen=True)
class MouthFrame:
    """Frame of a mouth, found from its crowns in scan coordinates.

    to_head : (4, 4), scan coordinates -> head frame (x to the patient's left, y posterior, z up), mm; moves
              the mean position of the teeth to that of the same teeth in an average mouth
    arches  : "upper", "lower" -> (3, 3), unit vectors left, back and up of the arch as columns, in scan
              coordinates; only arches in which these directions are clear
    sides   : 1 if the FDI numbers fit the patient's left and right, -1 if these are exchanged, 0 if unknown
    """

    to_head: Array
    arches: Mapping[str, Array]
    sides: int


@dataclass(frozen=True)
class ScannedMouth:
    """Crowns of a mouth, or of one jaw, in scan coordinates, mm.

    crowns : FDI -> surface
    lost   : `ToothDefect` of each label or file that is no usable crown
    points : FDI -> labelled points (N, 3), for scans that are labelled by points
    """

    crowns: Mapping[int, Trimesh]
    lost: tuple[ToothDefect, ...] = ()
    points: Mapping[int, Array] = field(default_factory=dict)

    @functools.cached_property
    def centroids(self) -> dict[int, Array]:
        """Area centroid (3,) of each crown, by FDI number."""
        return {fdi: np.asarray(crown.centroid) for fdi, crown in self.crowns.items()}

    @functools.cached_property
    def axes(self) -> dict[int, Array]:
        """Unit vector (3,) from root to tip of each crown that is open at the gum, by FDI number."""
        axes = {fdi: crown_axis(crown) for fdi, crown in self.crowns.items()}
        return {fdi: axis for fdi, axis in axes.items() if axis is not None}

    def frame(self, file: str = "") -> MouthFrame:
        """Find the frame of the mouth.

        raises: CaseDefect if left and back are clear in neither arch, or if arches and crowns show opposite
                directions of up
        """
        pose = np.tile(np.eye(4), (SLOT_COUNT, 1, 1))
        for fdi, centroid in self.centroids.items():
            pose[slot_of(fdi), :3, 3] = centroid
        present = np.array(sorted(map(slot_of, self.crowns)), dtype=np.intp)
        found = [find_arch(pose, present, name) for name in ARCHES]
        sure = [arch for arch in found if arch.normal is not None]
        if not sure:
            counts = " and ".join(f"{len(arch.slots)} {arch.name}" for arch in found)
            seen = f"no arch recognised in {counts} teeth (at least {MIN_TEETH_OF_ARCH} of one are needed)"
            raise CaseDefect("arch_unclear", seen, "leave the case out", file=file)
        arches = {arch.name: arch.frame for arch in sure}
        u, _, vt = np.linalg.svd(sum(len(arch.slots) * arches[arch.name] for arch in sure))
        rotation = (u * [1.0, 1.0, float(np.linalg.det(u @ vt))]) @ vt
        up = rotation[:, 2]
        signs = {_sign_of_arches(found, up), _sign_of_crowns(self.axes, up)} - {0}
        if len(signs) > 1:
            seen = "the positions of the arches and the openings of the crowns show opposite directions of up"
            raise CaseDefect("arch_unclear", seen, "check if upper and lower are exchanged", file=file)
        shift = average_mouth().position[present].mean(0) - rotation.T @ pose[present, :3, 3].mean(0)
        return MouthFrame(rigid.from_rotation(rotation.T, shift), arches, signs.pop() if signs else 0)

    def frame_of_labels(self, file: str, *, by_numbers: bool = False) -> MouthFrame:
        """Find the frame of a mouth whose tooth numbers must be right.

        by_numbers : True to trust the tooth numbers about left and right if nothing else shows them
        raises     : CaseDefect as `frame` does, or if left and right are exchanged or cannot be determined
        """
        frame = self.frame(file)
        if frame.sides < 0:
            seen = "left and right are exchanged in the tooth numbers, or the scan is mirrored"
            fix = "check the tooth numbers, and whether upper and lower are exchanged; or leave the case out"
            raise CaseDefect("sides_exchanged", seen, fix, file=file)
        if frame.sides == 0 and not by_numbers:
            seen = "nothing shows which way is up, so left and right cannot be told apart"
            raise CaseDefect("sides_unclear", seen, "leave the case out", file=file)
        return frame

    def tooth_poses(self, frame: MouthFrame) -> dict[int, Array]:
        """Make the tooth-local frames: FDI -> pose (4, 4), tooth-local -> scan coordinates, mm."""
        poses = {}
        for fdi, centroid in self.centroids.items():
            axes = frame.arches.get("upper" if is_upper(fdi) else "lower", frame.to_head[:3, :3].T)
            outward = axes @ average_mouth().outward[slot_of(fdi)]
            upright = axes @ average_mouth().crown[slot_of(fdi)]
            z = self.axes.get(fdi, upright)
            z = z if z @ upright >= UPRIGHT_COSINE else upright
            y = rigid.unit(outward - (outward @ z) * z)
            poses[fdi] = rigid.from_rotation(np.stack([np.cross(y, z), y, z], axis=1), centroid)
        return poses

    def local_crowns(self, poses: Mapping[int, Array]) -> dict[int, Trimesh]:
        """Crowns in tooth-local coordinates, mm; `poses` are those that `tooth_poses` returned."""
        return {
            fdi: Trimesh(rigid.apply(rigid.inverse(poses[fdi]), crown.vertices), crown.faces, process=False)
            for fdi, crown in self.crowns.items()
        }


def crown_axis(crown: Trimesh) -> Array | None:
    """Unit vector (3,) from the opening to the tip of an open crown; None for a closed crown.

    The winding of the faces does not matter: the vector points away from the border of the surface.
    """
    vector = crown.area_faces @ crown.face_normals
    border = crown.edges[group_rows(crown.edges_sorted, require_count=1)]  # edges of one face only
    ends = crown.vertices[border]
    weight = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    if np.linalg.norm(vector) < OPEN * crown.area or not weight.sum() > 0:
        return None
    to_tip = crown.centroid - weight @ ends.mean(1) / weight.sum()
    return rigid.unit(vector) * (1.0 if vector @ to_tip >= 0 else -1.0)


def _sign_of_arches(arches: Sequence[Arch], up: Array) -> int:
    """Sign of up by the positions of the arches; 0 if unclear."""
    centroid = {arch.name: arch.centroid for arch in arches if len(arch.slots) >= MIN_TEETH_OF_ARCH}
    if len(centroid) < 2:
        return 0
    apart = float((centroid["upper"] - centroid["lower"]) @ up)
    return 0 if abs(apart) < APART_MM else int(np.sign(apart))


def _sign_of_crowns(axes: Mapping[int, Array], up: Array) -> int:
    """Sign of up by the axes of open crowns; 0 if unclear."""
    if len(axes) < MIN_TEETH_OF_ARCH:
        return 0
    along = float(np.median([axis @ up * (-1.0 if is_upper(fdi) else 1.0) for fdi, axis in axes.items()]))
    return 0 if abs(along) < CLEAR_COSINE else int(np.sign(along))
