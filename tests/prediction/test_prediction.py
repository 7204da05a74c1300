"""Predicting new patients with real models: what goes in, what comes out, what is refused."""

import csv
import json
import os
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import dentalign
from dentalign import cli
from dentalign.alignment.patterns import FEW_ALIKE
from dentalign.cases import case_document
from dentalign.cases.poses import stage_poses
from dentalign.cases.settings import Fetch, Sample
from dentalign.cases.slots import slot_of
from dentalign.errors import CaseDefect, DentalignError, NothingUsable, ParamError
from dentalign.geometry import rigid, stl
from dentalign.planning.prescription import Prescription
from dentalign.prediction import files as prediction_files
from dentalign.prediction import review
from dentalign.prediction.batch import predict_cases
from dentalign.prediction.files import OutputOptions
from dentalign.prediction.predictor import Prediction, Predictor
from dentalign.prediction.review import Thresholds
from tests.support.pipeline_project import FDIS, Project
from tests.support.stacked_mouths import stacked

CASE = "own-001"
SPELLINGS = ("ToothTransforms", "RelativeToothTransformsHead", "RelativeToothTransforms")
POSES_ONLY = OutputOptions(looks=False)

# Reasons to look at a tooth that a plan of any mouth may have.
OF_ANY_PLAN = {"overlap", "occlusal_overlap", "wish_missed", "expected_error"}


@pytest.fixture(scope="module")
def predictor(finished_project: Project) -> Predictor:
    return Predictor(finished_project.root / "models", device="cpu", sample=Sample(points=32, oversampling=2))


@pytest.fixture
def store(finished_project: Project, tmp_path: Path) -> Path:
    """A case store with one case, to be changed."""
    source = finished_project.root / "cases"
    for name in ("json", "stl"):
        (tmp_path / "store" / name).mkdir(parents=True)
    shutil.copy(source / "json" / f"{CASE}.json", tmp_path / "store" / "json")
    shutil.copytree(source / "stl" / CASE, tmp_path / "store" / "stl" / CASE)
    return tmp_path / "store"


