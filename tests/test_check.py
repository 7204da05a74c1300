"""`dentalign check` on a hostile case store: each defect is named or read right, and the counts add up."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from dentalign import check
from dentalign.cases import case_document, case_list, fetch, rigid_transforms
from dentalign.cases.crowns import Sampler
from dentalign.cases.left_out import LeftOut
from dentalign.cases.manifests import path_of
from dentalign.cases.poses import stage_poses
from dentalign.cases.settings import Fetch, Limits, Sample, Source
from dentalign.cases.sources.meshes import MeshStore
from dentalign.cli import app
from dentalign.dataset import clouds
from dentalign.dataset.concat import account
from dentalign.dataset.mouth_store import MouthStore
from dentalign.demo_clinic.clinic import make_clinic
from dentalign.errors import ParamError
from dentalign.geometry import stl
from dentalign.geometry.rigid import Array
from dentalign.teeth import SLOT_INDEX
from tests.support.realteeth_defects import CODES

MODEL = "demo-0002"  # the good case of which the others here are made: all 28 teeth
SHARDS = ("shard-000", "shard-001")
Motion = Callable[[Array], Array]


def mirror(pose: Array) -> Array:
    return np.diag([-1.0, 1, 1, 1]) @ pose @ np.diag([-1.0, 1, 1, 1])


def upside_down(pose: Array) -> Array:
    return np.diag([-1.0, 1, -1, 1]) @ pose


def in_metres(pose: Array) -> Array:
    return np.concatenate([pose[:, :3], pose[:, 3:] * [[1e-3], [1e-3], [1e-3], [1]]], axis=1)


def other_buccal_axis(pose: Array) -> Array:
    return pose @ np.diag([-1.0, -1, 1, 1])


FRAMES: dict[str, tuple[Motion, str]] = {
    "f-mirror": (mirror, "mirrored"),
    "f-over": (upside_down, "upside_down"),
    "f-metres": (in_metres, "mouth_size"),
    "f-buccal": (other_buccal_axis, "buccal_axis"),
}
# The good store's own: six cases broken on purpose, and one that is listed without a file.
BROKEN = [
    ("", "not_json"),
    ("", "bad_t2_stage"),
    ("16", "zero_quaternion"),
    ("46", "missing_mesh"),
    ("26", "truncated_mesh"),
    ("55", "slot_conflict"),
    ("", "not_found"),
]


def as_json(pose: Array) -> dict[str, Any]:
    quaternion = Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()
    return {
        "translation": dict(zip("xyz", pose[:3, 3].tolist(), strict=True)),
        "rotation": dict(zip("xyzw", quaternion, strict=True)),
    }


class Store:
    """A case store to which cases made of the good one are added."""

    def __init__(self, folder: Path):
        self.folder, self.json, self.stl = folder, folder / "json", folder / "stl"
        poses = stage_poses(case_document.read(self.json / f"{MODEL}.json", MODEL))
        assert poses.t2 is not None
        self.stages = [poses.t1, poses.t2]

    def document(self, case_id: str, motion: Motion = lambda pose: pose) -> dict[str, Any]:
        stages = [
            {"ToothTransforms": {str(fdi): as_json(motion(pose)) for fdi, pose in stage.items()}}
            for stage in self.stages
        ]
        return {"CaseID": case_id, "T2Stage": "1", "Staging": stages}

    def add(self, case_id: str, document: dict[str, Any] | None = None, encoding: str = "utf-8") -> Path:
        text = json.dumps(document or self.document(case_id))
        (self.json / f"{case_id}.json").write_text(text, encoding=encoding)
        shutil.copytree(self.stl / MODEL, self.stl / case_id)
        return self.stl / case_id


def as_triangles(path: Path, change: Callable[[Array], Array]) -> None:
    triangles = change(stl.read_triangles(path.read_bytes(), file="", tooth=0))
    stl.write_binary(path, triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3))


def as_ascii(path: Path) -> None:
    mesh = trimesh.load_mesh(path)
    path.write_text(str(trimesh.exchange.stl.export_stl_ascii(mesh)))


def as_binary_named_solid(path: Path) -> None:
    path.write_bytes(b"solid " + path.read_bytes()[6:])


def saved_as(path: Path, name: str, **options: Any) -> None:
    data = trimesh.load_mesh(path).export(file_type=name.lower()[-3:], **options)
    path.with_name(name).write_bytes(data if isinstance(data, bytes) else str(data).encode())
    path.unlink()


# What is repaired while it is read: tooth -> how its mesh is odd. None of it may change where the points lie.
ODD_MESHES: dict[int, Callable[[Path], None]] = {
    11: as_ascii,
    12: lambda path: as_triangles(path, lambda t: t[:, ::-1]),  # winding
    13: lambda path: as_triangles(path, lambda t: np.concatenate([t, t[: len(t) // 3]])),  # faces twice
    14: lambda path: as_triangles(path, lambda t: np.concatenate([t, t])),  # the shell twice
    15: lambda path: as_triangles(path, lambda t: np.delete(t, slice(0, len(t) // 50), axis=0)),  # a hole
    16: lambda path: as_triangles(path, lambda t: np.concatenate([t, t[:9, :1].repeat(3, 1)])),  # no area
    17: as_binary_named_solid,
    21: lambda path: saved_as(path, "21.ply"),
    22: lambda path: saved_as(path, "22.PLY", encoding="ascii"),
    23: lambda path: saved_as(path, "23.Obj"),
    24: lambda path: saved_as(path, "24.STL"),
}


def add_odd_but_good(store: Store) -> None:
    document = store.document("g-odd")
    for stage in document["Staging"]:
        for pose in stage["ToothTransforms"].values():
            pose["rotation"] = {axis: 1.7 * value for axis, value in pose["rotation"].items()}
            pose["translation"] = {axis: str(value) for axis, value in pose["translation"].items()}
    folder = store.add("g-odd", document, encoding="utf-8-sig")
    for fdi, change in ODD_MESHES.items():
        change(folder / f"{fdi}.stl")


def add_defects(store: Store) -> dict[str, list[tuple[str, str]]]:
    """Hostile cases; returns what is expected of each."""
    expected: dict[str, list[tuple[str, str]]] = {}
    for case_id, (motion, code) in FRAMES.items():
        store.add(case_id, store.document(case_id, motion))
        expected[case_id] = [("", code)]

    document = store.document("t-far")
    document["Staging"][1]["ToothTransforms"]["36"]["translation"]["x"] += 500.0
    folder = store.add("t-far", document)
    (folder / "11.stl").write_bytes(b"")
    as_triangles(folder / "12.stl", lambda t: t * [1.0, 0, 0])
    as_triangles(folder / "13.stl", lambda t: t * 1e-3)
    expected["t-far"] = [
        ("11", "empty_mesh"),
        ("12", "mesh_without_area"),
        ("13", "mesh_size"),
        ("36", "tooth_far_off"),
    ]

    document = store.document("t-numbers")
    for stage in document["Staging"]:
        stage["ToothTransforms"]["99"] = stage["ToothTransforms"]["17"]
        stage["ToothTransforms"]["sup-1"] = stage["ToothTransforms"]["17"]
    del document["Staging"][0]["ToothTransforms"]["27"]
    store.add("t-numbers", document)
    expected["t-numbers"] = [("27", "t2_only"), ("99", "unknown_tooth"), ("?", "unknown_tooth_key")]

    folder = store.add("c-many")
    for fdi in (11, 12, 13, 21, 22):
        (folder / f"{fdi}.stl").unlink()
    expected["c-many"] = [("", "too_many_dropped"), *((str(f), "missing_mesh") for f in (11, 12, 13, 21, 22))]

    store.add("c-copy", store.document(MODEL))
    expected["c-copy"] = [("", "case_id_differs")]
    return expected


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[tuple[str, str]]]]:
    folder = tmp_path_factory.mktemp("check") / "store"
    make_clinic(folder, cases=2, seed=3)
    store = Store(folder)
    add_odd_but_good(store)
    expected = add_defects(store)
    expected |= {f"demo-{number:04d}": [reason] for number, reason in enumerate(BROKEN, 3)}
    listed = (folder / "cases.csv").read_text()
    added = sorted({path.stem for path in store.json.iterdir()} - {row[:9] for row in listed.splitlines()})
    rows = [*(f"{case_id},pt-{case_id}" for case_id in added), "../../etc/passwd,", f"{MODEL.upper()},"]
    (folder / "cases.csv").write_text(listed + "\n".join([*rows, ""]))
    return folder, expected


@pytest.fixture(scope="module")
def checked(hostile: tuple[Path, Any]) -> check.CheckResult:
    with check.locate(hostile[0] / "cases.csv") as places:
        return check.check(places)


def reasons(lines: list[LeftOut]) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        found.setdefault(line.case_id, []).append((line.tooth, line.code))
    return found


def test_every_defect_is_named_and_nothing_else_is(
    checked: check.CheckResult, hostile: tuple[Path, Any]
) -> None:
    found = reasons(checked.lines)
    rows = {case_id: found.pop(case_id) for case_id in list(found) if case_id.startswith("line ")}
    assert found == hostile[1]
    assert sorted(code for row in rows.values() for _, code in row) == ["bad_case_id", "duplicate_case_id"]
    assert all(line.seen and line.fix and line.file for line in checked.lines)


def test_the_counts_add_up_on_a_hostile_store(checked: check.CheckResult, hostile: tuple[Path, Any]) -> None:
    totals = checked.totals
    rows = (hostile[0] / "cases.csv").read_text().splitlines()[1:]
    assert totals.cases_listed == len(rows)
    assert totals.cases_used == 9  # the two good ones, the odd one, four of the broken, t-far, t-numbers
    assert totals.add_up
    assert totals.teeth_dropped == 4 + 4 + 1


def test_the_pipeline_leaves_out_what_check_said(
    checked: check.CheckResult, hostile: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    limits, settings, folder = Limits(), Fetch(max_failed_share=0.5), hostile[0]
    fetch.fetch_cases(
        folder / "cases.csv",
        str(folder / "json"),
        out=tmp_path / "json",
        cases_out=tmp_path / "cases.csv",
        left_out=tmp_path / "left_out.json",
        fetch=settings,
        limits=limits,
    )
    source = {"cases": "", "json": "", "meshes": str(folder / "stl")}
    rigid_transforms.make_manifests(
        tmp_path / "json",
        tmp_path / "cases.csv",
        tmp_path / "left_out.json",
        tmp_path / "transforms",
        source=Source.model_validate(source),
        fetch=settings,
        limits=limits,
        shards=SHARDS,
    )
    sampler = Sampler("+y", Sample(points=64, workers=1), limits)
    files = [tmp_path / f"{shard}.h5" for shard in SHARDS]
    with MeshStore(source["meshes"], limits) as meshes:
        for shard, file in zip(SHARDS, files, strict=True):
            clouds.make_clouds(path_of(tmp_path / "transforms", shard), meshes, file, sampler)
    totals, lines = account(files, SHARDS)
    assert totals == checked.totals
    assert reasons(lines) == reasons(checked.lines)

    found = {}
    for file in files:
        with MouthStore(file) as store:
            for index, case_id in enumerate(store.case_ids):
                found[case_id] = store.mouth(index)
    np.testing.assert_allclose(found["g-odd"].pose, found[MODEL].pose, atol=1e-9)
    for fdi in ODD_MESHES:
        odd, right = (found[case_id].points[SLOT_INDEX[fdi]] for case_id in ("g-odd", MODEL))
        spacing = cKDTree(right).query(right, 2)[0][:, 1].mean()
        assert cKDTree(right).query(odd)[0].max() < 2 * spacing, fdi
        assert cKDTree(odd).query(right)[0].max() < 2 * spacing, fdi


def test_check_prints_a_table_that_a_program_can_read_and_ends_with_1(
    hostile: tuple[Path, Any], checked: check.CheckResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(hostile[0].rglob("*"))
    result = CliRunner().invoke(app, ["check", str(hostile[0] / "cases.csv"), "--out", "out.csv"])
    assert result.exit_code == 1
    table = [line.split("\t") for line in result.stdout.splitlines()]
    assert tuple(table[0]) == check.COLUMNS
    assert len(table) == len(checked.lines) + 1 and {len(row) for row in table} == {len(check.COLUMNS)}
    assert str(checked.totals) in result.stderr
    rows = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
    assert [row["code"] for row in rows] == [line.code for line in checked.lines]
    assert "dentalign-check-" not in Path("out.csv").read_text().replace(str(tmp_path), "")
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    assert sorted(hostile[0].rglob("*")) == before


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of one good case."""
    monkeypatch.chdir(tmp_path)
    make_clinic(tmp_path / "store", cases=1, seed=3)
    for path in (tmp_path / "store" / "json").iterdir():
        if path.stem != "demo-0001":
            path.unlink()
    return tmp_path / "store"


