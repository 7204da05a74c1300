"""Labelled scans of one's own: OBJ or PLY with labels beside, labelled or coloured PLY, VTP."""

import base64
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dentalign.cases import case_document
from dentalign.cases.poses import stage_poses
from dentalign.errors import NothingUsable, ParamError
from dentalign.geometry import rigid, stl
from dentalign.importers import vtp
from dentalign.importers.import_run import ImportResult, import_cases
from dentalign.importers.jaw_names import jaw_of, without_jaw
from dentalign.importers.scan import Scan as ScanImporter
from dentalign.numbering import to_universal
from tests.support.public_sets import Made, Scan, elsewhere, mouth, scan

JAWS = ("upper", "lower")


def run(source: Path, dest: Path, numbering: str = "", labels: Path | None = None) -> ImportResult:
    return import_cases(ScanImporter(numbering, labels), source, dest)


@pytest.fixture(scope="module")
def made() -> Made:
    return mouth(1, elsewhere(1, turn_deg=150.0))


@pytest.fixture(scope="module")
def scans(made: Made) -> dict[str, Scan]:
    return {jaw: scan(made.t1, made, jaw) for jaw in JAWS}


def mesh_of(one: Scan) -> trimesh.Trimesh:
    return trimesh.Trimesh(one.vertices, one.faces, process=False)


def of_faces(one: Scan) -> NDArray[np.int64]:
    return one.labels[one.faces[:, 0]]  # a crown of the fixture shares no vertex with another


def colour_of(label: int) -> tuple[int, int, int]:
    return (label, 255 - label, (7 * label) % 256)


def obj_and_json(folder: Path, jaw: str, one: Scan) -> None:
    mesh = mesh_of(one)
    (folder / f"{jaw}.obj").write_text(str(mesh.export(file_type="obj", include_normals=False)))
    (folder / f"{jaw}.json").write_text(json.dumps({"labels": one.labels.tolist()}))


def universal_json(folder: Path, jaw: str, one: Scan) -> None:
    obj_and_json(folder, jaw, one)
    numbers = [int(to_universal(int(label))) if label else 0 for label in one.labels]
    (folder / f"{jaw}.json").write_text(json.dumps({"labels": numbers}))


def labelled_ply(folder: Path, jaw: str, one: Scan) -> None:
    mesh = mesh_of(one)
    mesh.vertex_attributes["label"] = one.labels.astype(np.int32)
    (folder / f"{jaw}.ply").write_bytes(trimesh.exchange.ply.export_ply(mesh))


def face_labelled_ply(folder: Path, jaw: str, one: Scan) -> None:
    mesh = mesh_of(one)
    mesh.face_attributes["tooth"] = of_faces(one).astype(np.int32)
    (folder / f"{jaw}.ply").write_bytes(trimesh.exchange.ply.export_ply(mesh, encoding="ascii"))


def coloured_ply(folder: Path, jaw: str, one: Scan) -> None:
    mesh = mesh_of(one)
    mesh.visual = trimesh.visual.ColorVisuals(
        mesh, vertex_colors=[(*colour_of(int(label)), 255) for label in one.labels]
    )
    (folder / f"{jaw}.ply").write_bytes(trimesh.exchange.ply.export_ply(mesh))


def _array(values: NDArray[np.generic], name: str, form: str, packed: bool) -> str:
    kinds = {"f": "Float", "i": "Int", "u": "UInt"}
    kind = f"{kinds[values.dtype.kind]}{8 * values.dtype.itemsize}"
    width = 1 if values.ndim == 1 else values.shape[1]
    head = f'<DataArray type="{kind}" Name="{name}" NumberOfComponents="{width}" format="{form}">'
    data = values.tobytes()
    if form == "ascii":
        body = " ".join(map(str, values.ravel().tolist()))
    elif packed:
        half = len(data) // 2 + 1
        blocks = [zlib.compress(part) for part in (data[:half], data[half:])]
        lengths = struct.pack("<5I", 2, half, len(data) - half, *map(len, blocks))
        body = (base64.b64encode(lengths) + base64.b64encode(b"".join(blocks))).decode()
    else:
        body = base64.b64encode(struct.pack("<I", len(data)) + data).decode()
    return f"{head}{body}</DataArray>"


