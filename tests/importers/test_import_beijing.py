"""The Beijing pre/post set: crowns cut from labelled scans, each tooth registered, pairs kept by patient."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trimesh import Trimesh

from dentalign import check
from dentalign.cases import case_document, case_list, rigid_transforms
from dentalign.cases.poses import stage_poses
from dentalign.cases.settings import Fetch, Limits, Source
from dentalign.errors import DentalignError, NothingUsable
from dentalign.geometry import rigid
from dentalign.importers.beijing import Beijing
from dentalign.importers.crown_cutting import cut, labels_of_points
from dentalign.importers.import_run import ImportResult, import_cases
from dentalign.importers.source_folder import SourceFolder
from dentalign.teeth import antimere
from tests.support.public_sets import (
    GUM_AT,
    Made,
    Scan,
    beijing,
    beijing_scans,
    difference,
    elsewhere,
    finer,
    mouth,
    moved,
    only,
    scan,
)

EXACT_MM, EXACT_DEG = 1e-3, 0.01
FEW = [10 * quadrant + position for quadrant in (1, 2, 3, 4) for position in (1, 4, 6)]
EXTRACTED = 4  # the demo clinic's patient with premolars extracted
JAWS = ("upper", "lower")


def run(source: Path, dest: Path) -> ImportResult:
    return import_cases(Beijing(), source, dest)


@pytest.fixture(scope="module")
def mouths() -> dict[int, Made]:
    return {number: mouth(number, elsewhere(number)) for number in (1, EXTRACTED)}


@pytest.fixture(scope="module")
def download(mouths: dict[int, Made], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients; the first with two plans for one scan, and once more under another name."""
    root = tmp_path_factory.mktemp("beijing") / "download"
    for number, made in mouths.items():
        beijing(root / f"{number:03d}", made)
    beijing(root / "001", mouths[1], after="final2")
    shutil.copytree(root / "001" / "ori", root / "900" / "ori")
    shutil.copytree(root / "001" / "final", root / "900" / "final")
    return root


@pytest.fixture(scope="module")
def store(download: Path) -> Path:
    assert not run(download, download.parent / "cases").lines
    return download.parent / "cases"


def test_known_motions_come_back_exactly_where_the_vertices_correspond(
    store: Path, mouths: dict[int, Made]
) -> None:
    for case_id, number in (
        ("beijing-001-final", 1),
        ("beijing-001-final2", 1),
        ("beijing-004-final", EXTRACTED),
    ):
        found = difference(store, case_id, mouths[number], gum_at=GUM_AT)
        assert found.t1_mm < EXACT_MM and found.t2_mm < EXACT_MM and found.turn_deg < EXACT_DEG
        assert found.t1_teeth == mouths[number].t1.keys() and found.t2_teeth == mouths[number].t2.keys()


def test_an_extracted_tooth_is_input_and_not_target(store: Path, mouths: dict[int, Made]) -> None:
    made = mouths[EXTRACTED]
    assert made.t1.keys() > made.t2.keys()
    poses = stage_poses(case_document.read(store / "json" / "beijing-004-final.json", "beijing-004-final"))
    assert poses.t2 is not None and poses.t1.keys() - poses.t2.keys() == made.t1.keys() - made.t2.keys()


def test_the_pipeline_takes_what_was_imported(store: Path, tmp_path: Path) -> None:
    with check.locate(store) as places:
        assert check.check(places).all_good
    cases, _ = case_list.read(store / "cases.csv")
    case_list.write_splits(tmp_path / "splits.csv", {case.case_id: case.split for case in cases})
    summary = rigid_transforms.make_manifests(
        store / "json", tmp_path / "splits.csv", None, tmp_path / "transforms",
        source=Source.model_validate(
            {"cases": str(store / "cases.csv"), "json": str(store / "json"), "meshes": str(store / "stl")}
        ),
        fetch=Fetch(), limits=Limits(), shards=["all"],
    )  # fmt: skip
    assert (summary.cases, summary.excluded, summary.dropped_teeth) == (4, 0, 0)


