"""The demo clinic: crowns look and measure like teeth, T2 is a set-up, files are as a user's would be."""

import csv
import hashlib
import importlib.util
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import trimesh
import typer
from scipy.spatial import cKDTree
from typer.testing import CliRunner

from dentalign import teeth
from dentalign.demo_clinic import anatomy, case_files, clinic, crowns, treatment_plan
from dentalign.demo_clinic.crowns import Crown, Variation
from dentalign.errors import DentalignError
from dentalign.geometry import rigid

SEED = 7
ALL_CROWNS = [*teeth.SLOTS, 54, 55, 64, 65, 74, 75, 84, 85]


@pytest.fixture(scope="module")
def cases() -> list[clinic.Case]:
    return [clinic.make_case(index, SEED) for index in range(1, 18)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clinic") / "demo"
    clinic.make_clinic(out, cases=2, seed=SEED)
    return out


def as_mesh(crown: Crown) -> trimesh.Trimesh:
    return trimesh.Trimesh(crown.vertices, crown.faces, process=False)


@pytest.mark.parametrize("fdi", ALL_CROWNS)
def test_every_crown_is_watertight_and_has_a_tooth_s_size(fdi: int) -> None:
    crown = crowns.make(fdi)
    mesh, size = as_mesh(crown), anatomy.size_of(fdi)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
    assert 1000 <= len(crown.faces) <= 3000
    assert mesh.area_faces.min() > 1e-6
    np.testing.assert_allclose(
        np.ptp(crown.vertices, axis=0), [size.width, size.depth, size.height], rtol=1e-9
    )
    np.testing.assert_allclose(mesh.triangles_center.T @ mesh.area_faces / mesh.area, 0, atol=1e-9)
    assert 0.35 < mesh.volume / np.prod([size.width, size.depth, size.height]) < 0.75


@pytest.mark.parametrize("score", [-2.5, 2.5])
def test_unusual_shapes_are_still_closed_surfaces(score: float) -> None:
    for fdi in ALL_CROWNS:
        mesh = as_mesh(crowns.make(fdi, Variation(np.array([0.86, 1.16, 1.1]), np.full(6, score))))
        assert mesh.is_watertight and mesh.volume > 0


@pytest.mark.parametrize("fdi", ALL_CROWNS)
def test_antimeres_are_mirror_images(fdi: int) -> None:
    variation = Variation(np.array([1.05, 0.97, 1.02]), np.array([1.0, -0.5, 0.3, 0.8, -1.2, 0.4]))
    one, other = crowns.make(fdi, variation), crowns.make(teeth.antimere(fdi), variation)
    np.testing.assert_allclose(one.vertices, other.vertices * [-1, 1, 1], atol=1e-12)


def test_antimeres_of_a_patient_are_nearly_alike(cases: list[clinic.Case]) -> None:
    ratios = []
    for case in cases:
        for fdi, crown in case.patient.mouth.items():
            other = case.patient.mouth.get(teeth.antimere(fdi))
            if other is not None:
                ratios.append(np.ptp(crown.vertices, axis=0) / np.ptp(other.vertices, axis=0))
    assert 0.002 < np.std(ratios) < 0.03


@pytest.mark.parametrize("fdi", ALL_CROWNS)
def test_the_tip_is_up_and_the_cervix_is_narrow(fdi: int) -> None:
    v = crowns.make(fdi).vertices
    low = v[v[:, 2] < v[:, 2].min() + 0.12 * np.ptp(v[:, 2])]
    assert np.ptp(low[:, 0]) < 0.95 * np.ptp(v[:, 0])


@pytest.mark.parametrize(
    ("fdi", "cusps"), [(13, 1), (23, 1), (33, 1), (14, 2), (15, 2), (16, 4), (26, 4), (36, 5), (47, 4)]
)
def test_the_number_of_cusps(fdi: int, cusps: int) -> None:
    crown = crowns.make(fdi)
    mesh = as_mesh(crown)
    neighbours = mesh.vertex_neighbors
    tops = [
        k
        for k, ring in enumerate(neighbours)
        if crown.vertices[k, 2] > 0 and all(crown.vertices[k, 2] >= crown.vertices[r, 2] for r in ring)
    ]
    apart: list[np.ndarray] = []
    for k in sorted(tops, key=lambda k: -crown.vertices[k, 2]):
        if all(np.linalg.norm(crown.vertices[k] - other) > 1.6 for other in apart):
            apart.append(crown.vertices[k])
    assert len(apart) == cusps


def test_the_higher_cusps_are_buccal_on_premolars_and_lingual_on_lower_molars() -> None:
    for fdi in (14, 24, 34, 44, 35, 45):
        v = crowns.make(fdi).vertices
        assert v[np.argmax(v[:, 2]), 1] > 0
    for fdi in (36, 46, 37, 47):
        v = crowns.make(fdi).vertices
        assert v[np.argmax(v[:, 2]), 1] < 0


def test_crowns_stand_upright_and_face_outwards_on_both_arches(cases: list[clinic.Case]) -> None:
    for case in cases:
        for poses in (case.t1, case.t2):
            middle = np.mean([poses[f][:3, 3] for f in poses], axis=0)
            for fdi, pose in poses.items():
                assert pose[2, 2] * (-1 if teeth.is_upper(fdi) else 1) > 0.5
                outward = pose[:2, 3] - middle[:2]
                assert pose[:2, 1] @ outward > 0
                assert np.sign(pose[0, 3] - middle[0]) == treatment_plan.side(fdi)
                mesial = -1 if anatomy.is_mirrored(fdi) else 1
                if treatment_plan.slot_position(fdi) >= 4:
                    assert pose[1, 0] * mesial < 0  # the mesial side is in front


def surface(crown: Crown, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dense points of a crown and their outward normals, in the head frame."""
    points, face = trimesh.sample.sample_surface(as_mesh(crown), 5000, seed=1)
    return rigid.apply(pose, points), as_mesh(crown).face_normals[face] @ pose[:3, :3].T


def penetration_and_gap(
    a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]
) -> tuple[float, float]:
    distance, nearest = cKDTree(b[0]).query(a[0], distance_upper_bound=2.0)
    near = np.isfinite(distance)
    if not near.any():
        return 0.0, 2.0
    step = a[0][near] - b[0][nearest[near]]
    inside = np.einsum("ij,ij->i", step, b[1][nearest[near]]) < 0
    deepest = float(distance[near][inside].max(initial=0.0))
    return deepest, 0.0 if inside.any() else float(distance[near].min())


def test_t2_neighbours_touch_without_interpenetration(cases: list[clinic.Case]) -> None:
    deep, gaps = [], []
    for case in cases[:4]:
        skins = {f: surface(case.patient.mouth[f], pose) for f, pose in case.t2.items()}
        for arch in (teeth.LOWER, teeth.UPPER):
            row = [f for slot in arch for f in case.t2 if teeth.successor(f) == slot]
            measured = [penetration_and_gap(skins[a], skins[b]) for a, b in pairwise(row)]
            deep += [m[0] for m in measured]
            gaps += [m[1] for m in measured]
    assert np.mean(deep) < 0.12 and np.max(deep) < 0.6
    assert np.mean(gaps) < 0.3 and np.quantile(gaps, 0.9) < 0.4


def test_t1_neighbours_do_not_interpenetrate_grossly(cases: list[clinic.Case]) -> None:
    for case in cases[:3]:
        skins = {f: surface(case.patient.mouth[f], pose) for f, pose in case.t1.items()}
        row = [f for slot in teeth.LOWER for f in case.t1 if teeth.successor(f) == slot]
        deep = [penetration_and_gap(skins[a], skins[b])[0] for a, b in pairwise(row)]
        assert np.max(deep) < 0.6


def test_overjet_and_overbite_at_t2_are_in_the_normal_range(cases: list[clinic.Case]) -> None:
    # Norms: overjet 2-3 mm, overbite 2-3 mm; the planner's scatter comes on top.
    for case in cases:
        plan = treatment_plan.arrange({f: case.patient.mouth[f] for f in case.t2})
        head = rigid.fit([plan[f][:3, 3] for f in plan], [case.t2[f][:3, 3] for f in plan])
        edge = {
            f: treatment_plan.incisal_edge(case.patient.mouth[f], rigid.inverse(head) @ case.t2[f])
            for f in (11, 21, 31, 41)
            if f in case.t2
        }
        step = (edge[31] + edge[41] - edge[11] - edge[21]) / 2
        assert 1.8 < step[1] < 3.6
        assert 1.2 < step[2] < 3.0


def test_molars_are_in_class_one_where_the_same_teeth_stand_before_them(cases: list[clinic.Case]) -> None:
    found = 0
    for case in cases:
        if not {14, 15, 24, 25, 34, 35, 44, 45, 16, 26, 36, 46, 12, 22} <= set(case.t2):
            continue
        found += 1
        behind = [case.t2[a][1, 3] - case.t2[b][1, 3] for a, b in ((16, 46), (26, 36))]
        assert abs(np.mean(behind) - treatment_plan.MOLAR_RELATION_MM) < 2.0
    assert found


def test_clinician_noise_is_all_that_t1_does_not_determine(cases: list[clinic.Case]) -> None:
    off, turned = [], []
    for case in cases:
        planned = treatment_plan.plan(case.patient.mouth, case.t1, case.patient.keep)
        for fdi, pose in case.t2.items():
            off.append(np.linalg.norm(pose[:3, 3] - planned[fdi][:3, 3]))
            turned.append(rigid.angle_deg(pose[:3, :3] @ planned[fdi][:3, :3].T))
    assert np.sqrt(np.mean(np.square(off))) == pytest.approx(clinic.NOISE_MM, rel=0.1)
    assert np.sqrt(np.mean(np.square(turned))) == pytest.approx(clinic.NOISE_DEG, rel=0.1)


def test_the_plan_moves_with_the_patient(cases: list[clinic.Case]) -> None:
    case = cases[0]
    motion = rigid.from_rotation(rigid.rotation_matrix([0.05, -0.1, 0.2]), [3.0, -20.0, 8.0])
    plan = treatment_plan.plan(case.patient.mouth, case.t1, case.patient.keep)
    moved = treatment_plan.plan(
        case.patient.mouth, {f: motion @ pose for f, pose in case.t1.items()}, case.patient.keep
    )
    for fdi in plan:
        np.testing.assert_allclose(moved[fdi], motion @ plan[fdi], atol=1e-6)


def test_extracted_teeth_are_in_the_first_stage_only(cases: list[clinic.Case]) -> None:
    found = 0
    for case in cases:
        spelling = next(key for key in case_files.SPELLINGS if key in case.document["Staging"][0])
        first, *later = ({int(f) for f in stage[spelling]} for stage in case.document["Staging"])
        assert first - later[-1] == case.patient.extracted
        assert all(stage == later[-1] for stage in later)
        found += bool(case.patient.extracted)
    assert found


def test_teeth_move_as_much_as_in_treatment_and_mostly_each_in_its_own_way(cases: list[clinic.Case]) -> None:
    moves = [case.t2[f][:3, 3] - case.t1[f][:3, 3] for case in cases for f in case.t2]
    turns = [rigid.angle_deg(case.t2[f][:3, :3] @ case.t1[f][:3, :3].T) for case in cases for f in case.t2]
    assert 1.5 < np.linalg.norm(moves, axis=1).mean() < 2.8
    assert 7 < np.mean(turns) < 13
    assert np.linalg.norm(np.mean(moves, axis=0)) < 0.5


def file_hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_same_seed_writes_the_same_bytes(store: Path, tmp_path: Path) -> None:
    clinic.make_clinic(tmp_path / "again", cases=2, seed=SEED)
    assert file_hashes(tmp_path / "again") == file_hashes(store)


def test_a_case_depends_on_seed_and_number_alone(cases: list[clinic.Case]) -> None:
    assert clinic.make_case(3, SEED + 1).document != cases[2].document
    np.random.seed(0)  # noqa: NPY002 - global state must not matter
    assert clinic.make_case(3, SEED).document == cases[2].document


def test_a_written_case_is_read_back_by_the_contract_s_rules(store: Path, cases: list[clinic.Case]) -> None:
    case = cases[0]
    document = json.loads((store / "json" / "demo-0001.json").read_text(encoding="utf-8"))
    stage = document["Staging"][0]
    spelling = next(key for key in case_files.SPELLINGS if key in stage)
    assert {int(f) for f in stage[spelling]} == set(case.patient.mouth)
    for fdi, pose in case.t1.items():
        jaw = np.eye(4)
        if spelling == case_files.RELATIVE:
            names = (
                ("MaxillaryTransform", "maxillaRelativeTransform")
                if teeth.is_upper(fdi)
                else ("MandibularTransform", "mandibularRelativeTransform")
            )
            jaw = as_pose(stage.get(names[0]) or document[names[1]])
        np.testing.assert_allclose(jaw @ as_pose(stage[spelling][str(fdi)]), pose, atol=1e-4)
        mesh = trimesh.load_mesh(store / "stl" / "demo-0001" / f"{fdi}.stl")
        np.testing.assert_allclose(mesh.extents, np.ptp(case.patient.mouth[fdi].vertices, axis=0), atol=1e-5)


def as_pose(transform: dict[str, dict[str, float]]) -> np.ndarray:
    return rigid.from_quaternion(
        [transform["rotation"][k] for k in "xyzw"], [transform["translation"][k] for k in "xyz"]
    )


def test_all_spellings_and_both_ways_of_counting_stages_occur(cases: list[clinic.Case]) -> None:
    documents = [case.document for case in cases]
    assert {key for d in documents for key in case_files.SPELLINGS if key in d["Staging"][0]} == set(
        case_files.SPELLINGS
    )
    assert {len(d["Staging"]) - int(d["T2Stage"]) for d in documents} == {0, 1}
    assert all(5 <= len(d["Staging"]) <= 25 for d in documents)


def test_one_patient_now_and_then_has_two_cases(cases: list[clinic.Case]) -> None:
    first, second = cases[15], cases[16]
    assert first.patient_id == second.patient_id and first.case_id != second.case_id
    assert not np.allclose(first.t1[11], second.t1[11])


def test_broken_cases_are_broken_in_the_way_they_say(store: Path) -> None:
    with (store / "cases.csv").open(encoding="utf-8") as lines:
        ids = [row["case_id"] for row in csv.DictReader(lines)]
    assert ids == [f"demo-{k:04d}" for k in range(1, 4 + len(case_files.DEFECTS))]
    truncated, out_of_range, zero, no_mesh, short_mesh, two_in_slot, nothing = ids[2:]
    text = {k: (store / "json" / f"{k}.json").read_text(encoding="utf-8") for k in ids[:-1]}
    with pytest.raises(json.JSONDecodeError):
        json.loads(text[truncated])
    document = json.loads(text[out_of_range])
    assert int(document["T2Stage"]) > len(document["Staging"])
    stage = json.loads(text[zero])["Staging"][0]
    poses = next(stage[key] for key in case_files.SPELLINGS if key in stage)
    assert set(poses["16"]["rotation"].values()) == {0.0}
    assert not (store / "stl" / no_mesh / "46.stl").exists()
    mesh = (store / "stl" / short_mesh / "26.stl").read_bytes()
    assert len(mesh) < 84 + 50 * int.from_bytes(mesh[80:84], "little")
    stage = json.loads(text[two_in_slot])["Staging"][-1]
    assert {"15", "55"} <= set(next(stage[key] for key in case_files.SPELLINGS if key in stage))
    assert not (store / "json" / f"{nothing}.json").exists()


def test_a_folder_that_is_no_clinic_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(DentalignError, match=r"is not a demo clinic"):
        clinic.make_clinic(tmp_path, cases=1, seed=SEED)
    assert (tmp_path / "thesis.txt").exists()


def test_the_stage_writes_the_clinic_and_says_one_line(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "stages" / "demo_clinic.py"
    spec = importlib.util.spec_from_file_location("stage_demo_clinic", path)
    assert spec is not None and spec.loader is not None
    stage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stage)
    earlier = tmp_path / "demo" / "cases.csv"
    earlier.parent.mkdir()
    earlier.write_text("an earlier clinic", encoding="utf-8")
    app = typer.Typer()
    app.command()(stage.main)
    params_file = tmp_path / "params.yaml"
    params_file.write_text("demo_clinic: {cases: 1, seed: 3}\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["--out", str(tmp_path / "demo"), "--params", str(params_file)])
    assert result.exit_code == 0, result.output
    assert len(result.output.strip().splitlines()) == 1
    assert (tmp_path / "demo" / "json" / "demo-0001.json").exists()
    assert not list(tmp_path.glob(".*"))