def run(*words: object) -> Any:
    return CliRunner().invoke(app, ["check", *map(str, words)])


def test_check_of_a_good_store_prints_no_table_and_ends_with_0(good: Path) -> None:
    result = run(good)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "1 cases listed = 1 used + 0 excluded" in result.stderr


def test_extensions_in_capitals_are_found_by_list_and_check(good: Path) -> None:
    (good / "json" / "demo-0001.json").rename(good / "json" / "demo-0001.JSON")
    for mesh in list((good / "stl" / "demo-0001").iterdir()):
        mesh.rename(mesh.with_suffix(".STL"))
    result = run(good)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "1 cases listed = 1 used + 0 excluded" in result.stderr
    listed = CliRunner().invoke(app, ["list", str(good), "--out", "cases.csv"])
    assert (listed.exit_code, Path("cases.csv").read_text()) == (0, "case_id\ndemo-0001\n")


def test_of_a_case_document_in_two_letter_cases_one_is_used(good: Path) -> None:
    (good / "json" / "demo-0001.JSON").write_text("{")
    result = run(good)
    assert result.exit_code == 1
    assert "duplicate_case_id" in result.stdout
    assert "2 cases listed = 1 used + 1 excluded" in result.stderr


def test_check_says_so_where_no_case_is_usable(good: Path) -> None:
    (good / "json" / "demo-0001.json").write_text("{")
    result = run(good)
    assert isinstance(result.exception, Exception)
    assert getattr(result.exception, "exit_code", None) == 3
    assert "not_json" in result.stdout