def test_pairs_of_a_patient_share_a_split_even_under_another_folder_with_the_same_scan(store: Path) -> None:
    cases, bad = case_list.read(store / "cases.csv")
    assert not bad
    assert {case.case_id: case.patient_id for case in cases} == {
        "beijing-001-final": "beijing-001",
        "beijing-001-final2": "beijing-001",
        "beijing-004-final": "beijing-004",
        "beijing-900-final": "beijing-001",
    }


def test_the_residual_of_each_tooth_is_kept(store: Path, mouths: dict[int, Made]) -> None:
    rows = list(csv.DictReader((store / "registration.csv").read_text().splitlines()))
    assert {int(row["tooth"]) for row in rows if row["case_id"] == "beijing-900-final"} == mouths[1].t2.keys()
    assert {row["method"] for row in rows} == {"points"} and {row["used"] for row in rows} == {"yes"}
    assert max(float(row["residual_mm"]) for row in rows) < EXACT_MM


def test_another_triangulation_and_gum_line_after_are_registered_by_icp(
    tmp_path: Path, mouths: dict[int, Made]
) -> None:
    made = mouths[1]
    folder = beijing(tmp_path / "in" / "001", made)
    shutil.rmtree(folder / "final")
    after = {jaw: finer(scan(made.t2, made, jaw, gum_at=0.3), seed=4) for jaw in JAWS}
    beijing_scans(folder / "final", after)
    assert run(tmp_path / "in", tmp_path / "out").cases_new == 1
    found = difference(tmp_path / "out", "beijing-001-final", made, gum_at=GUM_AT)
    assert found.t2_mm < 0.03 and found.turn_deg < 0.2
    rows = list(csv.DictReader((tmp_path / "out" / "registration.csv").read_text().splitlines()))
    assert {row["method"] for row in rows} == {"icp"} and max(
        float(row["residual_mm"]) for row in rows
    ) < 0.05


def _worst_mm(rows: list[dict[str, str]]) -> float:
    return max(float(row["residual_mm"]) for row in rows)


def test_scans_after_that_stand_elsewhere_are_brought_back(tmp_path: Path, mouths: dict[int, Made]) -> None:
    place = elsewhere(8, turn_deg=120.0, shift_mm=200.0)
    beijing(tmp_path / "in" / "001", mouths[1], place_after=place)
    assert run(tmp_path / "in", tmp_path / "out").cases_new == 1
    assert "registered on the teeth that moved least" in (tmp_path / "out" / "import.txt").read_text()
    among = difference(tmp_path / "out", "beijing-001-final", mouths[1], gum_at=GUM_AT, refit=True)
    assert among.t2_mm < EXACT_MM  # the teeth among each other, exactly
    whole = difference(tmp_path / "out", "beijing-001-final", mouths[1], gum_at=GUM_AT)
    assert whole.t2_mm < 4.0  # the mouth as a whole, but for what treatment moved all teeth alike


def test_a_crown_of_another_shape_is_dropped_with_its_residual(
    tmp_path: Path, mouths: dict[int, Made]
) -> None:
    made = mouths[1]
    other = dict(made.t2)
    middle = other[16].mean(0)
    other[16] = middle + (other[16] - middle) * [1.3, 0.8, 1.0]
    beijing(tmp_path / "in" / "001", Made(made.t1, other, made.faces, made.height))
    imported = run(tmp_path / "in", tmp_path / "out")
    [line] = imported.lines
    assert (line.tooth, line.code) == ("16", "registration_residual") and "mm (RMS)" in line.seen
    found = difference(tmp_path / "out", "beijing-001-final", made, gum_at=GUM_AT)
    assert found.t1_teeth == made.t1.keys() - {16} and found.t2_mm < EXACT_MM
    assert imported.totals.teeth_listed == len(made.t1) and imported.totals.teeth_dropped == 1
    rows = csv.DictReader((tmp_path / "out" / "registration.csv").read_text().splitlines())
    assert [row["tooth"] for row in rows if row["used"] == "no"] == ["16"]
    again = run(tmp_path / "in", tmp_path / "out")  # goes on, and still says so
    assert again.cases_unchanged == 1 and again.lines == imported.lines


