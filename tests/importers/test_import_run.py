"""An import stops anywhere and goes on, writes the same bytes again, and leaves other folders alone."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh
from typer.testing import CliRunner

from dentalign.cli import app
from dentalign.demo_clinic import clinic, crowns
from dentalign.demo_clinic.crowns import Crown
from dentalign.errors import DentalignError, NothingUsable
from dentalign.geometry import rigid
from dentalign.importers.frames import ScannedMouth, crown_axis
from dentalign.importers.import_run import import_cases
from dentalign.importers.registration import common_frame
from dentalign.importers.store import ImportStore, Record, by_patient
from dentalign.importers.teethalign3d import TeethAlign3D
from tests.support.public_sets import elsewhere, mouth, teethalign3d

CASES = 4


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run") / "download"
    for number in range(1, CASES + 1):
        teethalign3d(root, number, mouth(number, elsewhere(number)))
    return root


@pytest.fixture(scope="module")
def undisturbed(download: Path) -> Path:
    import_cases(TeethAlign3D(), download, download.parent / "undisturbed")
    return download.parent / "undisturbed"


def tree(store: Path) -> dict[str, str]:
    """Hash of every file but the import's own notes."""
    return {
        str(file.relative_to(store)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(store.rglob("*"))
        if file.is_file() and ".import" not in file.parts
    }


def test_a_second_run_reads_nothing_again_and_changes_nothing(
    download: Path, undisturbed: Path, tmp_path: Path
) -> None:
    store = shutil.copytree(undisturbed, tmp_path / "store")
    before = {file: file.stat().st_mtime_ns for file in store.rglob("*.stl")}
    again = import_cases(TeethAlign3D(), download, store)
    assert (again.cases_new, again.cases_unchanged) == (0, CASES) and again.totals.add_up
    assert before == {file: file.stat().st_mtime_ns for file in store.rglob("*.stl")}
    after, first = tree(store), tree(undisturbed)
    assert {**after, "import.txt": ""} == {**first, "import.txt": ""}  # it counts new and old


def test_a_killed_import_goes_on_and_ends_with_the_same_bytes(
    download: Path, undisturbed: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    words = [sys.executable, "-m", "dentalign.cli", "import", "teethalign3d", str(download), str(store)]
    process = subprocess.Popen(words, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(store.glob("json/*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = len(list(store.glob("json/*.json")))
    assert 1 <= done < CASES
    assert all((store / "stl" / file.stem).is_dir() for file in store.glob("json/*.json"))
    again = import_cases(TeethAlign3D(), download, store)
    assert again.cases_new + again.cases_unchanged == CASES and again.cases_unchanged >= done - 1
    after, first = tree(store), tree(undisturbed)
    assert {**after, "import.txt": ""} == {**first, "import.txt": ""}
    assert not list(store.rglob("*.part"))


def test_a_case_whose_files_changed_is_imported_anew_and_a_spoilt_one_taken_away(
    download: Path, undisturbed: Path, tmp_path: Path
) -> None:
    source, store = (
        shutil.copytree(download, tmp_path / "in"),
        shutil.copytree(undisturbed, tmp_path / "store"),
    )
    again = import_cases(TeethAlign3D(), source, store)  # copytree keeps the times
    assert again.cases_unchanged == CASES
    (source / "data_002" / "crown" / "up" / "8.stl").write_bytes(b"short")
    os.utime(source / "data_003" / "target_matrix.txt")
    again = import_cases(TeethAlign3D(), source, store)
    assert (again.cases_new, again.cases_unchanged, len(again.lines)) == (1, CASES - 2, 1)
    assert "teethalign3d-002" not in (store / "cases.csv").read_text()
    assert (
        not (store / "json" / "teethalign3d-002.json").exists()
        and not (store / "stl" / "teethalign3d-002").exists()
    )


def test_a_download_in_parts_adds_up(download: Path, undisturbed: Path, tmp_path: Path) -> None:
    for part, numbers in (("a", (1, 2)), ("b", (3, 4))):
        for number in numbers:
            shutil.copytree(download / f"data_{number:03d}", tmp_path / part / f"data_{number:03d}")
        imported = import_cases(TeethAlign3D(), tmp_path / part, tmp_path / "store")
    assert imported.cases_earlier == 2 and "2 more cases from earlier" in str(imported)
    assert (tmp_path / "store" / "cases.csv").read_bytes() == (undisturbed / "cases.csv").read_bytes()


def test_a_folder_that_is_something_else_is_left_alone(
    download: Path, undisturbed: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for dest in (tmp_path / "mine", undisturbed):
        before = tree(dest)
        done = CliRunner().invoke(app, ["import", "beijing", str(download), str(dest)])
        assert done.exit_code != 0 and tree(dest) == before


def test_nothing_found_is_exit_code_3_and_a_missing_source_1(tmp_path: Path) -> None:
    with pytest.raises(NothingUsable, match="unpack"):
        import_cases(TeethAlign3D(), tmp_path, tmp_path / "out")
    with pytest.raises(DentalignError, match="no such folder") as missing:
        import_cases(TeethAlign3D(), tmp_path / "absent", tmp_path / "out")
    assert missing.value.exit_code == 1 and NothingUsable.exit_code == 3
    assert not (tmp_path / "out").exists()


def record(case_id: str, patient: str, *marks: str) -> Record:
    return Record(case_id=case_id, patient_id=patient, patient_marks=marks)


def test_cases_that_share_a_scan_directly_or_over_another_are_of_one_patient() -> None:
    cases = [
        record("a", "p9", "scan 1"),
        record("b", "p2", "scan 1", "scan 2"),
        record("c", "p5", "scan 2"),
        record("d", "p7", "scan 3"),
        record("e", "p7"),
    ]
    for order in (cases, cases[::-1]):
        assert {case.case_id: case.patient_id for case in by_patient(order)} == {
            "a": "p2", "b": "p2", "c": "p2", "d": "p7", "e": "p7"
        }  # fmt: skip


def test_a_damaged_record_counts_as_none(undisturbed: Path, tmp_path: Path) -> None:
    store = shutil.copytree(undisturbed, tmp_path / "store")
    (store / ".import" / "teethalign3d-001.json").write_text('{"case_id": "teethalign3d-001"')
    (store / "json" / "teethalign3d-002.json").unlink()
    kept = ImportStore(store, "teethalign3d").records()
    assert kept.keys() == {"teethalign3d-003", "teethalign3d-004"}


def opened(crown: Crown, pose: np.ndarray | None = None) -> trimesh.Trimesh:
    """A crown as a scan has it: open at the gum."""
    above = crown.vertices[:, 2] > crown.vertices[:, 2].min() + 0.2 * np.ptp(crown.vertices[:, 2])
    placed = crown.vertices if pose is None else rigid.apply(pose, crown.vertices)
    return trimesh.Trimesh(placed, crown.faces[above[crown.faces].all(1)], process=False)


@pytest.mark.parametrize("fdi", [11, 13, 25, 36, 47, 55])
def test_the_opening_of_a_crown_shows_where_its_tip_is_whatever_the_winding(fdi: int) -> None:
    crown = opened(crowns.make(fdi))
    for faces in (crown.faces, crown.faces[:, ::-1]):
        axis = crown_axis(trimesh.Trimesh(crown.vertices, faces, process=False))
        assert axis is not None and axis[2] > np.cos(np.radians(3))
    closed = crowns.make(fdi)
    assert crown_axis(trimesh.Trimesh(closed.vertices, closed.faces, process=False)) is None


def test_tooth_frames_come_near_the_anatomical_ones_and_use_nothing_of_t2() -> None:
    case = clinic.make_case(2, 11)
    place = elsewhere(5)
    scanned = ScannedMouth(
        {fdi: opened(crown, place @ case.t1[fdi]) for fdi, crown in case.patient.mouth.items()}
    )
    found = scanned.frame()
    assert found.sides == 1 and scanned.axes.keys() == scanned.crowns.keys()
    z_deg, turn_deg = [], []
    for fdi, frame in scanned.tooth_poses(found).items():
        true = (place @ case.t1[fdi])[:3, :3]
        z_deg.append(np.degrees(np.arccos(np.clip(frame[:3, 2] @ true[:, 2], -1, 1))))
        turn_deg.append(float(rigid.angle_deg(frame[:3, :3].T @ true)))
        np.testing.assert_allclose(frame[:3, :3] @ frame[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(frame[:3, :3]) > 0
    assert max(z_deg) < 3 and np.median(turn_deg) < 15


def test_a_mirrored_mouth_is_told_from_a_right_one_by_its_arches() -> None:
    case = clinic.make_case(2, 11)
    right = {
        fdi: trimesh.Trimesh(rigid.apply(case.t1[fdi], crown.vertices), crown.faces, process=False)
        for fdi, crown in case.patient.mouth.items()
    }
    mirrored = {fdi: crown.copy().apply_transform(np.diag([-1, 1, 1, 1])) for fdi, crown in right.items()}
    assert ScannedMouth(right).frame().sides == 1
    assert ScannedMouth(mirrored).frame().sides == -1
    assert ScannedMouth({fdi: crown for fdi, crown in right.items() if fdi < 30}).frame().sides == 0


def test_a_small_motion_of_the_mouth_is_treatment_and_a_large_one_another_place() -> None:
    case = clinic.make_case(2, 11)
    first = np.stack([pose[:3, 3] for pose in case.t1.values()])
    second = np.stack([case.t2[fdi][:3, 3] for fdi in case.t1])
    back, other = common_frame(first, second)
    assert not other and np.array_equal(back, np.eye(4))
    away = elsewhere(3, turn_deg=160.0, shift_mm=90.0)
    back, other = common_frame(first, rigid.apply(away, second))
    assert other
    left = np.linalg.norm(rigid.apply(back @ away, second) - second, axis=1)
    assert left.max() < 4.0  # what all teeth did alike is lost, no more


def test_the_fixtures_crowns_are_open_as_a_scan_s_are() -> None:
    assert not opened(crowns.make(16)).is_watertight