def test_a_file_that_cannot_be_a_case_is_reported_and_counted(good: Path) -> None:
    (good / "json" / "notes.txt").write_text("x")
    result = run(good)
    assert result.exit_code == 1
    assert "not_a_case" in result.stdout
    assert "2 cases listed = 1 used + 1 excluded" in result.stderr


def test_limits_and_the_buccal_axis_come_from_params(good: Path) -> None:
    assert "buccal_axis" in run(good, "--buccal-axis=-y").stdout
    Path("params.yaml").write_text(
        'source: {cases: c, json: j, meshes: m, buccal_axis: "-y"}\nfetch: {}\nlimits: {max_crown_mm: 3.0}\n'
    )
    result = run(good, "--buccal-axis=+y")
    assert result.exception is not None and "too_many_dropped" in result.stdout
    assert "\tbuccal_axis\t" in run(good).stdout


def test_a_place_without_cases_or_meshes_is_wrong_usage(good: Path) -> None:
    assert run("nowhere").exit_code == 2
    shutil.move(good / "stl", good / "elsewhere")
    assert "--meshes" in str(run(good).exception)
    assert run(good, "--meshes", good / "elsewhere").exit_code == 0
    with pytest.raises(ParamError), check.locate(good / "elsewhere"):
        pass


def test_realteeth_defects_are_named_or_read_right(realteeth: Path) -> None:
    with check.locate(realteeth) as places:
        result = check.check(places)
    found = reasons(result.lines)
    for defect in json.loads((realteeth / "defects.json").read_text(encoding="utf-8")):
        case_id, name = defect["case_id"], defect["defect"]
        if name == "duplicate_case_id":  # of two files with one id, the one of that name stands
            case_id, expected = f"{case_id}-copy", [("", "case_id_differs")]
        else:
            expected = [] if defect["expect"] == "accept" else [CODES[name]]
        assert found.pop(case_id, []) == expected, name
    assert not found  # no good case has a line
    assert result.totals.add_up
    assert result.totals.cases_listed == len(list(realteeth.glob("json/*.json"))) == 31
    assert case_list.find(realteeth)[1] == []