@pytest.mark.parametrize("noise_mm", [0.0, 0.02])
def test_labels_of_a_simplified_scan_still_give_whole_crowns(
    mouths: dict[int, Made], noise_mm: float
) -> None:
    coarse = scan(mouths[1].t1, mouths[1], "upper")
    fine = finer(coarse, seed=6)
    rng = np.random.default_rng(5)
    marked = {
        int(fdi): coarse.vertices[coarse.labels == fdi]
        + rng.normal(0, noise_mm, ((coarse.labels == fdi).sum(), 3))
        for fdi in np.unique(coarse.labels[coarse.labels > 0])
    }
    crowns, lost = cut(
        Trimesh(fine.vertices, fine.faces, process=False), labels_of_points(fine.vertices, marked)
    )
    assert not lost and crowns.keys() == marked.keys()
    for fdi, crown in crowns.items():
        assert 0.9 < len(crown.faces) / (fine.labels[fine.faces] == fdi).all(1).sum() <= 1.0


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5000])


def shift_labels(file: Path) -> None:
    document = json.loads(file.read_text())
    for tooth in document["segmentation"].values():
        tooth["vertices"] = (np.array(tooth["vertices"]) + 30.0).tolist()
    file.write_text(json.dumps(document))


def upper_numbers(file: Path) -> None:
    file.write_text(file.read_text().replace('"36"', '"16"'))


def swap_sides(file: Path) -> None:
    for labels in file.parent.glob("*.json"):
        document = json.loads(labels.read_text())
        teeth = document["segmentation"]
        document["segmentation"] = {str(antimere(int(fdi))): teeth[fdi] for fdi in teeth}
        labels.write_text(json.dumps(document))


def nest(file: Path) -> None:
    file.write_text('{"segmentation": ' + "[" * 100_000)


def copy_beside(file: Path) -> None:
    shutil.copy(file, file.with_name("1_U.stl"))


def link_out(file: Path) -> None:
    file.unlink()
    file.symlink_to("/etc/hostname")


BROKEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "scan cut short": (cut_short, "final/0_U.stl", "damaged_mesh"),
    "scan missing": (Path.unlink, "final/0_L.stl", "missing_file"),
    "scan a link out": (link_out, "ori/0_L.stl", "link_out_of_folder"),
    "labels missing": (Path.unlink, "ori/0_L.json", "missing_file"),
    "labels cut short": (cut_short, "ori/0_U.json", "damaged_json"),
    "labels nested": (nest, "ori/0_U.json", "damaged_json"),
    "labels without teeth": (lambda file: file.write_text("{}"), "final/0_U.json", "damaged_labels"),
    "labels of no points": (
        lambda file: file.write_text('{"segmentation": {"11": {"vertices": [1, [2]]}}}'),
        "final/0_U.json",
        "damaged_labels",
    ),
    "labels of another scan": (shift_labels, "final/0_U.json", "labels_off_scan"),
    "labels of another jaw": (upper_numbers, "ori/0_L.json", "damaged_labels"),
    "left and right exchanged": (swap_sides, "ori/0_U.json", "sides_exchanged"),
    "two upper scans": (copy_beside, "final/0_U.stl", "several_files"),
    "only before": (lambda file: shutil.rmtree(file.parent), "final/0_U.stl", "missing_file"),
}


def test_a_bad_download_is_named_and_not_half_imported(tmp_path: Path, mouths: dict[int, Made]) -> None:
    root = tmp_path / "in"
    beijing(root / "000", only(mouths[1], FEW))
    for number, (spoil, name, _) in enumerate(BROKEN.values(), 1):
        shutil.copytree(root / "000", root / f"{number:03d}")
        spoil(root / f"{number:03d}" / name)
    shutil.copytree(root / "000", root / "Erika Muster")  # no folder's name is ever a path or a person
    imported = run(root, tmp_path / "out")
    named = {line.case_id: line.code for line in imported.lines}
    wanted = {f"beijing-{number:03d}-final": code for number, (_, _, code) in enumerate(BROKEN.values(), 1)}
    assert named == wanted | {f"entry {len(BROKEN) + 2}": "bad_case_id"}
    assert (
        imported.cases_new == 1 and imported.totals.cases_listed == len(BROKEN) + 2 and imported.totals.add_up
    )
    assert [file.stem for file in (tmp_path / "out" / "json").iterdir()] == ["beijing-000-final"]
    assert [folder.name for folder in (tmp_path / "out" / "stl").iterdir()] == ["beijing-000-final"]


