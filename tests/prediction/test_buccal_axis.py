"""`dentalign predict` on exporters whose buccal is at -y: found by the teeth themselves, and said."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dentalign.cases import case_document
from dentalign.cases.poses import stage_poses
from dentalign.cases.settings import BuccalAxis, Sample
from dentalign.demo_clinic import clinic
from dentalign.errors import CaseDefect
from dentalign.geometry import stl
from dentalign.geometry.rigid import Array
from dentalign.prediction import files as prediction_files
from dentalign.prediction.predictor import Predictor
from tests.support.pipeline_project import Project

CASE = "p1"
HALF_TURN = np.diag([-1.0, -1, 1, 1])
SEEN = "28 of 28 teeth have buccal at -y, not +y"


def as_json(pose: Array) -> dict[str, dict[str, float]]:
    xyzw = Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()
    return {
        "translation": dict(zip("xyz", pose[:3, 3].tolist(), strict=True)),
        "rotation": dict(zip("xyzw", xyzw, strict=True)),
    }


def write(folder: Path, axis: BuccalAxis, teeth: int = 32) -> Path:
    """Write a case of all 28 teeth at T1, or fewer, as an exporter with this buccal axis does."""
    case, turn = clinic.make_case(1, seed=3, complete=True), HALF_TURN if axis == "-y" else np.eye(4)
    poses = {str(fdi): as_json(pose @ turn) for fdi, pose in list(case.t1.items())[:teeth]}
    (folder / "stl").mkdir(parents=True)
    document = {"CaseID": CASE, "Staging": [{"Stage": 0, "ToothTransforms": poses}]}
    (folder / f"{CASE}.json").write_text(json.dumps(document), encoding="utf-8")
    for fdi in poses:
        crown = case.patient.mouth[int(fdi)]
        stl.write_binary(folder / "stl" / f"{fdi}.stl", crown.vertices @ turn[:3, :3], crown.faces)
    return folder


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[BuccalAxis, Path]:
    folder = tmp_path_factory.mktemp("axes")
    return {"+y": write(folder / "plus", "+y"), "-y": write(folder / "minus", "-y")}


def predictor(project: Project, **options: object) -> Predictor:
    sample = Sample(points=32, oversampling=2)
    return Predictor(project.root / "models", device="cpu", sample=sample, planning=None, **options)  # type: ignore[arg-type]


def test_the_axis_that_all_teeth_show_is_taken_and_said(
    finished_project: Project, stores: dict[BuccalAxis, Path], tmp_path: Path
) -> None:
    ours = predictor(finished_project)
    plus, minus = (ours.predict(stores[axis] / f"{CASE}.json", stores[axis] / "stl") for axis in ("+y", "-y"))
    assert np.allclose(plus.pose, minus.pose, atol=1e-4)
    assert (plus.case.turned, minus.case.turned) == ("", SEEN)
    assert f"Tooth-local frame: {SEEN}; turned." in minus.notes
    assert not [note for note in plus.notes if "Tooth-local" in note]
    looks = [(look.tooth, look.seen) for look in minus.to_look_at if look.code == "buccal_axis"]
    assert looks == [("", SEEN)]
    prediction_files.write(tmp_path, minus, prediction_files.OutputOptions(looks=False))
    theirs = stage_poses(case_document.read(tmp_path / "json" / f"{CASE}.json", CASE)).t2
    assert theirs
    for fdi, pose in prediction_files.in_the_file_s_frame(plus, plus.pose).items():
        assert np.allclose(theirs[fdi] @ HALF_TURN, pose, atol=1e-4)  # in the frame of the file it came from


@pytest.mark.parametrize("axis", ["+y", "-y"])
def test_an_expected_axis_that_the_teeth_contradict_is_not_taken(
    finished_project: Project, stores: dict[BuccalAxis, Path], axis: BuccalAxis
) -> None:
    other: BuccalAxis = "+y" if axis == "-y" else "-y"
    case = predictor(finished_project, buccal_axis=other).read(
        stores[axis] / f"{CASE}.json", stores[axis] / "stl"
    )
    assert case.buccal_axis == axis
    with pytest.raises(CaseDefect, match=r"buccal_axis: tooth-local \+y points inwards in 28 of 28 teeth"):
        predictor(finished_project, buccal_axis=other, find_axis=False).read(
            stores[axis] / f"{CASE}.json", stores[axis] / "stl"
        )


def test_of_too_few_teeth_for_an_arch_the_crowns_say_which_axis_to_set(
    finished_project: Project, tmp_path: Path
) -> None:
    few = write(tmp_path / "few", "-y", teeth=4)
    case = predictor(finished_project, buccal_axis="-y").read(few / f"{CASE}.json", few / "stl")
    assert (case.buccal_axis, case.turned) == ("-y", "")
    with pytest.raises(CaseDefect, match=r'crown_turned: .*source\.buccal_axis: "-y"'):
        predictor(finished_project, buccal_axis="+y").read(few / f"{CASE}.json", few / "stl")


def test_five_teeth_in_a_row_tell_the_axis(finished_project: Project, tmp_path: Path) -> None:
    few = write(tmp_path / "few", "-y", teeth=5)
    assert predictor(finished_project).read(few / f"{CASE}.json", few / "stl").buccal_axis == "-y"


def test_the_command_finds_the_axis_unless_it_is_told(
    finished_project: Project, stores: dict[BuccalAxis, Path], tmp_path: Path
) -> None:
    store = stores["-y"]
    words = [
        sys.executable,
        "-m",
        "dentalign",
        "predict",
        "--case",
        str(store / f"{CASE}.json"),
        "--poses-only",
    ]
    words += ["--meshes", str(store / "stl"), "--out", str(tmp_path / "out")]
    said = finished_project.run(*words).stdout
    assert f"look at: case {CASE}: {SEEN}; " in said
    with open(tmp_path / "out" / "to_look_at.csv", newline="", encoding="utf-8") as table:
        assert [row["seen"] for row in csv.DictReader(table) if row["code"] == "buccal_axis"] == [SEEN]
    assert SEEN not in finished_project.run(*words, "--buccal-axis", "-y").stdout
    done = finished_project.run(*words, "--buccal-axis", "+y", check=False)
    assert done.returncode == 3 and "points inwards in 28 of 28 teeth" in done.stdout