def vtp_text(one: Scan, form: str, packed: bool, per_face: bool) -> str:
    def array(values: NDArray[np.generic], name: str) -> str:
        return _array(values, name, form, packed)

    labels = array((of_faces(one) if per_face else one.labels).astype(np.int32), "Label")
    place = "CellData" if per_face else "PointData"
    compressor = 'compressor="vtkZLibDataCompressor"' if packed else ""
    offsets = np.arange(3, 3 * len(one.faces) + 1, 3)
    return (
        f'<?xml version="1.0"?><VTKFile type="PolyData" version="1.0" byte_order="LittleEndian" '
        f'header_type="UInt32" {compressor}><PolyData>'
        f'<Piece NumberOfPoints="{len(one.vertices)}" NumberOfPolys="{len(one.faces)}">'
        f"<{place}>{labels}</{place}><Points>{array(one.vertices, 'Points')}</Points>"
        f"<Polys>{array(one.faces.ravel(), 'connectivity')}{array(offsets, 'offsets')}</Polys>"
        "</Piece></PolyData></VTKFile>"
    )


def as_vtp(form: str, packed: bool, per_face: bool) -> Callable[[Path, str, Scan], None]:
    def write(folder: Path, jaw: str, one: Scan) -> None:
        (folder / f"{jaw}.vtp").write_text(vtp_text(one, form, packed, per_face))

    return write


