"""Where left, back and up are in a scan, from the places of the teeth, and which side the numbers mean.

Each arch is compared with an average one (`dentalign.geometry.arch_fit`), which gives its left and back, and
by the right-hand rule its up. Two things say where up really is: the upper arch stands above the lower one,
and crowns point away from the gum. Where the numbers have left and right exchanged, both come out upside
down.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from dentalign.cases.slots import slot_of
from dentalign.errors import CaseDefect
from dentalign.geometry import rigid
from dentalign.geometry.arch_fit import MIN_TEETH_OF_ARCH, Arch, find_arch, frame_of
from dentalign.geometry.average_mouth import average_mouth
from dentalign.geometry.rigid import Array
from dentalign.teeth import ARCHES, SLOT_COUNT, is_upper

APART_MM = 2.0  # arches nearer to each other do not say which is above
CLEAR_COSINE = 0.5  # mean crown axis of an arch against up: less says nothing


@dataclass(frozen=True)
class MouthFrame:
    """The frame of a mouth in the coordinates of its scans.

    to_head : (4, 4), scan -> head axes (x to the patient's left, y posterior, z up), mm; the teeth come to
              lie around the places of an average mouth
    arches  : "upper" and "lower" -> (3, 3), columns left, back and up of the arch, in scan coordinates
    sides   : 1 where the numbers' sides are the patient's, -1 where left and right are exchanged, 0 unknown
    """

    to_head: Array
    arches: Mapping[str, Array]
    sides: int

    def crown_direction(self, fdi: int) -> Array:
        """Unit vector (3,) from root to crown tip of an upright tooth, in scan coordinates."""
        return self._of(fdi) @ average_mouth().crown[slot_of(fdi)]

    def outward(self, fdi: int) -> Array:
        """Unit vector (3,) to the cheek or lip where the tooth belongs, in scan coordinates."""
        return self._of(fdi) @ average_mouth().outward[slot_of(fdi)]

    def _of(self, fdi: int) -> Array:
        mouth: Array = self.to_head[:3, :3].T
        return self.arches.get("upper" if is_upper(fdi) else "lower", mouth)


def find_mouth(
    centres: Mapping[int, Array], crown_axes: Mapping[int, Array] | None = None, file: str = ""
) -> MouthFrame:
    """The frame of a mouth from the centres of its crowns.

    centres    : FDI -> (3,), mm, in scan coordinates
    crown_axes : FDI -> unit vector (3,) from root to tip, of the teeth where it is known from the mesh
    raises     : CaseDefect where neither arch shows its left and back, or the two signs of up contradict
    """
    pose, slots = np.tile(np.eye(4), (SLOT_COUNT, 1, 1)), []
    for fdi, centre in centres.items():
        pose[slot_of(fdi), :3, 3] = centre
        slots.append(slot_of(fdi))
    present = np.array(sorted(slots), dtype=np.intp)
    found = {name: find_arch(pose, present, name) for name in ARCHES}
    sure = {name: arch for name, arch in found.items() if arch.normal is not None}
    if not sure:
        counts = " and ".join(f"{len(arch.slots)} {name}" for name, arch in found.items())
        seen = f"no arch can be recognised in {counts} teeth (at least {MIN_TEETH_OF_ARCH} of one are needed)"
        raise CaseDefect("arch_unclear", seen, "leave the case out", file=file)
    arches = {name: frame_of(arch) for name, arch in sure.items()}
    u, _, vt = np.linalg.svd(sum(len(sure[name].slots) * frame for name, frame in arches.items()))
    rotation = (u * [1.0, 1.0, float(np.linalg.det(u @ vt))]) @ vt
    up = rotation[:, 2]
    signs = {_sign_of_arches(found.values(), up), _sign_of_crowns(crown_axes or {}, up)} - {0}
    if len(signs) > 1:
        seen = (
            "the places of the arches and the openings of the crowns contradict each other about up and down"
        )
        raise CaseDefect("arch_unclear", seen, "see whether upper and lower are exchanged", file=file)
    mean = average_mouth().position[present].mean(0) - rotation.T @ pose[present, :3, 3].mean(0)
    return MouthFrame(rigid.from_rotation(rotation.T, mean), arches, signs.pop() if signs else 0)


def _sign_of_arches(arches: Iterable[Arch], up: Array) -> int:
    middle = {arch.name: arch.centroid for arch in arches if len(arch.slots) >= MIN_TEETH_OF_ARCH}
    if len(middle) < 2:
        return 0
    apart = float((middle["upper"] - middle["lower"]) @ up)
    return 0 if abs(apart) < APART_MM else int(np.sign(apart))


def _sign_of_crowns(axes: Mapping[int, Array], up: Array) -> int:
    if len(axes) < MIN_TEETH_OF_ARCH:
        return 0
    along = float(np.median([axis @ up * (-1.0 if is_upper(fdi) else 1.0) for fdi, axis in axes.items()]))
    return 0 if abs(along) < CLEAR_COSINE else int(np.sign(along))