def without_t2(store: Path, case_id: str = "demo-0001") -> Path:
    """Leave nothing but T1 in a case."""
    file = store / "json" / f"{case_id}.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    document["Staging"] = document["Staging"][:1]
    del document["T2Stage"]
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def test_the_split_is_said_and_one_without_a_patient(good: Path) -> None:
    [split] = [case_list.split_of(file.stem) for file in (good / "json").iterdir()]
    text = run(good).stderr
    assert f"1 {split}" in text.partition("split by patient:")[2]
    assert "the pipeline needs a patient in each: add patients" in text


def test_planners_are_counted_by_codes_and_nothing_is_written(good: Path) -> None:
    listed = good / "listed.csv"
    listed.write_text("case_id,planner\ndemo-0001,Quillfeather\nnot-there,Aoi\n", encoding="utf-8")
    done = run(listed)
    assert "check: planners: 1 (planner-02: 1); cases without one: 0" in done.stderr
    assert "Quillfeather" not in done.output
    assert not (good / "listed.planners.csv").exists()


def test_a_case_without_t2_is_usable_for_predict_and_not_for_training(good: Path) -> None:
    file = without_t2(good)
    result = run(good)
    assert result.exit_code == 1
    table = result.stdout.splitlines()
    assert len(table) == 2
    assert (
        "\tno_t2_stage\tT2Stage is missing, or names the first stage: usable for predict, not for training"
        in table[1]
    )
    assert "check: 1 cases usable for predict, not for training" in result.stderr
    for name, value in (("T2Stage", "0"), ("T2Stage", "")):  # T1 itself is no target
        file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))
        assert "no_t2_stage" in run(good).stdout


def test_a_case_without_t2_is_read_with_its_meshes_as_predict_reads_it(good: Path) -> None:
    file = without_t2(good)
    (good / "stl" / "demo-0001" / "11.stl").write_bytes(b"")
    codes = [line.split("\t")[2] for line in run(good).stdout.splitlines()[1:]]
    assert sorted(codes) == ["empty_mesh", "no_t2_stage"]
    shutil.rmtree(good / "stl" / "demo-0001")
    result = run(good)  # not usable for either
    assert getattr(result.exception, "exit_code", None) == 3
    assert "no_t2_stage" not in result.stdout and "too_many_dropped" in result.stdout
    file.write_text(file.read_text().replace('"x": ', '"x": 0.001e'))
    assert "no_t2_stage" not in run(good).stdout