WRITERS: dict[str, Callable[[Path, str, Scan], None]] = {
    "OBJ and JSON": obj_and_json,
    "OBJ and JSON, Universal": universal_json,
    "PLY, labels of vertices": labelled_ply,
    "PLY, labels of faces": face_labelled_ply,
    "VTP, text, of vertices": as_vtp("ascii", packed=False, per_face=False),
    "VTP, base64, of faces": as_vtp("binary", packed=False, per_face=True),
    "VTP, base64 and zlib, of vertices": as_vtp("binary", packed=True, per_face=False),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_both_jaws_of_a_labelled_scan_become_one_case_at_t1(
    tmp_path: Path, made: Made, scans: dict[str, Scan], write: Callable[[Path, str, Scan], None]
) -> None:
    folder = tmp_path / "in" / "p1"
    folder.mkdir(parents=True)
    for jaw, one in scans.items():
        write(folder, jaw, one)
    imported = run(tmp_path / "in", tmp_path / "out")
    assert imported.cases_new == 1 and not imported.lines
    assert off_mm(tmp_path / "out", "p1", made) < 2e-3
    assert not (tmp_path / "out" / "cases.csv").exists()


def off_mm(store: Path, case_id: str, made: Made) -> float:
    """Largest distance of a crown's centroid from where it was, after a fit; the same teeth are there."""
    document = case_document.read(store / "json" / f"{case_id}.json", case_id)
    assert document.t2_stage is None
    poses = stage_poses(document, require_t2=False).t1
    assert poses.keys() == made.t1.keys()
    now, before = [], []
    for fdi, pose in poses.items():
        data = (store / "stl" / case_id / f"{fdi}.stl").read_bytes()
        corners = stl.read_triangles(data, file="", tooth=fdi)
        above = made.height[fdi] > 0.2 * made.height[fdi].max()
        kept = made.faces[fdi][above[made.faces[fdi]].all(1)]
        now.append(rigid.apply(pose, corners.mean((0, 1))[None])[0])
        before.append(made.t1[fdi][kept].mean((0, 1)))
    a, b = np.stack(before), np.stack(now)
    return float(np.linalg.norm(rigid.apply(rigid.fit(a, b), a) - b, axis=1).max())


def test_a_coloured_scan_is_read_by_the_user_s_list_of_colours(
    tmp_path: Path, made: Made, scans: dict[str, Scan]
) -> None:
    (tmp_path / "in").mkdir()
    for jaw, one in scans.items():
        coloured_ply(tmp_path / "in", f"p1_{jaw}", one)
    with pytest.raises(
        NothingUsable, match=r"colours and no tooth numbers: .*#00ff00.* name it with --labels"
    ):
        run(tmp_path / "in", tmp_path / "out")
    named = {"#{:02x}{:02x}{:02x}".format(*colour_of(fdi)): fdi for fdi in made.t1}
    (tmp_path / "colours.json").write_text(json.dumps(named))
    assert run(tmp_path / "in", tmp_path / "out", labels=tmp_path / "colours.json").cases_new == 1
    assert off_mm(tmp_path / "out", "p1", made) < 2e-3
    (tmp_path / "colours.json").write_text("[1, 2]")
    with pytest.raises(ParamError, match="from label or colour to tooth number"):
        run(tmp_path / "in", tmp_path / "out", labels=tmp_path / "colours.json")


def test_labels_of_a_program_s_own_are_read_by_the_user_s_list(
    tmp_path: Path, made: Made, scans: dict[str, Scan]
) -> None:
    numbers = {fdi: at for at, fdi in enumerate(sorted(made.t1), 1)}
    (tmp_path / "in").mkdir()
    for jaw, one in scans.items():
        own = np.array([numbers.get(int(label), 0) for label in one.labels])
        labelled_ply(tmp_path / "in", f"p1_{jaw}", Scan(one.vertices, one.faces, own))
    (tmp_path / "teeth.json").write_text(json.dumps({str(at): fdi for fdi, at in numbers.items()}))
    assert run(tmp_path / "in", tmp_path / "out", labels=tmp_path / "teeth.json").cases_new == 1
    assert off_mm(tmp_path / "out", "p1", made) < 2e-3


def test_a_vertex_for_each_corner_of_each_face_is_no_obstacle(
    tmp_path: Path, made: Made, scans: dict[str, Scan]
) -> None:
    """Some exporters of coloured scans write no two faces that share a vertex."""
    (tmp_path / "in" / "p1").mkdir(parents=True)
    for jaw, one in scans.items():
        apart = Scan(
            one.vertices[one.faces].reshape(-1, 3),
            np.arange(one.faces.size).reshape(-1, 3),
            one.labels[one.faces].reshape(-1),
        )
        labelled_ply(tmp_path / "in" / "p1", jaw, apart)
    assert run(tmp_path / "in", tmp_path / "out").cases_new == 1
    assert off_mm(tmp_path / "out", "p1", made) < 2e-3


def no_labels(folder: Path, one: Scan) -> None:
    (folder / "upper.ply").write_bytes(trimesh.exchange.ply.export_ply(mesh_of(one)))


def lower_labels(folder: Path, one: Scan) -> None:
    labelled_ply(folder, "lower", one)


def both_notations(folder: Path, one: Scan) -> None:
    labels = np.where(one.labels == 17, 99, one.labels)
    labels = np.where(labels == 16, 3, labels)
    labelled_ply(folder, "upper", Scan(one.vertices, one.faces, labels))


def two_uppers(folder: Path, one: Scan) -> None:
    labelled_ply(folder, "upper", one)
    as_vtp("ascii", packed=False, per_face=False)(folder, "Upper", one)


def cut_short(folder: Path, one: Scan) -> None:
    (folder / "upper.vtp").write_text(vtp_text(one, "binary", packed=True, per_face=False)[:-4000])


def two_arrays(folder: Path, one: Scan) -> None:
    text = vtp_text(one, "ascii", packed=False, per_face=False)
    array = text[text.index("<DataArray") : text.index("</PointData>")]
    (folder / "upper.vtp").write_text(text.replace(array, array + array.replace("Label", "ToothClass")))


REFUSED: dict[str, tuple[Callable[[Path, Scan], None], str]] = {
    "no labels": (no_labels, "no labels in the scan"),
    "labels of the other jaw": (lower_labels, "some numbers are no FDI numbers|in the scan of the lower jaw"),
    "both notations": (both_notations, "--numbering"),
    "two upper scans": (two_uppers, "name them <id>_upper and <id>_lower"),
    "VTP cut short": (cut_short, "not readable as VTP"),
    "two arrays of labels": (two_arrays, "2 arrays may be the labels: Label, ToothClass"),
}


@pytest.mark.parametrize(("write", "said"), REFUSED.values(), ids=REFUSED)
def test_a_scan_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, scans: dict[str, Scan], write: Callable[[Path, Scan], None], said: str
) -> None:
    (tmp_path / "in" / "p1").mkdir(parents=True)
    write(tmp_path / "in" / "p1", scans["upper"])
    with pytest.raises(NothingUsable, match=said):
        run(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "jaw", "patient"),
    [
        ("AB12_upper", "upper", "AB12"),
        ("lower", "lower", ""),
        ("UpperJaw", "upper", ""),
        ("12-L", "lower", "12"),
        ("uppper_mark", "upper", "mark"),
        ("maxillary_scan_P3", "upper", "P3"),
        ("P3", "", "P3"),
        ("upper_lower_P3", "", "upper_lower_P3"),
    ],
)
def test_the_name_tells_jaw_and_patient(name: str, jaw: str, patient: str) -> None:
    assert (jaw_of(name), without_jaw(name)) == (jaw, patient)