def test_a_folder_of_another_level_is_refused_because_patients_would_be_mixed(
    tmp_path: Path, download: Path
) -> None:
    with pytest.raises(DentalignError, match=r"name the folder that holds .*download\?"):
        run(download.parent, tmp_path / "out")
    with pytest.raises(DentalignError, match="it is one patient's"):
        run(download / "001", tmp_path / "out")
    with pytest.raises(NothingUsable, match="unpack the archive"):
        run(download / "001" / "ori", tmp_path / "out")


@pytest.mark.parametrize(
    ("upper", "lower"),
    [
        ("maxillary_U", "x_L"),
        ("patient-UpperJaw", "patient-LowerJaw"),
        ("12U", "12L"),
        ("Lu_upper", "Lu_lower"),
    ],
)
def test_the_jaw_is_read_from_the_file_s_name(
    tmp_path: Path, mouths: dict[int, Made], upper: str, lower: str
) -> None:
    folder = beijing(tmp_path / "in" / "001", mouths[1])
    names = {"0_U": upper, "0_L": lower}
    for file in [*folder.rglob("*.stl"), *folder.rglob("*.json")]:
        file.rename(file.with_name(names[file.stem] + file.suffix))
    (folder / "ori" / "notes.json").write_text("{}")
    source = SourceFolder(tmp_path / "in")
    case = Beijing().read(source, Beijing().find(source)[0])
    assert case.t1.keys() == mouths[1].t1.keys()


