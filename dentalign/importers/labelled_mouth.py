"""A mouth cut out of labelled scans, as an importer needs it: crowns, their openings, where they are."""

from collections.abc import Mapping
from dataclasses import dataclass

from dentalign.errors import CaseDefect, ToothDefect
from dentalign.geometry.rigid import Array
from dentalign.importers import mouth_frame, tooth_frame
from dentalign.importers.imported_case import Surface
from dentalign.importers.mouth_frame import MouthFrame


@dataclass(frozen=True)
class LabelledMouth:
    """Crowns of a mouth, or of one jaw, in scan coordinates, mm.

    crowns : FDI -> surface;  lost : numbers whose label is no crown
    axes   : FDI -> from root to tip, of the crowns that are open at the gum
    """

    crowns: Mapping[int, Surface]
    lost: tuple[ToothDefect, ...]
    axes: Mapping[int, Array]
    centres: Mapping[int, Array]

    @classmethod
    def of(cls, crowns: Mapping[int, Surface], lost: tuple[ToothDefect, ...]) -> "LabelledMouth":
        """Find axes and centres."""
        axes = {fdi: tooth_frame.crown_axis(crown) for fdi, crown in crowns.items()}
        centres = {fdi: tooth_frame.centroid(crown) for fdi, crown in crowns.items()}
        return cls(crowns, lost, {fdi: axis for fdi, axis in axes.items() if axis is not None}, centres)

    def frame(self, file: str) -> MouthFrame:
        """Its frame; raises CaseDefect where it cannot be found or the labels have the sides exchanged."""
        mouth = mouth_frame.find_mouth(self.centres, self.axes, file)
        if mouth.sides < 0:
            seen = "by the coordinates, left and right are exchanged in the numbers, or the scan is mirrored"
            raise CaseDefect("sides_exchanged", seen, "leave the case out", file=file)
        if mouth.sides == 0:
            seen = "nothing shows which way is up, so left and right cannot be told"
            raise CaseDefect("sides_unclear", seen, "leave the case out", file=file)
        return mouth

    def teeth(self, mouth: MouthFrame) -> tuple[dict[int, Surface], dict[int, Array]]:
        """The crowns in tooth-local coordinates, and FDI -> pose (4, 4), tooth-local -> scan."""
        frames = tooth_frame.tooth_frames(self.crowns, self.axes, mouth)
        return {fdi: tooth_frame.local(crown, frames[fdi]) for fdi, crown in self.crowns.items()}, frames