# Written by VTK 9 with its defaults (appended, base64, zlib); empty sections and spaces taken out.
FROM_VTK = (
    "<?xml version='1.0'?>\n"
    "<VTKFile type='PolyData' version='0.1' byte_order='LittleEndian' header_type='UInt32' "
    "compressor='vtkZLibDataCompressor'>\n"
    "<PolyData>\n"
    "<Piece NumberOfPoints='4' NumberOfVerts='0' NumberOfLines='0' NumberOfStrips='0' NumberOfPolys='2'>\n"
    "<PointData>\n"
    "</PointData>\n"
    "<CellData>\n"
    "<DataArray type='Int32' Name='Label' format='appended' offset='0'/>\n"
    "</CellData>\n"
    "<Points>\n"
    "<DataArray type='Float32' Name='Points' NumberOfComponents='3' format='appended' offset='44'/>\n"
    "</Points>\n"
    "<Polys>\n"
    "<DataArray type='Int64' Name='connectivity' format='appended' offset='192'/>\n"
    "<DataArray type='Int64' Name='offsets' format='appended' offset='248'/>\n"
    "</Polys>\n"
    "</Piece>\n"
    "</PolyData>\n"
    "<AppendedData encoding='base64'>\n"
    "_AQAAAACAAAAIAAAADgAAAA==eJzjZmBg4AFiAACQABg=AQAAAACAAAAwAAAAEwAAAA==eJxjYEAGDfaobHQ+AwMAOuQC/Q="
    "=AAAAAACAAAAAAAAAAAAAAACAAAAAAAAAAAAAAACAAAAAAAAAAAAAAACAAAAAAAAAAAAAAACAAAAAAAAAAAAAAACAAAAAAAA"
    "AAQAAAACAAAAwAAAAFgAAAA==eJxjYIAARijNxIAKYHxmKA0AANAACQ==AQAAAACAAAAQAAAADgAAAA==eJxjZoAANigNAAB"
    "wAAo="
    "\n</AppendedData>"
    "\n</VTKFile>"
)


def test_a_file_as_vtk_itself_writes_it_is_read() -> None:
    mesh = vtp.read(FROM_VTK.encode())
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    np.testing.assert_allclose(mesh.vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert mesh.of_faces["Label"].tolist() == [11, 12]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"<VTKFile", b"<VTKFile type='PolyData'/>", b"<!DOCTYPE x [<!ENTITY a 'b'>]><VTKFile/>",
        b"<VTKFile type='PolyData'><PolyData><Piece/></PolyData></VTKFile>",
    ],
)  # fmt: skip
def test_what_is_no_polydata_is_said(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"pieces|not XML|not a VTK|document type|missing"):
        vtp.read(data)


@given(st.data())
@settings(max_examples=100)
def test_any_bytes_are_polydata_or_a_value_error(data: st.DataObject) -> None:
    whole = FROM_VTK.encode()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 40, len(whole))))
    spoilt = whole[:start] + data.draw(st.binary(max_size=20)) + whole[end:]
    try:
        mesh = vtp.read(spoilt)
    except ValueError:
        return
    assert mesh.faces.size == 0 or 0 <= mesh.faces.min() <= mesh.faces.max() < len(mesh.vertices)