def document(store: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((store / "json" / f"{CASE}.json").read_text(encoding="utf-8"))
    return content


def rewrite(store: Path, content: dict[str, Any]) -> None:
    (store / "json" / f"{CASE}.json").write_text(json.dumps(content), encoding="utf-8")


def t1_only(store: Path) -> dict[str, Any]:
    content = document(store)
    content["Staging"] = content["Staging"][:1]
    del content["T2Stage"]
    rewrite(store, content)
    return content


def predict(predictor: Predictor, store: Path, **options: Any) -> Prediction:
    return predictor.predict(store / "json" / f"{CASE}.json", store / "stl", **options)


def as_predicted(prediction: Prediction) -> dict[int, np.ndarray]:
    return prediction_files.in_the_file_s_frame(prediction, prediction.pose)


def spelt(store: Path, spelling: str) -> None:
    """The same mouth in another spelling, its jaws out of the head's origin."""
    read = stage_poses(case_document.read(store / "json" / f"{CASE}.json", CASE))
    content = document(store)
    jaws = {
        upper: {
            "translation": {"x": 1.5, "y": 20 + upper, "z": -3},
            "rotation": {"x": 0.02, "y": -0.01, "z": 0.03 * upper, "w": 1},
        }
        for upper in (0, 1)
    }
    content |= {"mandibularRelativeTransform": jaws[0], "maxillaRelativeTransform": jaws[1]}
    assert read.t2
    content["Staging"] = [
        {"Stage": k, spelling: {str(fdi): _plain(fdi, pose, jaws, spelling) for fdi, pose in poses.items()}}
        for k, poses in enumerate((read.t1, read.t2))
    ]
    rewrite(store, content)


def _plain(fdi: int, pose: np.ndarray, jaws: Any, spelling: str) -> dict[str, Any]:
    from scipy.spatial.transform import Rotation

    if spelling == "RelativeToothTransforms":
        jaw = jaws[int(fdi // 10 in (1, 2))]
        q, t = jaw["rotation"], jaw["translation"]
        matrix = rigid.from_quaternion([q["x"], q["y"], q["z"], q["w"]], [t["x"], t["y"], t["z"]])
        pose = rigid.inverse(matrix) @ pose
    xyzw = Rotation.from_matrix(pose[:3, :3]).as_quat()
    return {
        "translation": dict(zip("xyz", pose[:3, 3].tolist(), strict=True)),
        "rotation": dict(zip("xyzw", xyzw.tolist(), strict=True)),
    }


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_written_case_reads_back_to_the_same_poses_in_the_spelling_it_came_in(
    predictor: Predictor, store: Path, tmp_path: Path, spelling: str
) -> None:
    spelt(store, spelling)
    t1_only(store)
    prediction = predict(predictor, store)
    written = prediction_files.write(
        tmp_path / "out", prediction, OutputOptions(every_stage=True, looks=False)
    )[0]
    content = json.loads(written.read_text(encoding="utf-8"))
    assert all(set(stage) & set(SPELLINGS) == {spelling} for stage in content["Staging"])
    assert content["T2Stage"] == str(len(content["Staging"]) - 1)
    back = stage_poses(case_document.read(written, CASE))
    assert back.t2
    assert back.t2.keys() == as_predicted(prediction).keys() == set(FDIS)
    plan = prediction_files.staged(prediction, OutputOptions(every_stage=True))
    assert plan
    assert len(content["Staging"]) == len(plan.poses) + 1
    document_back = case_document.read(written, CASE)
    for number, poses in enumerate(plan.poses, start=1):
        there = stage_poses(document_back.model_copy(update={"t2_stage": float(number)})).t2 or {}
        for fdi, pose in prediction_files.in_the_file_s_frame(prediction, poses).items():
            assert np.allclose(there[fdi], pose, atol=1e-6)
    before = stage_poses(case_document.read(store / "json" / f"{CASE}.json", CASE), require_t2=False)
    for fdi, pose in as_predicted(prediction).items():
        assert np.allclose(back.t2[fdi], pose, atol=1e-6)
        assert np.allclose(back.t1[fdi], before.t1[fdi], atol=1e-6)


def test_an_extraction_that_no_training_case_had_is_to_be_looked_at(
    predictor: Predictor, store: Path, tmp_path: Path
) -> None:
    patterns = predictor.alignment_model.patterns
    assert patterns
    plain, strange = predict(predictor, store), predict(predictor, store, extract=(11,))
    assert patterns.mouths_alike(plain.case.mouth.present[0], plain.mask) == patterns.mouths >= FEW_ALIKE
    assert {look.code for look in plain.to_look_at} <= OF_ANY_PLAN
    look = strange.to_look_at[0]
    assert (look.case_id, look.tooth, look.code) == (CASE, "", "few_alike")
    said = look.seen
    assert said.startswith(
        f"fewer than 4 of the {patterns.mouths} training cases are like it (slots: extracted 11;"
    )
    assert strange.warnings == (f"Unlike the training cases: {said}. Fix: {look.fix}.",)
    assert plain.warnings == ()
    done = predict_cases(
        store / "json", store / "stl", tmp_path / "out", predictor, POSES_ONLY, Prescription(extract=(11,))
    )
    assert done.to_look_at == strange.to_look_at
    with open(tmp_path / "out" / "to_look_at.csv", newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [asdict(look) for look in done.to_look_at]


def test_a_mouth_unlike_the_training_is_said_at_the_head_of_the_report_and_in_the_text(
    finished_project: Project, store: Path, tmp_path: Path
) -> None:
    words = ["dentalign", "predict", "--case", str(store / "json"), "--meshes", str(store / "stl"), "--out"]
    said = finished_project.run(*words, str(tmp_path / "as-trained")).stdout
    assert "look at" not in said.replace("something to look at", "")
    said = finished_project.run(*words, str(tmp_path / "out"), "--extract", "11").stdout
    assert (
        f"look at: case {CASE}: fewer than 4 of the 14 training cases are like it (slots: extracted 11;"
        in said
    )
    assert "; plan this case by hand, or train on cases with the same teeth absent and extracted" in said
    page = (tmp_path / "out" / "report" / f"{CASE}.html").read_text(encoding="utf-8")
    warning = page.index('<p class="warning" role="alert">Unlike the training cases: fewer than 4 of the 14')
    assert warning < page.index('id="notes"')
    assert 'role="alert"' not in (tmp_path / "as-trained" / "report" / f"{CASE}.html").read_text(
        encoding="utf-8"
    )


def test_a_mouth_unlike_the_training_says_in_what_and_what_to_check(
    predictor: Predictor, store: Path
) -> None:
    prediction = predict(predictor, store)
    familiarity, mouth = predictor.alignment_model.familiarity, prediction.case.mouth
    larger = mouth.pose.copy()
    larger[..., :3, 3] *= 1.5
    given = stacked(mouth, replace(mouth, points=mouth.points * np.float32(1.5), pose=larger))
    assert familiarity.unlike(given).tolist() == [False, True]
    likeness = familiarity.compare(stacked(replace(mouth, points=given.points[1], pose=larger)))
    looks = review.unlike_training(prediction.case, prediction.mask, np.empty(0, int), None, None, likeness)
    assert {(look.tooth, look.code) for look in looks} == {("", "unlike_training")}
    (size,) = (look for look in looks if "times as large as the mean training mouth" in look.seen)
    assert size.fix.startswith("check the scale of meshes and poses")
    assert f"Unlike the training cases: {size.seen}. Fix: {size.fix}." in review.warnings(looks)


def test_teeth_that_the_model_has_not_learnt_are_one_warning(predictor: Predictor, store: Path) -> None:
    prediction = predict(predictor, store)
    moving = np.flatnonzero(prediction.mask)
    expected = np.where(np.isin(prediction.case.mouth.fdi[moving], (12, 42)), np.nan, 0.2)
    looks = review.unlike_training(prediction.case, prediction.mask, moving, expected, None)
    assert [(look.tooth, look.code) for look in looks] == [("42", "not_learnt"), ("12", "not_learnt")]
    (warning,) = review.warnings(looks)
    assert warning == "Not moved, too few such teeth in the training: 42, 12. Fix: plan them by hand."


def test_a_tooth_that_stands_in_its_neighbour_is_to_be_looked_at_with_it(
    predictor: Predictor, store: Path
) -> None:
    case = predict(predictor, store).case
    pose, moving = case.mouth.pose[0].copy(), np.flatnonzero(case.mouth.present[0])

    def found(overlap_mm: float = 0.5) -> list[tuple[str, str]]:
        looks = review.find(
            case, case.mouth.present[0], pose, moving, None, None, Thresholds(overlap_mm=overlap_mm)
        )
        assert {look.code for look in looks} <= {"overlap", "occlusal_overlap"}
        return [(look.tooth, look.seen.split()[2]) for look in looks if look.code == "overlap"]

    assert found() == []
    (left,), (right,) = (np.flatnonzero(case.mouth.fdi == fdi) for fdi in (11, 21))
    pose[left, :3, 3] = 0.7 * pose[right, :3, 3] + 0.3 * pose[left, :3, 3]
    assert ("11", "21") in found()
    assert ("21", "11") in found()
    assert found(overlap_mm=100) == []


def test_weights_that_say_nothing_of_their_training_cases_are_used_all_the_same(
    predictor: Predictor, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        predictor.alignment_model, "config", replace(predictor.alignment_model.config, patterns={})
    )
    looks = predict(predictor, store, extract=(11,)).to_look_at
    assert {look.code for look in looks} <= OF_ANY_PLAN


def test_every_spelling_gives_the_same_prediction(predictor: Predictor, store: Path) -> None:
    found = []
    for spelling in SPELLINGS:
        spelt(store, spelling)
        found.append(predict(predictor, store).pose)
    assert np.allclose(found[0], found[1], atol=1e-4)
    assert np.allclose(found[0], found[2], atol=1e-4)


def test_the_prediction_is_that_of_validate(predictor: Predictor, finished_project: Project) -> None:
    """On a test case the poses are those behind `metrics/validation.json`."""
    from dentalign.validation.measurement import Validate, validate

    root = finished_project.root
    found = validate(
        root / "data" / "latents.h5", root / "models" / "decoder.pt", root / "models" / "alignment.pt",
        Validate(device="cpu", threads=1, solver=False),
    )  # fmt: skip
    for number, case_id in enumerate(found.case_ids):
        prediction = predictor.predict(root / "cases" / "json" / f"{case_id}.json", root / "cases" / "stl")
        # Latents are stored at half precision, which a prediction does without.
        assert np.allclose(prediction.network_pose, found.predicted[number], atol=0.02)


def test_predicted_poses_are_exactly_rigid_and_only_of_the_case_s_teeth(
    predictor: Predictor, store: Path
) -> None:
    prediction = predict(predictor, store)
    rotation = prediction.pose[:, :3, :3]
    assert np.allclose(rotation @ np.swapaxes(rotation, -1, -2), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(rotation), 1)
    assert set(np.flatnonzero(prediction.mask)) == {slot_of(fdi) for fdi in FDIS}
    moved = [row for row in prediction_files.table(prediction) if row["fate"] == "predicted"]
    assert len(moved) == len(FDIS)
    assert all(isinstance(row["movement_mm"], float) and row["movement_mm"] > 0 for row in moved)


def test_a_flat_folder_of_crowns_will_do(predictor: Predictor, store: Path) -> None:
    nested = predict(predictor, store)
    flat = predictor.predict(store / "json" / f"{CASE}.json", store / "stl" / CASE)
    assert np.array_equal(nested.pose, flat.pose)


def test_an_extracted_tooth_is_gone_from_t2_and_still_counts_for_its_neighbours(
    predictor: Predictor, store: Path
) -> None:
    whole, without = predict(predictor, store), predict(predictor, store, extract=[12])
    assert not without.mask[slot_of(12)]
    assert 12 not in as_predicted(without)
    rows = {row["fdi"]: row["fate"] for row in prediction_files.table(without)}
    assert rows[12] == "extracted"
    assert not np.allclose(whole.pose[slot_of(11)], without.pose[slot_of(11)])
    assert "Extracted: 12." in without.notes


def test_a_fixed_tooth_stays_where_it_is(predictor: Predictor, store: Path) -> None:
    prediction = predict(predictor, store, fixed=[41])
    assert np.array_equal(prediction.pose[slot_of(41)], prediction.case.mouth.pose[0, slot_of(41)])
    rows = {row["fdi"]: row for row in prediction_files.table(prediction)}
    assert (rows[41]["fate"], rows[41]["movement_mm"]) == ("fixed", 0)
    assert rows[42]["fate"] == "predicted"


def test_a_prescription_is_obeyed_and_what_was_done_stands_beside_what_was_wanted(
    predictor: Predictor, store: Path, tmp_path: Path
) -> None:
    rx = Prescription(only=(11, 21, 31, 41), max_movement_mm=0.3)
    prediction = predict(predictor, store, prescription=rx)
    rows = {row["fdi"]: row for row in prediction_files.table(prediction)}
    assert {fdi for fdi, row in rows.items() if row["fate"] == "fixed"} == {12, 22, 32, 42}
    assert max(float(str(row["movement_mm"])) for row in rows.values()) <= 0.3 + 1e-6
    prediction_files.write(tmp_path / "out", prediction, POSES_ONLY)
    with open(tmp_path / "out" / "prescription" / f"{CASE}.csv", encoding="utf-8", newline="") as file:
        wishes = {row["wish"].split(" (")[0]: row for row in csv.DictReader(file)}
    assert wishes["only: movement of the other teeth"]["done"] == "0.0000"
    assert wishes["max_movement_mm all"]["met"] == "yes"
    assert {"overlap_mm", "occlusal_overlap_mm"} <= wishes.keys()


def test_teeth_planned_away_in_the_file_are_extracted_and_the_plan_is_compared_with(
    predictor: Predictor, store: Path
) -> None:
    content = document(store)
    for spelling in SPELLINGS:
        content["Staging"][-1].get(spelling, {}).pop("22", None)
    rewrite(store, content)
    prediction = predict(predictor, store)
    rows = {row["fdi"]: row for row in prediction_files.table(prediction)}
    assert rows[22]["fate"] == "extracted"
    plan, points = prediction.case.mouth.pose[1], prediction.case.mouth.points[slot_of(11)].astype(float)
    assert plan is not None
    distance = rigid.apply(prediction.pose[slot_of(11)], points) - rigid.apply(plan[slot_of(11)], points)
    assert rows[11]["add_mm"] == pytest.approx(np.linalg.norm(distance, axis=1).mean())


def test_one_arch_alone_is_predicted_and_said(predictor: Predictor, store: Path, tmp_path: Path) -> None:
    content = t1_only(store)
    for spelling in SPELLINGS:
        for fdi in (11, 12, 21, 22):
            content["Staging"][0].get(spelling, {}).pop(str(fdi), None)
    rewrite(store, content)
    prediction = predict(predictor, store)
    assert prediction.mask.sum() == 4
    arch = next(look for look in prediction.to_look_at if look.code == "one_arch")
    assert (arch.tooth, arch.seen) == (
        "",
        "the upper arch has no teeth; the model was trained on both arches",
    )
    assert any(arch.seen in warning for warning in prediction.warnings)
    files = prediction_files.write(tmp_path / "out", prediction, OutputOptions())
    folders = ["json", "movement", "clinical", "clinical", "prescription", "picture", "occlusion", "report"]
    assert [file.parent.name for file in files] == folders
    with Image.open(files[5]) as picture:
        assert np.ptp(np.asarray(picture.convert("L"))) > 200


def test_the_crowns_of_another_case_beside_those_of_the_case_are_refused(
    predictor: Predictor, store: Path
) -> None:
    other = shutil.copytree(store / "stl" / CASE, store / "stl" / "p9")
    with pytest.raises(CaseDefect, match=f"crowns_of_another_case: .*; give --meshes .*{CASE}"):
        predictor.predict(store / "json" / f"{CASE}.json", other)
    assert predict(predictor, store).mask.any()


def test_a_case_list_in_place_of_a_case_is_named(predictor: Predictor, store: Path, tmp_path: Path) -> None:
    (store / "cases.csv").write_text("case_id\np1\n")
    with pytest.raises(ParamError, match="is a case list: name a JSON file"):
        predict_cases(store / "cases.csv", store / "stl", tmp_path / "out", predictor, POSES_ONLY)


def test_a_tooth_without_a_usable_mesh_stays_in_the_case_where_it_stands(
    predictor: Predictor, store: Path, tmp_path: Path
) -> None:
    (store / "stl" / CASE / "31.stl").unlink()
    t1_only(store)
    prediction = predict(predictor, store)
    assert [(line.tooth, line.code) for line in prediction.case.left_out] == [("31", "missing_mesh")]
    written = prediction_files.write(tmp_path / "out", prediction, POSES_ONLY)[0]
    back = stage_poses(case_document.read(written, CASE))
    assert back.t2
    assert np.allclose(back.t2[31], back.t1[31])


def test_buccal_at_minus_y_gives_the_same_mouth_in_the_exporter_s_frame(
    predictor: Predictor, store: Path, finished_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "planning", None)  # its distance grids lie otherwise in turned crowns
    straight = predict(predictor, store)
    half_turn = np.diag([-1.0, -1, 1, 1])
    content = document(store)
    read = stage_poses(case_document.read(store / "json" / f"{CASE}.json", CASE))
    poses = {
        str(fdi): _plain(fdi, pose @ half_turn, None, "ToothTransforms") for fdi, pose in read.t1.items()
    }
    content["Staging"] = [{"Stage": 0, "ToothTransforms": poses}]
    del content["T2Stage"]
    rewrite(store, content)
    for fdi in FDIS:
        file = store / "stl" / CASE / f"{fdi}.stl"
        triangles = stl.read_triangles(file.read_bytes(), file="", tooth=fdi) * [-1, -1, 1]
        stl.write_binary(file, triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3))
    turned = Predictor(
        finished_project.root / "models", device="cpu", buccal_axis="-y", sample=predictor.sampler.sample,
        planning=None,
    )  # fmt: skip
    other = predict(turned, store)
    assert np.allclose(straight.pose, other.pose, atol=1e-4)
    theirs = as_predicted(other)
    assert all(
        np.allclose(theirs[f] @ half_turn, pose, atol=1e-4) for f, pose in as_predicted(straight).items()
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extract": [18]}, "--extract: case own-001 has no usable tooth 18 at T1; it has 11, 12"),
        ({"fixed": [11], "extract": [11]}, "cannot be in both"),
    ],
)
def test_teeth_that_cannot_be_meant_are_refused(
    predictor: Predictor, store: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParamError, match=message):
        predict(predictor, store, **options)


def test_a_case_without_a_tooth_at_t2_is_refused(predictor: Predictor, store: Path) -> None:
    with pytest.raises(CaseDefect, match="no tooth is left"):
        predict(predictor, store, extract=FDIS)


def test_a_broken_pose_in_the_plan_extracts_no_tooth(predictor: Predictor, store: Path) -> None:
    content = document(store)
    for spelling in SPELLINGS:
        for pose in [content["Staging"][-1].get(spelling, {}).get("22")]:
            if pose:
                pose["rotation"] = dict.fromkeys("xyzw", 0)
    rewrite(store, content)
    prediction = predict(predictor, store)
    assert prediction.mask[slot_of(22)]
    assert any("plan for tooth 22 is not read" in note for note in prediction.notes)


def test_a_tooth_without_a_mesh_that_is_extracted_is_gone(predictor: Predictor, store: Path) -> None:
    (store / "stl" / CASE / "31.stl").unlink()
    t1_only(store)
    assert 31 in as_predicted(predict(predictor, store))
    assert 31 not in as_predicted(predict(predictor, store, extract=[31]))


def test_a_broken_jaw_pose_does_not_matter_where_teeth_stand_in_the_head_s_frame(
    predictor: Predictor, store: Path, tmp_path: Path
) -> None:
    spelt(store, "ToothTransforms")
    content = t1_only(store)
    content["maxillaRelativeTransform"] = {"translation": {"x": "?"}}
    content["Staging"][0]["Stage"] = 1
    rewrite(store, content)
    written = prediction_files.write(tmp_path / "out", predict(predictor, store), POSES_ONLY)[0]
    numbers = [stage["Stage"] for stage in json.loads(written.read_text(encoding="utf-8"))["Staging"]]
    assert numbers == [1, 2]


def second_case(store: Path) -> str:
    """The same mouth once more under a name of its own, its meshes too."""
    content = document(store) | {"CaseID": "own-002"}
    (store / "json" / "own-002.json").write_text(json.dumps(content), encoding="utf-8")
    shutil.copytree(store / "stl" / CASE, store / "stl" / "own-002")
    return "own-002"


def test_one_patient_s_crowns_are_never_taken_for_several_patients(
    predictor: Predictor, store: Path, tmp_path: Path
) -> None:
    second_case(store)
    with pytest.raises(NothingUsable, match="the mesh is missing"):
        predict_cases(store, store / "stl" / CASE, tmp_path / "out", predictor, POSES_ONLY)
    assert "missing_mesh" in (tmp_path / "out" / "left_out.csv").read_text(encoding="utf-8")


def test_a_plan_without_any_tooth_of_t1_costs_its_own_case_only(
    predictor: Predictor, store: Path, tmp_path: Path
) -> None:
    second_case(store)
    content = document(store)
    for spelling in SPELLINGS:
        teeth = content["Staging"][-1].get(spelling)
        if teeth:
            content["Staging"][-1][spelling] = {"18": next(iter(teeth.values()))}
    rewrite(store, content)
    done = predict_cases(store, store / "stl", tmp_path / "out", predictor, POSES_ONLY)
    assert [line.code for line in done.left_out if line.whole_case] == ["no_pairs"]
    assert (tmp_path / "out" / "json" / "own-002.json").is_file()


def test_results_never_replace_the_case_they_are_made_from(predictor: Predictor, store: Path) -> None:
    before = (store / "json" / f"{CASE}.json").read_bytes()
    with pytest.raises(ParamError, match="would replace"):
        predict_cases(store, store / "stl", store, predictor, POSES_ONLY)
    assert (store / "json" / f"{CASE}.json").read_bytes() == before


def test_a_pose_broken_at_t1_is_no_fault_of_the_plan(predictor: Predictor, store: Path) -> None:
    content = document(store)
    for spelling in SPELLINGS:
        if "22" in content["Staging"][0].get(spelling, {}):
            content["Staging"][0][spelling]["22"]["rotation"] = dict.fromkeys("xyzw", 0)
    rewrite(store, content)
    prediction = predict(predictor, store)
    assert [line.code for line in prediction.case.left_out] == ["zero_quaternion"]
    assert not any("plan" in note for note in prediction.notes)


def test_a_file_name_that_is_no_text_is_listed_and_the_good_case_is_predicted(
    predictor: Predictor, store: Path, tmp_path: Path
) -> None:
    (Path(os.fsdecode(bytes(store / "json"))) / os.fsdecode(b"\xff.json")).write_text("{}", encoding="utf-8")
    done = predict_cases(store, store / "stl", tmp_path / "out", predictor, POSES_ONLY)
    assert [(line.case_id, line.code) for line in done.left_out] == [("\\udcff", "bad_case_id")]
    assert (tmp_path / "out" / "json" / f"{CASE}.json").is_file()


def test_folders_whose_names_are_no_text_are_read_and_written(
    predictor: Predictor, store: Path, tmp_path: Path
) -> None:
    odd, out = tmp_path / os.fsdecode(b"in \xff"), tmp_path / os.fsdecode(b"out \xfe")
    shutil.copytree(store, odd)
    (odd / "stl" / CASE / "31.stl").unlink()
    done = predict_cases(odd, odd / "stl", out, predictor, OutputOptions())
    assert all(file.is_file() and file.is_relative_to(out) for file in done.files[0])
    with open(out / "left_out.csv", encoding="utf-8", newline="") as table:
        (row,) = csv.DictReader(table)
    assert row["file"] == f"{tmp_path}/in \\udcff/stl/{CASE}/31.stl"
    for file in (*out.glob("json/*"), *out.glob("report/*")):
        file.read_text(encoding="utf-8")


def test_a_pipe_in_place_of_a_case_is_refused_and_not_waited_for(
    predictor: Predictor, store: Path, tmp_path: Path
) -> None:
    os.mkfifo(store / "json" / "own-003.json")
    done = predict_cases(store, store / "stl", tmp_path / "out", predictor, POSES_ONLY)
    assert [(line.case_id, line.code) for line in done.left_out] == [("own-003", "no_file")]


@pytest.mark.parametrize(("part", "bias"), [("encoder", "first.linear.bias"), ("decoder", "layers.0.bias")])
def test_models_of_two_trainings_are_refused(
    finished_project: Project, tmp_path: Path, part: str, bias: str
) -> None:
    models = tmp_path / "models"
    shutil.copytree(finished_project.root / "models", models)
    import torch

    content = torch.load(models / f"{part}.pt", weights_only=True)
    content["state_dict"][bias] += 1
    content.pop("sha256", None)
    torch.save(content, models / f"{part}.pt")
    with pytest.raises(DentalignError, match=f"trained with the {part} .* take the three files"):
        Predictor(models, device="cpu")


def test_a_tooth_far_from_its_arch_is_listed_and_stays_where_it_is(predictor: Predictor, store: Path) -> None:
    spelt(store, "ToothTransforms")
    content = t1_only(store)
    content["Staging"][0]["ToothTransforms"]["12"]["translation"]["z"] += 150
    rewrite(store, content)
    prediction = predict(predictor, store)
    assert [(line.tooth, line.code) for line in prediction.case.left_out] == [("12", "tooth_far_off")]
    assert np.allclose(as_predicted(prediction)[12], stage_poses(
        case_document.read(store / "json" / f"{CASE}.json", CASE), require_t2=False
    ).t1[12])  # fmt: skip


def test_a_mouth_in_metres_is_refused_with_the_reason(predictor: Predictor, store: Path) -> None:
    content = t1_only(store)
    for stage in content["Staging"]:
        for spelling in SPELLINGS:
            for pose in stage.get(spelling, {}).values():
                pose["translation"] = {axis: value / 1000 for axis, value in pose["translation"].items()}
    for key in ("mandibularRelativeTransform", "maxillaRelativeTransform"):
        content[key] = {}
    for stage in content["Staging"]:
        stage.pop("MandibularTransform", None)
        stage.pop("MaxillaryTransform", None)
    rewrite(store, content)
    with pytest.raises(CaseDefect):
        predict(predictor, store)


def test_nothing_personal_of_the_input_is_in_any_file(
    predictor: Predictor, store: Path, tmp_path: Path
) -> None:
    content = document(store) | {
        "PatientName": "Zebulon^Quux",
        "Note": "call 0171-555",
        "Nested": {"a": "Quux"},
    }
    content["Staging"][0]["Comment"] = "Zebulon"
    rewrite(store, content)
    prediction_files.write(tmp_path / "out", predict(predictor, store), OutputOptions(True, "glb"))
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert not [word for word in (b"Zebulon", b"Quux", b"0171-555") if word in data], file


@pytest.mark.parametrize("kind", ["stl", "glb"])
def test_the_crowns_are_written_where_each_stage_has_them(
    predictor: Predictor, store: Path, tmp_path: Path, kind: Any
) -> None:
    import trimesh

    t1_only(store)
    prediction = predict(predictor, store, extract=[42])
    prediction_files.write(tmp_path / "out", prediction, OutputOptions(moved=kind, looks=False))
    moved = tmp_path / "out" / "moved" / CASE
    last = moved / ("stage-001" if kind == "stl" else "stage-001.glb")
    slot = slot_of(11)
    wanted = rigid.apply(prediction.pose[slot], prediction.case.crowns[slot]).reshape(-1, 3)
    if kind == "stl":
        assert sorted(file.stem for file in last.iterdir()) == [str(fdi) for fdi in FDIS if fdi != 42]
        found = stl.read_triangles((last / "11.stl").read_bytes(), file="", tooth=11).reshape(-1, 3)
    else:
        scene = trimesh.load_scene(last)
        assert sorted(scene.geometry) == [str(fdi) for fdi in FDIS if fdi != 42]
        found = np.asarray(scene.geometry["11"].vertices)
    assert np.allclose(found.min(0), wanted.min(0), atol=1e-3)
    assert np.allclose(found.max(0), wanted.max(0), atol=1e-3)


def test_a_bad_case_of_a_folder_is_listed_and_the_good_one_is_predicted(
    predictor: Predictor, store: Path, tmp_path: Path
) -> None:
    (store / "json" / "own-999.json").write_text("{", encoding="utf-8")
    done = predict_cases(store, store / "stl", tmp_path / "out", predictor, POSES_ONLY)
    assert (len(done.files), done.refused) == (1, 1)
    with open(tmp_path / "out" / "left_out.csv", encoding="utf-8", newline="") as file:
        assert [(row["case_id"], row["code"]) for row in csv.DictReader(file)] == [("own-999", "not_json")]
    assert (tmp_path / "out" / "json" / f"{CASE}.json").is_file()


def test_file_names_in_capitals_change_nothing(predictor: Predictor, store: Path, tmp_path: Path) -> None:
    usual = predict(predictor, store)
    (store / "json" / f"{CASE}.json").rename(store / "json" / f"{CASE}.JSON")
    for mesh in list((store / "stl" / CASE).iterdir()):
        mesh.rename(mesh.with_suffix(".STL"))
    for meshes in (store / "stl", store / "stl" / CASE):  # a folder per case, and a flat one
        done = predict_cases(store, meshes, tmp_path / meshes.name, predictor, POSES_ONLY)
        assert (len(done.files), done.left_out) == (1, ())
    assert np.array_equal(predictor.predict(store / "json" / f"{CASE}.JSON", meshes).pose, usual.pose)


def test_predicting_twice_writes_the_same_bytes(predictor: Predictor, store: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        prediction_files.write(tmp_path / name, predict(predictor, store), OutputOptions(True, "stl"))
    files = sorted(file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*") if file.is_file())
    assert len(files) > 10
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_the_command_predicts_says_what_it_wrote_and_ends_with_3_where_nothing_can_be(
    finished_project: Project, store: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "dentalign.cli", "predict", "--case", str(store / "json" / f"{CASE}.json")]
    words += ["--meshes", str(store / "stl"), "--out", str(tmp_path / "out"), "--extract", "12", "--stages"]
    done = finished_project.run(*words)
    assert "predict: 1 cases, 0 refused" in done.stdout
    named = {"json": "json", "movement": "csv", "staging": "csv", "picture": "png", "report": "html"}
    for name in (f"{folder}/{CASE}.{ending}" for folder, ending in named.items()):
        assert (tmp_path / "out" / name).stat().st_size > 0
        assert str(tmp_path / "out" / name) in done.stdout
    (store / "json" / f"{CASE}.json").write_text("no", encoding="utf-8")
    done = finished_project.run(*words, check=False)
    assert done.returncode == 3
    models, cause = done.stdout.splitlines()
    assert models.startswith("predict: models: ")
    assert f"case {CASE}: not JSON" in cause


def test_the_bound_of_each_error_stands_in_table_and_report(
    predictor: Predictor, store: Path, tmp_path: Path
) -> None:
    bounded = replace(predict(predictor, store), add_mm_90=np.full(32, 1.25))
    prediction_files.write(tmp_path / "out", bounded, OutputOptions())
    with open(tmp_path / "out" / "movement" / f"{CASE}.csv", newline="", encoding="utf-8") as file:
        assert {row["add_mm_90"] for row in csv.DictReader(file)} == {"1.2500"}
    assert "90 % are below" in (tmp_path / "out" / "report" / f"{CASE}.html").read_text(encoding="utf-8")


def test_proposals_are_written_in_folders_of_their_own_and_shown_in_the_first_report(
    predictor: Predictor, store: Path, tmp_path: Path
) -> None:
    first = predict(predictor, store)
    moved = first.pose.copy()
    moved[first.mask, 1, 3] += 1.0
    second = replace(first, pose=moved)
    out = tmp_path / "out"
    prediction_files.write(out, first, OutputOptions(), None, [second])
    for folder in (out, out / "proposals" / "2"):
        assert (folder / "json" / f"{CASE}.json").is_file()
        assert (folder / "movement" / f"{CASE}.csv").is_file()
    html = (out / "report" / f"{CASE}.html").read_text(encoding="utf-8")
    assert "Proposal 2 differs by 1.0 mm on average" in html
    assert "upper arch 1.0 mm further back" in html
    prediction_files.remove(out, CASE)
    assert not list(out.rglob(f"{CASE}.*"))


def test_clinical_measures_of_a_prediction_at_all_three_times_and_without_a_model(
    predictor: Predictor, store: Path, tmp_path: Path
) -> None:
    prediction = predict(predictor, store)
    prediction_files.write(tmp_path / "out", prediction, OutputOptions())
    predicted = json.loads((tmp_path / "out" / "clinical" / f"{CASE}.json").read_text(encoding="utf-8"))
    assert list(predicted) == ["format_version", "t1", "predicted", "plan"]
    assert 'data-marks="[[' in (tmp_path / "out" / "report" / f"{CASE}.html").read_text(encoding="utf-8")
    words = [
        str(store / "json" / f"{CASE}.json"),
        "--meshes",
        str(store / "stl"),
        "--out",
        str(tmp_path / "m"),
    ]
    done = CliRunner().invoke(cli.app, ["measure", *words])
    assert done.exit_code == 0
    assert done.stdout.startswith("measure,t1,predicted,plan,")
    measured = json.loads((tmp_path / "m" / f"{CASE}.json").read_text(encoding="utf-8"))
    assert (measured["t1"], measured["plan"]) == (predicted["t1"], predicted["plan"])
    assert measured["t1"]["measures"]["tip_deg"].keys() == {str(fdi) for fdi in FDIS}
    prediction_files.remove(tmp_path / "out", CASE)
    assert not list((tmp_path / "out" / "clinical").iterdir())


def test_apexes_and_widths_of_the_export_are_used_if_they_are_asked_for(
    finished_project: Project, predictor: Predictor, store: Path, tmp_path: Path
) -> None:
    apex = {"MRAPoint": {"x": 0, "y": 0, "z": -15}}
    ends = {
        "toothBoltonStartPoint": {"x": 4, "y": 0, "z": 0},
        "toothBoltonEndPoint": {"x": -4, "y": 0, "z": 0},
    }
    content = document(store)
    content["Staging"][0]["Landmarks"] = {str(fdi): apex for fdi in FDIS}
    content["Bolton"] = {str(fdi): ends for fdi in FDIS}
    rewrite(store, content)
    plain = prediction_files.write(tmp_path / "plain", predict(predictor, store), POSES_ONLY)
    asking = Predictor(
        finished_project.root / "models", device="cpu", sample=Sample(points=32, oversampling=2),
        fetch=Fetch(keep=["bolton", "root_apex"]), look=Thresholds(apex_mm=1e-6),
    )  # fmt: skip
    prediction = predict(asking, store)
    kept = prediction_files.write(tmp_path / "kept", prediction, POSES_ONLY)
    rows = list(csv.DictReader(kept[1].read_text(encoding="utf-8").splitlines()))
    assert "apex_mm" not in plain[1].read_text(encoding="utf-8")
    for row in rows:
        slot = int(np.flatnonzero(prediction.case.mouth.fdi == int(row["fdi"]))[0])
        before, after = (
            rigid.apply(pose, np.array([[0.0, 0.0, -15.0]]))[0]
            for pose in (prediction.case.mouth.pose[0, slot], prediction.pose[slot])
        )
        assert float(row["apex_mm"]) == pytest.approx(np.linalg.norm(after - before), abs=1e-3)
    moved = {row["fdi"] for row in rows if float(row["apex_mm"]) > 1e-6}
    assert moved
    assert moved == {look.tooth for look in prediction.to_look_at if look.code == "apex_travel"}
    assert any(note.startswith("To be looked at, with a root apex that travels") for note in prediction.notes)
    written = json.loads(kept[0].read_text(encoding="utf-8"))
    assert written["Staging"][0]["Landmarks"] == {str(fdi): apex for fdi in sorted(FDIS)}
    assert not any("Landmarks" in stage for stage in written["Staging"][1:])
    for text in ("Landmarks", "Bolton"):
        assert text not in plain[0].read_text(encoding="utf-8")
    found = json.loads((tmp_path / "kept" / "clinical" / f"{CASE}.json").read_text(encoding="utf-8"))
    assert set(found["t1"]["measures"]["tooth_width_exported_mm"].values()) == {8.0}
    assert "tooth_width_exported_mm" in (tmp_path / "kept" / "clinical" / f"{CASE}.csv").read_text()


@pytest.mark.parametrize(
    "words", [["--extract", "1x"], ["--moved", "obj"], ["--device", "tpu"], ["--params", "typo.yaml"]]
)
def test_wrong_usage_of_the_command_ends_with_2(tmp_path: Path, words: list[str]) -> None:
    given = ["predict", "--case", "a.json", "--meshes", "b", "--out", str(tmp_path), *words]
    done = CliRunner().invoke(cli.app, given)
    assert 2 in (done.exit_code, getattr(done.exception, "exit_code", None))


def test_three_lines_of_python_do_the_same(finished_project: Project, store: Path) -> None:
    predictor = dentalign.Predictor(finished_project.root / "models", device="cpu")
    prediction = predictor.predict(store / "json" / f"{CASE}.json", store / "stl")
    assert prediction.pose.shape == (32, 4, 4)
