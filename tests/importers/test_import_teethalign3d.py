"""TeethAlign3D: the data decide sides and matrices, known motions come back, bad downloads are named."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimesh import Trimesh
from typer.testing import CliRunner

from dentalign import check
from dentalign.cases import case_document, case_list, rigid_transforms
from dentalign.cases.manifests import Manifest, path_of
from dentalign.cases.poses import stage_poses
from dentalign.cases.settings import Fetch, Limits, Source
from dentalign.cli import app
from dentalign.errors import CaseDefect, NothingUsable
from dentalign.geometry import rigid
from dentalign.importers import matrix_reading
from dentalign.importers.base import FoundCase, ImportedCase
from dentalign.importers.import_run import ImportResult, import_cases
from dentalign.importers.source_folder import SourceFolder
from dentalign.importers.teethalign3d import TeethAlign3D, parse_matrices
from dentalign.teeth import antimere, is_upper
from tests.support.public_sets import Made, difference, elsewhere, mouth, moved, teethalign3d

# Millimetres and degrees of float32 meshes and matrices of eight decimals.
EXACT_MM, EXACT_DEG = 1e-3, 1e-3


@pytest.fixture(scope="module")
def mouths() -> dict[int, Made]:
    return {number: mouth(number, elsewhere(number)) for number in (1, 2, 3)}


def as_patient(fdi: int) -> int:
    return fdi


def write(root: Path, mouths: dict[int, Made], **how: object) -> Path:
    for number, made in mouths.items():
        teethalign3d(root / "TeethAlign3D", number, made, **how)  # type: ignore[arg-type]
    return root


def run(source: Path, dest: Path, matrices: str = "") -> ImportResult:
    return import_cases(TeethAlign3D(matrices), source, dest)


def reasons(imported: ImportResult) -> dict[str, str]:
    return {line.case_id: line.code for line in imported.lines}


@pytest.fixture(scope="module")
def store(mouths: dict[int, Made], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("teethalign3d")
    assert not run(write(root / "download", mouths), root / "cases").lines
    return root / "cases"


def test_known_motions_come_back(store: Path, mouths: dict[int, Made]) -> None:
    for number, made in mouths.items():
        found = difference(store, f"teethalign3d-{number:03d}", made)
        assert found.t1_mm < EXACT_MM and found.t2_mm < EXACT_MM and found.turn_deg < EXACT_DEG
        assert found.t1_teeth == found.t2_teeth == made.t2.keys()


def test_the_head_frame_is_lps_wherever_the_scanner_had_the_mouth(store: Path) -> None:
    for file in sorted((store / "json").iterdir()):
        poses = stage_poses(case_document.read(file, file.stem)).t1
        assert poses[26][0, 3] > 10 > -10 > poses[16][0, 3]  # x to the patient's left
        assert poses[16][1, 3] > poses[11][1, 3] + 10  # y to posterior
        assert poses[11][2, 3] > poses[31][2, 3] + 2  # z up
        for fdi, pose in poses.items():
            assert pose[2, 2] * (-1 if is_upper(fdi) else 1) > 0.8  # +z to the crown's tip
        assert poses[11][1, 1] < -0.8 and poses[46][0, 1] < -0.5  # +y buccal: to the front, to the right


def test_the_pipeline_takes_what_was_imported(store: Path, tmp_path: Path) -> None:
    with check.locate(store) as places:
        assert check.check(places).all_good
    cases, bad = case_list.read(store / "cases.csv")
    assert not bad
    case_list.write_splits(tmp_path / "splits.csv", {case.case_id: case.split for case in cases})
    summary = rigid_transforms.make_manifests(
        store / "json", tmp_path / "splits.csv", None, tmp_path / "transforms",
        source=Source.model_validate(
            {"cases": str(store / "cases.csv"), "json": str(store / "json"), "meshes": str(store / "stl")}
        ),
        fetch=Fetch(), limits=Limits(), shards=["all"],
    )  # fmt: skip
    assert (summary.cases, summary.excluded, summary.dropped_teeth) == (3, 0, 0)
    assert len(Manifest.load(path_of(tmp_path / "transforms", "all")).cases) == 3


@pytest.mark.parametrize("sides", [as_patient, antimere], ids=["patient's sides", "viewer's sides"])
@pytest.mark.parametrize("origin", ["origin", "tooth"])
def test_sides_and_matrices_are_decided_by_the_data(
    tmp_path: Path, mouths: dict[int, Made], sides: Callable[[int], int], origin: str
) -> None:
    source = write(tmp_path / "in", {2: mouths[2]}, sides=sides, origin=origin)
    imported = run(source, tmp_path / "out")
    assert imported.cases_new == 1 and not imported.lines
    found = difference(tmp_path / "out", "teethalign3d-002", mouths[2])
    # FDI numbers are the patient's: the same teeth as were written.
    assert found.t2_mm < (0.01 if origin == "tooth" else EXACT_MM)
    report = (tmp_path / "out" / "import.txt").read_text()
    assert f"matrices rotate about: {origin}\n" in report
    side = "right" if sides is as_patient else "left"
    assert f"number 1 is the third molar on the patient's: {side}\n" in report


def test_matrices_that_the_arch_cannot_tell_apart_are_named_and_not_guessed(
    tmp_path: Path, mouths: dict[int, Made]
) -> None:
    small = {2: mouth(2, elsewhere(2, shift_mm=3.0), share=0.02)}  # hardly a rotation, hardly off the origin
    source = write(tmp_path / "in", small)
    with pytest.raises(NothingUsable, match=r"both origins .* are plausible.* --matrices"):
        run(source, tmp_path / "out")
    [row] = csv.DictReader((tmp_path / "out" / "left_out.csv").read_text(encoding="utf-8").splitlines())
    assert (row["case_id"], row["code"]) == ("teethalign3d-002", "matrix_ambiguous")
    assert not (tmp_path / "out" / "json").exists()
    assert run(source, tmp_path / "out", "origin").cases_new == 1  # the user knows
    assert difference(tmp_path / "out", "teethalign3d-002", small[2]).t2_mm < EXACT_MM


def test_where_nothing_rotates_no_origin_is_needed(tmp_path: Path) -> None:
    still = mouth(7, elsewhere(7), share=0.0)
    shifted = moved(still.t1, rigid.from_rotation(np.eye(3), [0.3, 0.2, 0.1]))
    made = Made(still.t1, shifted, still.faces, still.height)
    assert run(write(tmp_path / "in", {7: made}), tmp_path / "out").cases_new == 1
    assert "matrices rotate about: unclear" in (tmp_path / "out" / "import.txt").read_text()


def test_a_case_in_which_nothing_moves_at_all_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(NothingUsable, match="T2 is T1"):
        run(write(tmp_path / "in", {7: mouth(7, elsewhere(7), share=0.0)}), tmp_path / "out")


@pytest.mark.parametrize(
    ("how", "code"), [({"sides": antimere}, "sides_differ"), ({"origin": "tooth"}, "matrix_differs")]
)
def test_a_case_that_contradicts_the_set_is_refused(
    tmp_path: Path, mouths: dict[int, Made], how: dict[str, object], code: str
) -> None:
    source = SourceFolder(write(write(tmp_path, mouths), {4: mouths[1]}, **how))
    importer = TeethAlign3D()
    found = importer.find(source)
    importer.prepare(source, found)
    importer.read(source, found[0])
    with pytest.raises(CaseDefect) as refused:
        importer.read(source, found[3])
    assert refused.value.code == code


def test_a_set_that_contradicts_itself_is_not_imported(tmp_path: Path, mouths: dict[int, Made]) -> None:
    source = write(write(tmp_path / "in", {1: mouths[1]}), {2: mouths[2]}, sides=antimere)
    with pytest.raises(NothingUsable, match="number 1 is on the patient's right or left"):
        run(source, tmp_path / "out")


def test_one_arch_alone_takes_the_sides_of_the_set(tmp_path: Path, mouths: dict[int, Made]) -> None:
    upper = {fdi: vertices for fdi, vertices in mouths[3].t2.items() if is_upper(fdi)}
    only = Made(mouths[3].t1, upper, mouths[3].faces, mouths[3].height)
    source = write(tmp_path / "in", {1: mouths[1], 3: only})
    imported = run(source, tmp_path / "out")
    assert imported.cases_new == 2 and not imported.lines
    assert difference(tmp_path / "out", "teethalign3d-003", only).t2_mm < EXACT_MM
    with pytest.raises(NothingUsable, match="right or left"):
        run(write(tmp_path / "alone", {3: only}), tmp_path / "other")


def test_a_tooth_without_row_and_file_is_a_gap(tmp_path: Path, mouths: dict[int, Made]) -> None:
    left = {fdi: vertices for fdi, vertices in mouths[1].t2.items() if fdi not in (15, 36)}
    made = Made(mouths[1].t1, left, mouths[1].faces, mouths[1].height)
    assert run(write(tmp_path / "in", {1: made}), tmp_path / "out").cases_new == 1
    found = difference(tmp_path / "out", "teethalign3d-001", made)
    assert found.t1_teeth == left.keys() and found.t2_mm < EXACT_MM


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def drop_rows(file: Path) -> None:
    file.write_text("\n".join(file.read_text().splitlines()[:-3]))


def reflect(file: Path) -> None:
    row, *rest = file.read_text().splitlines()
    words = row.split()
    words[1:4] = [str(-float(word)) for word in words[1:4]]
    file.write_text("\n".join([" ".join(words), *rest]))


def no_number(file: Path) -> None:
    file.write_text(file.read_text().replace("0.0", "nan", 1))


def grow(file: Path) -> None:
    file.write_bytes(b" " * 2_000_000)


def link_out(file: Path) -> None:
    file.unlink()
    file.symlink_to("/etc/hostname")


def promise(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:80] + b"\xff\xff\xff\xff" + data[84:])


BROKEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "mesh cut short": (cut_short, "crown/up/8.stl", "damaged_mesh"),
    "mesh promises 4 billion triangles": (promise, "crown/up/8.stl", "damaged_mesh"),
    "mesh missing": (Path.unlink, "crown/down/19.stl", "missing_file"),
    "mesh a web page": (
        lambda file: file.write_text("<html>log in</html>"),
        "crown/up/9.stl",
        "damaged_mesh",
    ),
    "mesh a link out": (link_out, "crown/up/8.stl", "link_out_of_folder"),
    "matrices missing": (Path.unlink, "target_matrix.txt", "missing_file"),
    "matrices cut within a row": (cut_short, "target_matrix.txt", "damaged_matrices"),
    "matrices cut between rows": (drop_rows, "target_matrix.txt", "no_matrix"),
    "matrix a reflection": (reflect, "target_matrix.txt", "damaged_matrices"),
    "matrix with NaN": (no_number, "target_matrix.txt", "damaged_matrices"),
    "matrices of 2 MB": (grow, "target_matrix.txt", "file_too_large"),
}


def test_a_bad_download_is_named_and_not_half_imported(tmp_path: Path, mouths: dict[int, Made]) -> None:
    source = write(tmp_path / "in", {1: mouths[1]})
    good = source / "TeethAlign3D" / "data_001"
    for number, (spoil, name, _) in enumerate(BROKEN.values(), 2):
        folder = good.with_name(f"data_{number:03d}")
        shutil.copytree(good, folder)
        spoil(folder / name)
    # The name of the folder would lead out, or is somebody else's: no case of the set.
    (good.parent / "data_..").mkdir()
    shutil.copytree(good, tmp_path / "other" / "data_001")
    (good.parent / "data_100").symlink_to(tmp_path / "other" / "data_001")
    imported = run(source, tmp_path / "out")
    wanted = {f"teethalign3d-{number:03d}": code for number, (_, _, code) in enumerate(BROKEN.values(), 2)}
    assert reasons(imported) == wanted | {"teethalign3d-100": "link_out_of_folder"}
    assert (
        imported.cases_new == 1 and imported.totals.cases_listed == len(BROKEN) + 2 and imported.totals.add_up
    )
    files = {line.case_id: line.file for line in imported.lines}
    for number, (_, name, code) in enumerate(BROKEN.values(), 2):
        assert files[f"teethalign3d-{number:03d}"].endswith(f"data_{number:03d}/{name}"), code
    assert all("download" in line.fix or "file itself" in line.fix for line in imported.lines)
    for kind in ("json", "stl"):
        assert [file.stem for file in (tmp_path / "out" / kind).iterdir()] == ["teethalign3d-001"]


ROW = "8 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"


@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.one_of(st.floats(), st.integers()).map(str), max_size=40).map(" ".join).map(str.encode),
        st.tuples(st.integers(0, len(ROW)), st.binary(max_size=5)).map(
            lambda at: ROW.encode()[: at[0]] + at[1] + ROW.encode()[at[0] :]
        ),
    )
)
def test_any_bytes_are_matrices_or_named(data: bytes) -> None:
    try:
        rows, _ = parse_matrices(data, "target_matrix.txt")
    except CaseDefect:
        return
    for number, matrix in rows.items():
        assert 1 <= number <= 32
        if matrix is None:
            continue
        assert np.isfinite(matrix).all()
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(matrix[:3, :3]) > 0


def test_a_case_that_the_importer_does_not_understand_costs_no_other(
    tmp_path: Path, mouths: dict[int, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "in", {1: mouths[1], 2: mouths[2]})
    read = TeethAlign3D.read

    def trip(self: TeethAlign3D, folder: SourceFolder, case: FoundCase) -> ImportedCase:
        if case.case_id.endswith("001"):
            raise ValueError("a surprise")
        return read(self, folder, case)

    monkeypatch.setattr(TeethAlign3D, "read", trip)
    imported = run(source, tmp_path / "out")
    assert reasons(imported) == {"teethalign3d-001": "not_understood"} and imported.cases_new == 1


def test_the_command_says_what_it_did_and_ends_with_the_right_code(
    tmp_path: Path, mouths: dict[int, Made]
) -> None:
    source = write(tmp_path / "in", {1: mouths[1], 2: mouths[2]})
    (source / "TeethAlign3D" / "data_002" / "target_matrix.txt").unlink()
    words = ["import", "teethalign3d", str(source), str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert "2 cases found = 1 imported + 0 there already + 1 left out" in done.stderr
    assert "left out: case teethalign3d-002: no such file; download and unpack it again" in done.stderr
    assert CliRunner().invoke(app, ["import", "other", str(source), str(tmp_path / "o")]).exit_code == 2
    wrong = CliRunner().invoke(
        app, ["import", "beijing", str(source), str(tmp_path / "b"), "--matrices", "rows"]
    )
    assert wrong.exit_code == 2


def test_origins_agree_with_the_formulas_they_are_named_by() -> None:
    made = mouth(1, elsewhere(1))
    crown = Trimesh(made.t1[11], made.faces[11], process=False)
    rng = np.random.default_rng(3)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    matrix, shift = np.eye(4), rng.normal(size=3)
    matrix[:3, :3], matrix[3, :3] = rotation, shift
    p = made.t1[11]
    middle = p.mean(0)
    expected = {"origin": p @ rotation + shift, "tooth": (p - middle) @ rotation + middle + shift}
    assert expected.keys() == matrix_reading.ORIGINS.keys()
    for origin, points in expected.items():
        pose = matrix_reading.motions(origin, {11: matrix}, {11: crown})[11]
        np.testing.assert_allclose(moved({11: p}, pose)[11], points, atol=1e-9)


def test_what_is_no_tooth_is_skipped_and_listed(tmp_path: Path, mouths: dict[int, Made]) -> None:
    """As the authors' loader has it: rows that are a number alone, empty meshes, numbers of no tooth."""
    folder = write(tmp_path / "in", {1: mouths[1]}) / "TeethAlign3D" / "data_001"
    table = folder / "target_matrix.txt"
    rows = {int(row.split()[0]): row for row in table.read_text().splitlines()}
    rows[4] = "4"  # 15, with its mesh
    rows[13] = "13"  # 25, without
    (folder / "crown" / "up" / "13.stl").unlink()
    (folder / "crown" / "down" / "29.stl").write_bytes(b"")  # 45
    (folder / "crown" / "up" / "1.stl").write_bytes(bytes(84))  # 18, no row either
    table.write_text("\n".join([*rows.values(), f"33 {rows[8].partition(' ')[2]}", "0"]))
    imported = run(tmp_path / "in", tmp_path / "out")
    assert imported.cases_new == 1 and imported.totals.add_up
    assert {(line.tooth, line.code) for line in imported.lines} == {
        ("15", "no_matrix"), ("25", "no_tooth"), ("45", "no_tooth"), ("18", "no_tooth"),
        ("number 33", "unknown_tooth"), ("number 0", "unknown_tooth"),
    }  # fmt: skip
    left = {fdi: at for fdi, at in mouths[1].t2.items() if fdi not in (15, 25, 45)}
    found = difference(
        tmp_path / "out", "teethalign3d-001", Made(mouths[1].t1, left, mouths[1].faces, mouths[1].height)
    )
    assert found.t1_teeth == left.keys() and found.t2_mm < EXACT_MM


def test_any_folder_that_looks_like_a_case_is_one(tmp_path: Path, mouths: dict[int, Made]) -> None:
    source = write(tmp_path, {1: mouths[1]}) / "TeethAlign3D"
    (source / "data_001").rename(source / "patient-A")
    assert run(tmp_path, tmp_path / "out").cases_new == 1
    assert [file.stem for file in (tmp_path / "out" / "json").iterdir()] == ["teethalign3d-patient-A"]
