"""Reading PLY and OBJ as well as STL, by the extension of a name; what they lose, and what is refused."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import trimesh

from dentalign.errors import ToothDefect
from dentalign.geometry import mesh_file
from tests.cases.test_hostile_input import memory_below

BALL = trimesh.creation.icosphere(2, 4.0)
BOX = 2.0 * np.array(
    [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], np.float64
)
SIDES = [[0, 3, 2, 1], [4, 5, 6, 7], [0, 1, 5, 4], [1, 2, 6, 5], [2, 3, 7, 6], [3, 0, 4, 7]]


def ball(kind: str, **options: Any) -> bytes:
    data = BALL.export(file_type=kind, **options)
    return data if isinstance(data, bytes) else str(data).encode()


def ply(
    faces: list[list[int]],
    order: str = "",
    vertices: int = len(BOX),
    promised: int | None = None,
    tail: bytes = b"",
) -> bytes:
    """The box as PLY, text or binary, with a colour at each vertex and face."""
    form = {"": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    header = (
        f"ply\nformat {form} 1.0\ncomment Jane Doe\nobj_info Jane Doe\nelement vertex {vertices}\n"
        "property double x\nproperty float y\nproperty float z\nproperty uchar red\n"
        f"element face {len(faces) if promised is None else promised}\n"
        "property uchar flags\nproperty list uchar int vertex_indices\nend_header\n"
    ).encode()
    if not order:
        rows = [" ".join(map(str, [*corner, 255])) for corner in BOX]
        rows += [" ".join(map(str, [7, len(face), *face])) for face in faces]
        return header + "\n".join(rows).encode() + b"\n" + tail
    corners = np.zeros(len(BOX), [("x", order + "f8"), ("yz", order + "f4", 2), ("red", "u1")])
    corners["x"], corners["yz"] = BOX[:, 0], BOX[:, 1:]
    polygons = (bytes([7, len(face)]) + np.array(face, order + "i4").tobytes() for face in faces)
    return header + corners.tobytes() + b"".join(polygons) + tail


def obj(faces: list[list[int]] = SIDES) -> bytes:
    lines = [f"v {x} {y} {z}" for x, y, z in BOX] + ["vt 0 0", "vn 0 0 1"]
    lines += ["f " + " ".join(f"{corner + 1}/1/1" for corner in face) for face in faces]
    return "\n".join(lines).encode()


def read(data: bytes, name: str = "1/11.ply") -> np.ndarray:
    return mesh_file.read_triangles(data, file=name, tooth=11)


def refused(data: bytes, name: str = "1/11.ply") -> ToothDefect:
    with pytest.raises(ToothDefect) as caught:
        read(data, name)
    assert (caught.value.file, caught.value.tooth) == (name, 11)
    return caught.value


def volume(triangles: np.ndarray) -> float:
    """Volume that the triangles enclose: right only if all are there, once, and wound outwards."""
    return float(np.linalg.det(triangles).sum() / 6)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("11.stl", ball("stl")),
        ("11.STL", ball("stl_ascii")),
        ("a/11.ply", ball("ply")),
        ("a.b/11.PLY", ball("ply", encoding="ascii")),
        ("https://clinic.example/a/11.obj", ball("obj")),
        ("11.Obj", ball("obj").replace(b"\n", b"\r\n")),
    ],
)
def test_the_extension_says_the_format_in_any_letter_case(name: str, data: bytes) -> None:
    np.testing.assert_allclose(read(data, name), BALL.triangles, atol=1e-6)


@pytest.mark.parametrize("order", ["", "<", ">"])
@pytest.mark.parametrize("faces", ["quadrilaterals", "triangles", "both"])
def test_polygons_of_a_ply_become_triangles_in_either_byte_order(order: str, faces: str) -> None:
    triangles = [[a, b, c] for a, b, c, _ in SIDES] + [[a, c, d] for a, _, c, d in SIDES]
    both = [*triangles[:3], *SIDES[3:], *triangles[6:9]]
    given = {"quadrilaterals": SIDES, "triangles": triangles, "both": both}[faces]
    found = read(ply(given, order))
    assert found.shape == (12, 3, 3)
    assert volume(found) == pytest.approx(8)


def test_a_pentagon_becomes_three_triangles() -> None:
    for data, name in ((ply([[0, 1, 2, 3, 7]], "<"), "11.ply"), (obj([[0, 1, 2, 3, 7]]), "11.obj")):
        assert len(read(data, name)) == 3


def test_vertices_keep_the_order_of_the_file_and_are_not_merged() -> None:
    for data, name in ((ply(SIDES[:1]), "11.ply"), (obj(SIDES[:1]), "11.obj")):
        vertices, faces = mesh_file.read(data, file=name, tooth=11)
        np.testing.assert_array_equal(vertices, BOX)
        assert faces.tolist() == [[0, 3, 2], [0, 2, 1]]


def _counted_back(corner: "re.Match[bytes]") -> bytes:
    return b"-%d" % (9 - int(corner.group(1)))


ODD_OBJ: dict[str, Callable[[bytes], bytes]] = {
    "comments": lambda data: b"# Jane\n" + data.replace(b"\nf", b" # Jane\nf"),
    "groups and materials": lambda data: re.sub(rb"(\nf )", rb"\no Jane\ng a b\nusemtl c\ns off\1", data),
    "textures alone": lambda data: data.replace(b"/1/1", b"/1"),
    "normals alone": lambda data: data.replace(b"/1/1", b"//1"),
    "corners alone": lambda data: data.replace(b"/1/1", b""),
    "negative indices": lambda data: re.sub(rb"(\d)/1/1", _counted_back, data),
    "vertices after faces": lambda data: data[data.index(b"f ") :] + b"\n" + data[: data.index(b"f ")],
    "colours": lambda data: re.sub(rb"(\nv .*)", rb"\1 0.5 0.5 0.5", data),
    "tabs": lambda data: data.replace(b" ", b"\t"),
    "CR line ends": lambda data: data.replace(b"\n", b"\r"),
    "continued lines": lambda data: re.sub(rb"(\nf \S+) ", rb"\1 \\\r\n ", data),
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "a material file": lambda data: b"mtllib /etc/passwd\n" + data,
}


@pytest.mark.parametrize("kind", ODD_OBJ)
def test_an_odd_obj_is_read_whole(kind: str) -> None:
    assert volume(read(ODD_OBJ[kind](obj()), "11.obj")) == pytest.approx(8)


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_an_ascii_ply_may_have_any_line_ends(end: bytes) -> None:
    assert volume(read(ply(SIDES).replace(b"\n", end))) == pytest.approx(8)


def test_other_elements_of_a_ply_are_passed_over() -> None:
    more = b"element material 2\nproperty float x\nproperty list uchar int y\nend_header\n"
    data = ply(SIDES).replace(b"end_header\n", more) + b"0.5 2 1 1\n0.5 0\n"
    assert volume(read(data)) == pytest.approx(8)


@pytest.mark.parametrize("order", ["", "<", ">"])
def test_a_ply_that_contradicts_its_counts_is_refused(order: str) -> None:
    assert refused(ply(SIDES, order, promised=7)).code == "truncated_mesh"
    assert refused(ply(SIDES, order, vertices=1000)).code == "truncated_mesh"
    assert refused(ply(SIDES, order, promised=5)).code == "contradictory_mesh"
    whole = ply(SIDES, order)
    assert refused(whole[:-3]).code in ("truncated_mesh", "malformed_mesh")
    assert refused(whole[: len(whole) // 3]).code == "truncated_mesh"  # within the header
    if order:
        assert refused(whole + whole).code == "contradictory_mesh"
        assert volume(read(ply(SIDES, order, tail=b"\0\n"))) == pytest.approx(8)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"\n7 4 0 3 2 1", b"\n7 4 0 3 2 8", "malformed_mesh"),
        (b"\n7 4 0 3 2 1", b"\n7 4 0 3 2 -1", "malformed_mesh"),
        (b"\n7 4 0 3 2 1", b"\n7 4 0 3 2 1.5", "malformed_mesh"),
        (b"\n7 4 0 3 2 1", b"\n7 2 0 3", "malformed_mesh"),
        (b"\n7 4 0 3 2 1", b"\n7 -4 0 3 2 1", "malformed_mesh"),
        (b"2.0 2.0 0.0", b"2.0 two 0.0", "malformed_mesh"),
        (b"2.0 2.0 0.0", b"2.0 nan 0.0", "mesh_not_finite"),
        (b"property list uchar int", b"property list uchar bool", "malformed_mesh"),
        (b"property double x", b"property double w", "malformed_mesh"),
        (b"format ascii 1.0\n", b"", "malformed_mesh"),
        (b"format ascii", b"format ebcdic", "malformed_mesh"),
        (b"element vertex 8", b"element vertex -8", "malformed_mesh"),
        (b"element vertex 8", b"element vertex eight", "malformed_mesh"),
        (b"element face 6", b"element face 0", "contradictory_mesh"),
    ],
)
def test_a_damaged_ply_is_refused(old: bytes, new: bytes, code: str) -> None:
    whole = ply(SIDES)
    assert old in whole
    assert refused(whole.replace(old, new, 1)).code == code


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"f 1/1/1", b"f 0/1/1", "malformed_mesh"),
        (b"f 1/1/1", b"f 9/1/1", "malformed_mesh"),
        (b"f 1/1/1", b"f -9", "malformed_mesh"),
        (b"f 1/1/1", b"f 99999999999999999999999999", "malformed_mesh"),
        (b"f 1/1/1", b"f Jane", "malformed_mesh"),
        (b"f 1/1/1 4/1/1 3/1/1 2/1/1", b"f 1 2", "malformed_mesh"),
        (b"v 2.0 2.0 0.0", b"v 2.0 2.0", "malformed_mesh"),
        (b"v 2.0 2.0 0.0", b"v 2.0 Jane 0.0", "malformed_mesh"),
        (b"v 2.0 2.0 0.0", b"v 2.0 inf 0.0", "mesh_not_finite"),
        (b"\nf", b"\nl", "empty_mesh"),
    ],
)
def test_a_damaged_obj_is_refused_without_a_word_of_it(old: bytes, new: bytes, code: str) -> None:
    defect = refused(obj().replace(old, new), "11.obj")
    assert defect.code == code
    assert "Jane" not in str(defect)


@pytest.mark.parametrize(("data", "name"), [(ply(SIDES), "11.ply"), (obj(), "11.obj")])
def test_decimal_commas_are_named_as_such(data: bytes, name: str) -> None:
    assert "decimal commas" in refused(data.replace(b".0", b",0"), name).seen


@pytest.mark.parametrize(
    ("data", "name", "seen"),
    [
        (b"\x1f\x8b\x08", "11.ply", "not a PLY: a gzip file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "11.obj", "not an OBJ: a Git LFS pointer"),
        (b"<html>Log in</html>", "11.obj", "not an OBJ: a web page"),
        (ball("stl_ascii"), "11.ply", "not a PLY: an STL file"),
        (obj(), "11.ply", "not a PLY: an OBJ file"),
        (ball("stl"), "11.obj", "not an OBJ: an STL file"),
        (b"ply\n".ljust(80) + ball("stl")[80:], "11.ply", "not a PLY: an STL file"),
        (ply(SIDES, "<"), "11.obj", "not an OBJ: a PLY file"),
        (ply(SIDES, "<"), "11.stl", "not an STL: a PLY file"),
        (b"solid", "11.vtp", "the extension is not .stl, .ply or .obj"),
    ],
)
def test_what_is_another_kind_of_file_is_named(data: bytes, name: str, seen: str) -> None:
    defect = refused(data, name)
    assert (defect.code, defect.seen) == ("not_a_mesh", seen)


BIG = 1_000_000
HEADER = b"ply\nformat %b 1.0\nelement %b\nproperty list uchar uchar vertex_indices\nend_header\n"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (ply(SIDES, "<", promised=4_000_000_000), "11.ply"),
        (ply(SIDES, "", vertices=10**15), "11.ply"),
        (HEADER % (b"binary_little_endian", b"face 9999999") + bytes(BIG), "11.ply"),
        (HEADER % (b"ascii", b"face 3") + b"\n" * BIG, "11.ply"),
        (HEADER % (b"ascii", b"face 3") + b"1000000000 1 2 3\n", "11.ply"),
        (b"v 0 0 0\n" + b"f 1 1 1\n" * (BIG // 8), "11.obj"),
    ],
)
def test_a_hostile_file_takes_no_memory(data: bytes, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_file, "MOST_FACES", 1000)
    with memory_below(10 * BIG):
        refused(data, name)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"Jane Doe".ljust(80) + ball("stl")[80:], "11.stl"),
        (ball("stl_ascii").replace(b"solid ", b"solid Jane Doe ") + b"Jane Doe\n", "11.stl"),
        (ply(SIDES), "11.ply"),
        (ply(SIDES, ">"), "11.ply"),
        (b"# Jane Doe\no Jane Doe\n" + obj(), "11.obj"),
    ],
)
def test_a_mesh_without_its_text_is_the_same_mesh_with_the_same_digest(data: bytes, name: str) -> None:
    clean = mesh_file.without_text(data, file=name, tooth=11)
    assert b"Jane" in data
    assert b"Jane" not in clean
    np.testing.assert_array_equal(read(clean, name), read(data, name))
    assert mesh_file.without_text(clean, file=name, tooth=11) == clean
    digest = mesh_file.mesh_sha256(data, file=name)
    for same in (clean, data.replace(b"Jane Doe", b"John Roe")):
        assert mesh_file.mesh_sha256(same, file=name) == digest
    other = data.replace(b"2.0", b"2.5", 1) if b"2.0" in data else data[:-3] + b"\x01" + data[-2:]
    if name != "11.stl":
        assert mesh_file.mesh_sha256(other, file=name) != digest
