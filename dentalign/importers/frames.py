"""Frames that scans come without: that of the head from the places of the teeth, and one for each tooth.

Head. Each arch is compared with an average one (`dentalign.geometry.arch_fit`), which gives its left and
back, and by the right-hand rule its up. Two things tell where up really is: the upper arch stands above the
lower one, and crowns point away from the gum. If the numbers have left and right exchanged, both come out
upside down.

Tooth. Origin: the area centroid of the crown. +z: from root to crown tip. A crown cut out of a scan is open
at the gum; the vector area of an open surface is that of its opening, whatever the shape above it (Stokes),
so its direction is the normal of the gum line. A closed crown has no opening: +z is then the direction of an
upright tooth in the arch. +y: outwards from the arch, made perpendicular to z. x = y x z. T2 is not used: a
frame made with the target would leak it to the model.
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

APART_MM = 2.0  # arches nearer to each other do not tell which is above
CLEAR_COSINE = 0.5  # mean crown axis of an arch against up: less tells nothing
OPEN = 0.15  # length of the vector area over the area: 0.5 for a hemisphere, 0 for a closed surface
UPRIGHT_COSINE = 0.5  # a gum line that leans by more than 60 degrees is no gum line


@dataclass(frozen=True)
class MouthFrame:
    """Frame of a mouth in the coordinates of its scans.

    to_head : (4, 4), scan -> head axes (x to the patient's left, y posterior, z up), mm, with the teeth
              around the places of an average mouth
    arches  : "upper" and "lower" -> (3, 3), columns left, back and up of the arch, in scan coordinates
    sides   : 1 if the FDI numbers fit the patient's left and right, -1 if exchanged, 0 if unknown
    """

    to_head: Array
    arches: Mapping[str, Array]
    sides: int


@dataclass(frozen=True)
class ScannedMouth:
    """Crowns of a mouth, or of one jaw, in scan coordinates, mm.

    crowns : FDI -> surface
    lost   : defects of the numbers whose label is no crown
    points : FDI -> labelled points (N, 3), if the scan has such
    """

    crowns: Mapping[int, Trimesh]
    lost: tuple[ToothDefect, ...] = ()
    points: Mapping[int, Array] = field(default_factory=dict)

    @functools.cached_property
    def centroids(self) -> dict[int, Array]:
        """FDI -> area centroid (3,)."""
        return {fdi: np.asarray(crown.centroid) for fdi, crown in self.crowns.items()}

    @functools.cached_property
    def axes(self) -> dict[int, Array]:
        """FDI -> unit vector (3,) from root to tip, of the crowns that are open at the gum."""
        axes = {fdi: crown_axis(crown) for fdi, crown in self.crowns.items()}
        return {fdi: axis for fdi, axis in axes.items() if axis is not None}

    def frame(self, file: str = "") -> MouthFrame:
        """Find the frame of the mouth.

        raises: CaseDefect if neither arch shows its left and back, or the two signs of up contradict
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
            seen = "the places of the arches and the openings of the crowns contradict each other about up"
            raise CaseDefect("arch_unclear", seen, "check if upper and lower are exchanged", file=file)
        shift = average_mouth().position[present].mean(0) - rotation.T @ pose[present, :3, 3].mean(0)
        return MouthFrame(rigid.from_rotation(rotation.T, shift), arches, signs.pop() if signs else 0)

    def frame_of_labels(self, file: str, *, by_numbers: bool = False) -> MouthFrame:
        """Find the frame; raises CaseDefect also if the labels' sides are exchanged or cannot be told.

        by_numbers : take the numbers' word for the sides where nothing else tells
        """
        frame = self.frame(file)
        if frame.sides < 0:
            seen = "by the coordinates, left and right are exchanged in the numbers, or the scan is mirrored"
            fix = "check the numbers, and if upper and lower are exchanged, or leave the case out"
            raise CaseDefect("sides_exchanged", seen, fix, file=file)
        if frame.sides == 0 and not by_numbers:
            seen = "nothing shows which way is up, so left and right cannot be told"
            raise CaseDefect("sides_unclear", seen, "leave the case out", file=file)
        return frame

    def tooth_poses(self, frame: MouthFrame) -> dict[int, Array]:
        """Poses of the teeth: FDI -> (4, 4), tooth-local -> scan, mm."""
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
        """Crowns in tooth-local coordinates, by the poses of `tooth_poses`."""
        return {
            fdi: Trimesh(rigid.apply(rigid.inverse(poses[fdi]), crown.vertices), crown.faces, process=False)
            for fdi, crown in self.crowns.items()
        }


def crown_axis(crown: Trimesh) -> Array | None:
    """Unit vector (3,) from the opening to the tip of an open crown; None if it is closed.

    Its sign comes from the border, not from the winding: the border lies at the root's side.
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
    """Sign of up by the places of the arches; 0 if they do not tell."""
    centroid = {arch.name: arch.centroid for arch in arches if len(arch.slots) >= MIN_TEETH_OF_ARCH}
    if len(centroid) < 2:
        return 0
    apart = float((centroid["upper"] - centroid["lower"]) @ up)
    return 0 if abs(apart) < APART_MM else int(np.sign(apart))


def _sign_of_crowns(axes: Mapping[int, Array], up: Array) -> int:
    """Sign of up by the axes of open crowns; 0 if they do not tell."""
    if len(axes) < MIN_TEETH_OF_ARCH:
        return 0
    along = float(np.median([axis @ up * (-1.0 if is_upper(fdi) else 1.0) for fdi, axis in axes.items()]))
    return 0 if abs(along) < CLEAR_COSINE else int(np.sign(along))
