"""Demo clinic: a case store of made-up patients, the same bytes for the same seed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dentalign.demo_clinic import case_files, malocclusion, patient, treatment_plan
from dentalign.demo_clinic.case_files import DEFECTS, Document
from dentalign.demo_clinic.patient import Patient
from dentalign.demo_clinic.treatment_plan import Poses
from dentalign.errors import DentalignError
from dentalign.files import atomic, csv_table
from dentalign.geometry import rigid, stl
from dentalign.geometry.rigid import Array
from dentalign.params import NotNegative, Positive, Section
from dentalign.running.locks import exclusive
from dentalign.running.progress import track

# The planner's own scatter, which T1 and the crowns do not determine: root mean square per tooth.
NOISE_MM, NOISE_DEG = 0.15, 1.0
REVISIT_EVERY = 17  # every so many cases a patient comes back with a second case


class DemoClinic(Section):
    """Number of good cases of the demo clinic, and seed of its patients."""

    cases: Positive = 120
    seed: NotNegative = 7


@dataclass(frozen=True)
class Case:
    """Case of the demo clinic without a defect.

    patient  : the crowns, and the teeth to extract
    t1, t2   : FDI -> pose (4, 4), tooth-local -> head, mm
    document : content of the case's JSON
    """

    case_id: str
    patient_id: str
    patient: Patient
    t1: Poses
    t2: Poses
    document: Document


def make_case(index: int, seed: int, complete: bool = False) -> Case:
    """Make case number `index`, counted from 1; the same arguments give the same case.

    complete : True for a new patient with exactly the 28 teeth and no extraction
    """
    visitor = index - 1 if index % REVISIT_EVERY == 0 and not complete else index
    who = patient.draw(np.random.default_rng([seed, visitor, 0]), complete)
    rng = np.random.default_rng([seed, index, 1])
    crowded = any(f % 10 < 6 for f in who.extracted)  # premolars are, if the teeth have too little room
    t1 = malocclusion.disturb(who.mouth, malocclusion.draw(rng, crowded), rng)
    planned = treatment_plan.plan(who.mouth, t1, who.keep)
    t2 = {f: _scattered(planned[f], rng) for f in sorted(planned)}
    case_id = f"demo-{index:04d}"
    document = case_files.document(case_id, visitor, t1, t2, rng)
    return Case(case_id, f"pt-{visitor:04d}", who, t1, t2, document)


def make_clinic(out: Path, cases: int, seed: int) -> None:
    """Write `cases.csv`, `json/` and `stl/` under `out`, all or nothing.

    cases  : number of good cases; after them come a case with each of `case_files.DEFECTS` and an id without
             files
    raises : DentalignError if `out` holds something else than an earlier clinic
    """
    if out.exists() and not (out / "cases.csv").is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise DentalignError(f"{out} is not a demo clinic and would be replaced; name another folder")
    with exclusive(out), atomic.replacing(out) as part:
        (part / "json").mkdir(parents=True)
        rows = []
        todo = [*[None] * cases, *DEFECTS.values()]
        for index, defect in enumerate(track(todo, "demo clinic", total=len(todo)), 1):
            case = make_case(index, seed, complete=defect is not None)
            json_file, meshes = part / "json" / f"{case.case_id}.json", part / "stl" / case.case_id
            case_files.write_json(json_file, case.document)
            meshes.mkdir(parents=True)
            for fdi, crown in case.patient.mouth.items():
                data = stl.as_binary(crown.vertices, crown.faces, b"dentalign demo clinic, tooth-local, mm")
                (meshes / f"{fdi}.stl").write_bytes(data)
            if defect is not None:
                defect(json_file, meshes, case.document)
            rows.append([case.case_id, case.patient_id])
        rows.append([f"demo-{len(todo) + 1:04d}", f"pt-{len(todo) + 1:04d}"])
        csv_table.write(part / "cases.csv", ["case_id", "patient_id"], rows)


def _scattered(pose: Array, rng: np.random.Generator) -> Array:
    """Planned pose as the same planner would have drawn it on another day."""
    rotation = rigid.rotation_matrix(rng.normal(0, np.radians(NOISE_DEG / np.sqrt(3)), 3))
    return np.asarray(pose @ rigid.from_rotation(rotation, rng.normal(0, NOISE_MM / np.sqrt(3), 3)))
