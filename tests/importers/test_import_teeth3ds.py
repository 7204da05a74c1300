"""Teeth3DS+: shapes for the tooth autoencoder, in no list that alignment would learn from by mistake."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dentalign import check
from dentalign.cases import case_list, rigid_transforms
from dentalign.cases.crowns import Sampler
from dentalign.cases.manifests import path_of
from dentalign.cases.settings import Fetch, Limits, Sample, Source
from dentalign.cases.sources.meshes import MeshStore
from dentalign.dataset import clouds
from dentalign.dataset.autoencoder_cases import extract
from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import NothingUsable
from dentalign.importers.import_run import ImportResult, import_cases
from dentalign.importers.teeth3ds import Teeth3DS
from dentalign.teeth import antimere, is_upper
from tests.support.public_sets import GUM_AT, Made, difference, elsewhere, mouth, teeth3ds

PRIMARY = 22  # the demo clinic's patient with a retained primary molar
SHAPES = Limits(min_movement_mm=0.0)
PATIENTS = {"AB0000XY": 1, "AB0009XY": PRIMARY}  # of the train split, and of another


def run(source: Path, dest: Path) -> ImportResult:
    return import_cases(Teeth3DS(), source, dest)


@pytest.fixture(scope="module")
def mouths() -> dict[int, Made]:
    return {number: mouth(number, elsewhere(number)) for number in PATIENTS.values()}


@pytest.fixture(scope="module")
def download(mouths: dict[int, Made], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("teeth3ds") / "download"
    for part, (patient, number) in enumerate(PATIENTS.items(), 1):
        for jaw in ("upper", "lower"):
            teeth3ds(root / f"data_part_{part}" / jaw, patient, mouths[number], jaw)
    return root


@pytest.fixture(scope="module")
def store(download: Path) -> Path:
    imported = run(download, download.parent / "shapes")
    assert imported.cases_new == 4 and not imported.lines
    return download.parent / "shapes"


@pytest.mark.parametrize("patient", PATIENTS)
@pytest.mark.parametrize("jaw", ["upper", "lower"])
def test_the_crowns_of_a_jaw_are_cut_and_stand_where_they_stood(
    store: Path, mouths: dict[int, Made], patient: str, jaw: str
) -> None:
    made = mouths[PATIENTS[patient]]
    own = {fdi: at for fdi, at in made.t1.items() if is_upper(fdi) == (jaw == "upper")}
    still = Made(own, own, made.faces, made.height)
    found = difference(store, f"teeth3ds-{patient}-{jaw}", still, gum_at=GUM_AT)
    assert found.t1_teeth == found.t2_teeth == own.keys()  # T2 is T1, and a primary tooth keeps its number
    assert found.t1_mm < 1e-3 and found.t2_mm < 1e-3


def test_both_jaws_of_a_patient_share_a_split(store: Path) -> None:
    cases, _ = case_list.read(store / "shapes.csv")
    assert {case.case_id: case.patient_id for case in cases} == {
        f"teeth3ds-{patient}-{jaw}": f"teeth3ds-{patient}"
        for patient in PATIENTS
        for jaw in ("upper", "lower")
    }


def test_the_autoencoder_takes_the_shapes_by_their_own_list(store: Path, tmp_path: Path) -> None:
    with check.locate(store) as places:
        assert check.check(places, limits=SHAPES).all_good
        assert {line.code for line in check.check(places).lines} == {"no_movement"}
    cases, _ = case_list.read(store / "shapes.csv")
    case_list.write_splits(tmp_path / "splits.csv", {case.case_id: case.split for case in cases})
    source = Source.model_validate(
        {"cases": str(store / "shapes.csv"), "json": str(store / "json"), "meshes": str(store / "stl")}
    )
    rigid_transforms.make_manifests(
        store / "json", tmp_path / "splits.csv", None, tmp_path / "transforms",
        source=source, fetch=Fetch(), limits=SHAPES, shards=["all"],
    )  # fmt: skip
    sampler = Sampler("+y", Sample(points=16, oversampling=2, workers=1), Limits())
    with MeshStore(source.meshes, Limits()) as meshes:
        clouds.make_clouds(path_of(tmp_path / "transforms", "all"), meshes, tmp_path / "all.h5", sampler)
    listed, _ = case_list.read(store / "autoencoder.csv")
    assert {case.patient_id for case in listed} == {f"teeth3ds-{next(iter(PATIENTS))}"}
    assert {case.split for case in listed} == {"train"} < {case.split for case in cases}
    count, absent = extract([tmp_path / "all.h5"], store / "autoencoder.csv", tmp_path / "clouds.h5")
    assert count == len(listed) and not absent
    with MouthStore(tmp_path / "clouds.h5") as shapes:
        before, after = shapes.mouth(0).pose
        np.testing.assert_array_equal(before, after)


def test_no_list_of_cases_lies_there_to_be_taken_for_one_to_align_by(store: Path) -> None:
    assert {file.name for file in store.iterdir()} == {
        ".import", "json", "stl", "shapes.csv", "autoencoder.csv", "left_out.csv", "import.txt"
    }  # fmt: skip


def change(key: str, to: Callable[[Any], Any]) -> Callable[[Path], None]:
    def spoil(place: Path) -> None:
        file = place.with_suffix(".json")
        document = json.loads(file.read_text())
        document[key] = to(document[key])
        file.write_text(json.dumps(document))

    return spoil


def rename(place: Path) -> None:
    change("id_patient", lambda _: place.parent.name)(place)


def cut_scan(place: Path) -> None:
    file = place.with_suffix(".obj")
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if not line.startswith("f ")))


def far_face(place: Path) -> None:
    with place.with_suffix(".obj").open("a") as file:
        file.write("f 999999999 1 2\n")


def binary(place: Path) -> None:
    place.with_suffix(".obj").write_bytes(bytes(range(256)) * 40)


def without(suffix: str) -> Callable[[Path], None]:
    return lambda place: place.with_suffix(suffix).unlink()


def exchanged(labels: list[int]) -> list[int]:
    return [antimere(label) if label else 0 for label in labels]


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no labels": (without(".json"), "missing_file"),
    "no scan": (without(".obj"), "missing_file"),
    "no faces": (cut_scan, "empty_file"),
    "face of no vertex": (far_face, "damaged_mesh"),
    "no OBJ at all": (binary, "empty_file"),
    "labels cut short": (change("labels", lambda labels: labels[:-7]), "damaged_labels"),
    "a label of 10^300": (change("labels", lambda labels: [10**300, *labels[1:]]), "damaged_labels"),
    "labels that are text": (change("labels", lambda labels: ["x"] * len(labels)), "damaged_labels"),
    "an id of another file": (change("id_patient", lambda _: "AB0000XZ"), "case_id_differs"),
    "labels of the other jaw": (
        change("labels", lambda labels: [label + 20 if label else 0 for label in labels]),
        "damaged_labels",
    ),
    "left and right exchanged": (change("labels", exchanged), "sides_exchanged"),
    "labels at random": (
        change("labels", lambda labels: np.random.default_rng(1).permutation(labels).tolist()),
        "too_many_lost",
    ),
}


def test_a_bad_download_is_named_and_not_half_imported(tmp_path: Path, download: Path) -> None:
    patient = next(iter(PATIENTS))
    good = download / "data_part_1" / "upper" / patient / f"{patient}_upper"
    root = tmp_path / "in"
    for number, spoil in enumerate([lambda place: None, *(spoil for spoil, _ in BROKEN.values())]):
        place = root / f"P{number:02d}" / f"P{number:02d}_upper"
        place.parent.mkdir(parents=True)
        for suffix in (".obj", ".json"):
            shutil.copy(good.with_suffix(suffix), place.with_suffix(suffix))
        rename(place)
        spoil(place)
    imported = run(root, tmp_path / "out")
    assert {line.case_id: line.code for line in imported.lines if not line.tooth} == {
        f"teeth3ds-P{number:02d}-upper": code for number, (_, code) in enumerate(BROKEN.values(), 1)
    }
    assert imported.cases_new == 1 and imported.totals.add_up
    assert [file.stem for file in (tmp_path / "out" / "json").iterdir()] == ["teeth3ds-P00-upper"]


def test_a_number_that_two_teeth_have_costs_the_tooth(tmp_path: Path, download: Path) -> None:
    patient = next(iter(PATIENTS))
    shutil.copytree(download / "data_part_1" / "lower" / patient, tmp_path / "in")
    change("labels", lambda labels: [46 if label == 47 else label for label in labels])(
        tmp_path / "in" / f"{patient}_lower"
    )
    imported = run(tmp_path / "in", tmp_path / "out")
    [line] = imported.lines
    assert (line.tooth, line.code) == ("46", "label_twice")
    assert imported.cases_new == 1 and imported.totals.teeth_dropped == 1
    assert not (tmp_path / "out" / "stl" / f"teeth3ds-{patient}-lower" / "46.stl").exists()


@pytest.fixture
def upper(download: Path, tmp_path: Path) -> Path:
    """An upper scan of its own, without the ending of its files."""
    patient = next(iter(PATIENTS))
    shutil.copytree(download / "data_part_1" / "upper" / patient, tmp_path / "in")
    return tmp_path / "in" / f"{patient}_upper"


def without_instances(place: Path) -> None:
    document = json.loads(place.with_suffix(".json").read_text())
    place.with_suffix(".json").write_text(json.dumps({"labels": document["labels"]}))


def with_materials(place: Path) -> None:
    """Parts of the surface in two materials, as some of the scans have it."""
    lines = place.with_suffix(".obj").read_text().splitlines()
    faces = [number for number, line in enumerate(lines) if line.startswith("f ")]
    lines[faces[len(faces) // 2] : faces[len(faces) // 2]] = ["usemtl two", "g part"]
    lines[faces[0] : faces[0]] = ["mtllib none.mtl", "usemtl one"]
    place.with_suffix(".obj").write_text("\n".join(lines))


@pytest.mark.parametrize("alter", [without_instances, with_materials])
def test_what_the_authors_loader_takes_gives_the_same_crowns(
    upper: Path, store: Path, tmp_path: Path, alter: Callable[[Path], None]
) -> None:
    alter(upper)
    imported = run(tmp_path / "in", tmp_path / "out")
    assert imported.cases_new == 1 and not imported.lines
    case = f"teeth3ds-{upper.name.replace('_', '-')}"
    for file in (store / "stl" / case).iterdir():
        assert (tmp_path / "out" / "stl" / case / file.name).read_bytes() == file.read_bytes()


def test_a_molar_cut_off_by_the_edge_of_the_scan_is_left_out(
    upper: Path, tmp_path: Path, mouths: dict[int, Made]
) -> None:
    place = upper.with_suffix(".obj")
    labels = np.array(json.loads(upper.with_suffix(".json").read_text())["labels"])
    lines = place.read_text().splitlines()
    vertices = np.array([line.split()[1:4] for line in lines if line.startswith("v ")], dtype=float)
    last = 17
    along = mouths[PATIENTS[next(iter(PATIENTS))]].t1
    backwards = along[last].mean(0) - along[16].mean(0)
    depth = vertices[labels == last] @ (backwards / np.linalg.norm(backwards))
    beyond = np.flatnonzero(labels == last)[depth > depth.min() + 3.5] + 1
    kept = [line for line in lines if not (line.startswith("f ") and _corners(line) & set(beyond.tolist()))]
    place.write_text("\n".join(kept))
    imported = run(tmp_path / "in", tmp_path / "out")
    [line] = imported.lines
    assert imported.cases_new == 1 and (line.tooth, line.code) == (str(last), "sliver")
    assert not list((tmp_path / "out" / "stl").rglob(f"{last}.stl"))


def _corners(line: str) -> set[int]:
    return {int(word.partition("/")[0]) for word in line.split()[1:]}


def test_a_file_whose_name_is_no_id_is_to_be_renamed(upper: Path, tmp_path: Path) -> None:
    for suffix in (".obj", ".json"):
        upper.with_suffix(suffix).rename(tmp_path / "in" / f"Erika Muster_upper{suffix}")
    with pytest.raises(NothingUsable, match="rename the file; use up to 120"):
        run(tmp_path / "in", tmp_path / "out")