def rewrite_labels(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(file.read_text())
    change(document["segmentation"])
    file.write_text(json.dumps(document))


def test_the_set_s_own_names_and_keys_that_are_no_tooth_are_read(
    tmp_path: Path, mouths: dict[int, Made]
) -> None:
    """Labels under the set's own names, some misspelt, some under two; gum beside the teeth in them."""
    few = only(mouths[1], FEW)
    folder = beijing(tmp_path / "in" / "001", few)
    for stage in ("ori", "final"):
        (folder / stage / "0_U.json").rename(folder / stage / "uppper_mark.json")
        (folder / stage / "0_L.json").rename(folder / stage / "lower_mark.json")
        shutil.copy(folder / stage / "lower_mark.json", folder / stage / "lower_pred_landmarks.json")

    def add(teeth: dict[str, Any]) -> None:
        teeth["0"] = teeth["gum"] = {"vertices": [[0.0, 0.0, 0.0]]}

    for file in folder.rglob("*_mark.json"):
        rewrite_labels(file, add)
    imported = run(tmp_path / "in", tmp_path / "out")
    assert imported.cases_new == 1 and not imported.lines
    found = difference(tmp_path / "out", "beijing-001-final", few, gum_at=GUM_AT)
    assert found.t1_teeth == few.t1.keys() and found.t2_mm < EXACT_MM


def test_a_number_that_is_no_tooth_is_listed(tmp_path: Path, mouths: dict[int, Made]) -> None:
    folder = beijing(tmp_path / "in" / "001", only(mouths[1], FEW))

    def misname(teeth: dict[str, Any]) -> None:
        teeth["19"] = teeth.pop("16")

    rewrite_labels(folder / "ori" / "0_U.json", misname)
    rewrite_labels(folder / "final" / "0_U.json", misname)
    imported = run(tmp_path / "in", tmp_path / "out")
    assert imported.cases_new == 1
    assert [(line.tooth, line.code) for line in imported.lines] == [("19", "unknown_tooth")]


def test_third_molars_are_teeth_like_others(tmp_path: Path, mouths: dict[int, Made]) -> None:
    """A third molar behind the second one, before and after: the same motion, another number."""
    made = only(mouths[1], [*FEW, 17, 47])
    third = {}
    for fdi in (17, 47):
        behind = (made.t1[fdi].mean(0) - made.t1[fdi - 1].mean(0)) * 0.9
        third[fdi + 1] = rigid.from_rotation(np.eye(3), behind)
    teeth = Made(
        {**made.t1, **{fdi: rigid.apply(at, made.t1[fdi - 1]) for fdi, at in third.items()}},
        {**made.t2, **{fdi: rigid.apply(at, made.t2[fdi - 1]) for fdi, at in third.items()}},
        {**made.faces, **{fdi: made.faces[fdi - 1] for fdi in third}},
        {**made.height, **{fdi: made.height[fdi - 1] for fdi in third}},
    )
    beijing(tmp_path / "in" / "001", teeth)
    assert not run(tmp_path / "in", tmp_path / "out").lines
    found = difference(tmp_path / "out", "beijing-001-final", teeth, gum_at=GUM_AT)
    assert found.t1_teeth == teeth.t1.keys() >= {18, 48} and found.t2_mm < EXACT_MM


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scans_turned_by_half_a_turn_give_the_same_case(
    tmp_path: Path, mouths: dict[int, Made], axis: int
) -> None:
    """From some case on the set's scans stand the other way round."""
    few = only(mouths[1], FEW)
    half = np.diag([*np.where(np.arange(3) == axis, 1.0, -1.0), 1.0])
    other = Made(moved(few.t1, half), moved(few.t2, half), few.faces, few.height)
    for name, made in (("001", few), ("002", other)):
        beijing(tmp_path / "in" / name, made)
    assert run(tmp_path / "in", tmp_path / "out").cases_new == 2
    first, second = (
        stage_poses(case_document.read(tmp_path / "out" / "json" / f"{case}.json", case))
        for case in ("beijing-001-final", "beijing-002-final")
    )
    assert first.t2 is not None and second.t2 is not None
    for one, two in ((first.t1, second.t1), (first.t2, second.t2)):
        np.testing.assert_allclose([two[fdi] for fdi in one], list(one.values()), atol=1e-4)


def test_phases_with_the_same_crowns_are_of_one_patient(tmp_path: Path, mouths: dict[int, Made]) -> None:
    """A later phase begins where the teeth stand then, scanned elsewhere and triangulated anew."""
    few = {number: only(made, FEW) for number, made in mouths.items()}
    beijing(tmp_path / "in" / "001", few[1])
    beijing(tmp_path / "in" / "004", few[EXTRACTED])
    for stage, teeth in (("ori", few[1].t2), ("final", few[1].t1)):
        later = moved(teeth, elsewhere(9))
        scans = {
            jaw: finer(scan(later, few[1], jaw), seed=seed) for seed, jaw in enumerate(("upper", "lower"))
        }
        beijing_scans(tmp_path / "in" / "700" / stage, scans)
    run(tmp_path / "in", tmp_path / "out")
    cases, _ = case_list.read(tmp_path / "out" / "cases.csv")
    assert {case.case_id: case.patient_id for case in cases} == {
        "beijing-001-final": "beijing-001",
        "beijing-004-final": "beijing-004",
        "beijing-700-final": "beijing-001",
    }


def test_a_scan_s_label_is_the_majority_of_a_face_s_corners(mouths: dict[int, Made]) -> None:
    one: Scan = scan(mouths[1].t1, mouths[1], "upper")
    labels = one.labels.copy()
    labels[np.flatnonzero(labels == 16)[:5]] = 11  # a speck of another label on a molar
    crowns, lost = cut(Trimesh(one.vertices, one.faces, process=False), labels)
    assert not lost and crowns.keys() == {int(fdi) for fdi in np.unique(one.labels) if fdi}
    assert np.ptp(crowns[11].vertices, axis=0).max() < 15  # the speck did not come along
