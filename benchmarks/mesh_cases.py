"""Cases with meshes for the benchmarks of planning, and what a trained model predicts for them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dentalign.alignment.base import AlignmentModel
from dentalign.cases.crowns import Sampler
from dentalign.cases.settings import Limits, Sample
from dentalign.geometry import stl
from dentalign.geometry.mesh_file import Surface
from dentalign.geometry.rigid import Array
from dentalign.mouth import T1, Bools, Mouth, Mouths
from dentalign.planning.distance_field import DistanceFields
from dentalign.planning.solver import Proposal
from dentalign.prediction import new_case


@dataclass(frozen=True)
class Predicted:
    """Predicted T2 of a mouth.

    pose      : (32, 4, 4), tooth-local -> head, mm
    unknown   : (32,) bool, teeth that the model does not know
    add_mm_90 : (32,), bound of the error that is to hold for 90 of 100 teeth; NaN without one
    """

    pose: Array
    unknown: Bools
    add_mm_90: Array


@dataclass(frozen=True)
class MeshCase:
    """Mouth with its plan, and the crowns of the teeth that stay: slot -> mesh."""

    case_id: str
    mouth: Mouth
    surfaces: dict[int, Surface]

    def fields(self) -> DistanceFields:
        """Distance fields of the teeth that stay."""
        return DistanceFields([self.surfaces[slot] for slot in sorted(self.surfaces)])

    def predicted(self, model: AlignmentModel) -> Predicted:
        """Answer of a model that needs no latents."""
        mouth = self.mouth
        plan = model.predict(
            Mouths.at_t1(mouth.points[None], mouth.pose[:1], mouth.present[:1], mouth.stays[None])
        )
        no_bound = np.full(len(mouth.stays), np.nan)
        unknown = np.zeros(len(mouth.stays), bool)
        if plan.expected_add_mm is not None:
            unknown = mouth.stays & np.isnan(plan.expected_add_mm[0])
        return Predicted(plan.pose[0], unknown, no_bound if plan.add_mm_90 is None else plan.add_mm_90[0])

    def proposal(self, pose: Array, held: Bools, fields: DistanceFields) -> Proposal:
        """Proposal of poses (32, 4, 4) for the solver; the teeth `held` (32,) keep their poses of T1."""
        mouth = self.mouth
        return Proposal(mouth.pose[T1], pose, mouth.stays, held, mouth.fdi, mouth.points, fields)


def read(folder: Path, first: int, count: int) -> Iterator[MeshCase]:
    """Read cases of a store, `json/<case_id>.json` and `stl/<case_id>/<FDI>.stl`, by their names."""
    sampler = Sampler("+y", Sample(), Limits())
    for file in sorted((folder / "json").glob("*.json"))[first : first + count]:
        case = new_case.read(file, folder / "stl", sampler)
        stays = case.mouth.stays
        yield MeshCase(
            case.case_id,
            case.mouth,
            {slot: stl.merged(crown) for slot, crown in case.crowns.items() if stays[slot]},
        )
