"""Reading STL: both forms, and everything that a broken export may hold."""

import contextlib
import gzip
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import trimesh

from dentalign.errors import ToothDefect
from dentalign.geometry import stl

SPHERE = trimesh.creation.icosphere(2, 4.0)


def binary() -> bytes:
    return bytes(trimesh.exchange.stl.export_stl(SPHERE))


def ascii_() -> bytes:
    return str(trimesh.exchange.stl.export_stl_ascii(SPHERE)).encode()


def read(data: bytes) -> np.ndarray:
    return stl.read_triangles(data, file="1/11.stl", tooth=11)


def refused(data: bytes) -> ToothDefect:
    with pytest.raises(ToothDefect) as caught:
        read(data)
    assert caught.value.file == "1/11.stl"
    assert caught.value.tooth == 11
    return caught.value


@pytest.mark.parametrize("data", [binary(), ascii_(), ascii_().replace(b"\n", b"\r\n"), b"  " + ascii_()])
def test_both_forms_are_read_as_trimesh_reads_them(data: bytes) -> None:
    np.testing.assert_allclose(read(data), SPHERE.triangles, atol=1e-6)
    assert read(data).dtype == np.float64


@pytest.mark.parametrize("header", [b"solid exported", b"<!doctype html>", b"<html>"])
def test_a_binary_file_is_binary_whatever_its_header_begins_with(header: bytes) -> None:
    np.testing.assert_allclose(read(header.ljust(80) + binary()[80:]), SPHERE.triangles, atol=1e-6)


@pytest.mark.parametrize("tail", [b"\0\0\0", b"x" * 49, bytes(4096)])
def test_a_few_bytes_or_zeros_after_the_last_triangle_do_no_harm(tail: bytes) -> None:
    np.testing.assert_array_equal(read(binary() + tail), read(binary()))


@pytest.mark.parametrize(
    ("data", "figures"),
    [
        (binary()[:80] + (100).to_bytes(4, "little") + binary()[84:], "counts 100 triangles.*room for 320"),
        (binary()[:80] + bytes(4) + binary()[84:], "counts 0 triangles.*room for 320"),
        (binary() + binary(), "counts 320 triangles.*room for 641"),
        (binary() + ascii_(), "counts 320 triangles.*room for"),
        (binary() + b"x" * 50, "counts 320 triangles.*room for 321"),
    ],
)
def test_a_binary_file_that_holds_more_than_its_count_says_both_figures(data: bytes, figures: str) -> None:
    for start in (b"", b"solid Jane"):
        defect = refused(start.ljust(80, b"\0") + data[80:])
        assert defect.code == "contradictory_mesh"
        assert re.search(figures, defect.seen)


@pytest.mark.parametrize("cut", [1, 40, 83, 84, 100, 133, 5000])
def test_a_truncated_file_is_refused(cut: int) -> None:
    assert refused(binary()[:cut]).code == "truncated_mesh"


def test_a_header_that_promises_four_billion_triangles_is_refused() -> None:
    defect = refused(binary()[:80] + (2**32 - 1).to_bytes(4, "little") + binary()[84:])
    assert defect.code == "truncated_mesh"
    assert "promises 4294967295 triangles, the file holds 320" in defect.seen


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 84, b"solid x\nendsolid x\n".ljust(90), b"solid x\n  facet\nendsolid x\n"]
)
def test_a_file_without_a_triangle_is_refused(data: bytes) -> None:
    assert refused(data).code in {"empty_mesh", "malformed_mesh", "truncated_mesh"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_coordinate_that_is_no_number_is_refused(value: float) -> None:
    data = bytearray(binary())
    data[84 + 12 : 84 + 16] = np.float32(value).tobytes()
    assert refused(bytes(data)).code == "mesh_not_finite"


def with_name(name: str) -> bytes:
    return ascii_().replace(b"solid ", b"solid " + name.encode("latin-1") + b" ")


def changed(*pairs: tuple[str, str]) -> bytes:
    text = ascii_().decode()
    for pattern, new in pairs:
        text = re.sub(pattern, new, text)
    return text.encode("latin-1")


ODD_ASCII = {
    "name Facette": with_name("Facette_11"),
    "name Vertex": with_name("Vertex 11"),
    "name with a space before": with_name("   Vertex"),
    "name of keywords": with_name("facet something outer loop endloop endfacet vertex"),
    "name facet normal": with_name("facet normal"),
    "name of the end": with_name("endsolid"),
    "name that is not UTF-8": with_name("L\xfccke \xe9"),
    "words behind endsolid": ascii_() + b"; 320 facets written, facet normals kept\n; vertex count 960\n",
    "words on the line of endsolid": ascii_().rstrip() + b" // exported by solid works",
    "comments between facets": changed(("endfacet\n", "endfacet\n; next\n")),
    "words before solid": b"# written by a script\n" + ascii_(),
    "CR line ends": ascii_().replace(b"\n", b"\r"),
    "CRLF line ends": ascii_().replace(b"\n", b"\r\n"),
    "no line ends": ascii_().replace(b"\n", b" "),
    "blank lines": ascii_().replace(b"\n", b"\n\n \t\n"),
    "tabs": changed((" +", "\t")),
    "capitals": ascii_().upper(),
    "byte order mark": b"\xef\xbb\xbf" + ascii_(),
    "trailing NUL": ascii_() + bytes(700),
    "trailing Ctrl-Z": ascii_() + b"\x1a",
    "no normals": changed(("facet normal .*", "facet")),
    "normals without numbers": changed(("facet normal .*", "facet normal")),
    "normals NaN": changed(("facet normal .*", "facet normal nan -nan(ind) 1.#QNAN")),
    "exponents": changed((r"(-?\d+\.\d+)(?=\s)", r"\1E+00")),
    "Fortran exponents": changed((r"(-?\d+\.\d+)(?=\s)", r"\1D+00")),
    "plus signs": changed((r"(?<=\s)(\d+\.\d+)", r"+\1")),
    "several solids": ascii_().replace(b"endfacet", b"endfacet\nendsolid upper\n\nsolid lower\n", 100),
    "no line 'solid'": ascii_().split(b"\n", 1)[1],
}


@pytest.mark.parametrize("kind", ODD_ASCII)
def test_an_odd_ascii_file_is_read_and_its_text_goes(kind: str) -> None:
    data = ODD_ASCII[kind]
    np.testing.assert_allclose(read(data), SPHERE.triangles, atol=1e-6)
    clean = stl.without_text(data)
    np.testing.assert_array_equal(read(clean), read(data))
    assert set(re.findall(rb"[a-zA-Z]{2,}", clean)) == set(
        b"solid facet normal outer loop vertex endloop endfacet endsolid".split()
    )


@pytest.mark.parametrize(
    ("old", "new", "seen"),
    [
        (b"4.0", b"four", "facet"),
        (b"vertex", b"vertix", "facet 1 is not"),
        (b"endloop", b"", "facet 1 is not"),
        (b"outer loop", b"outer", "facet 1 is not"),
        (b"outer loop", b"outer loop\nvertex 0 0 0", "facet 1 is not"),
    ],
)
def test_one_damaged_facet_is_named_and_nothing_is_cut_short(old: bytes, new: bytes, seen: str) -> None:
    defect = refused(ascii_().replace(old, new, 1))
    assert defect.code == "malformed_mesh"
    assert seen in defect.seen


@pytest.mark.parametrize("bad", ["1.0.0", "1e", "--1", "0x1", "1_0", "1.0f", "x", "#QNAN"])
@pytest.mark.parametrize("place", [0, 500, 959])
def test_a_token_that_is_no_number_drops_the_mesh_wherever_it_stands(bad: str, place: int) -> None:
    vertices = [match.span(1) for match in re.finditer(rb"vertex \S+ (\S+)", ascii_())]
    start, end = vertices[place]
    defect = refused(ascii_()[:start] + bad.encode() + ascii_()[end:])
    assert defect.code == "malformed_mesh"
    assert f"facet {place // 3 + 1} " in defect.seen
    assert bad not in defect.seen  # it may be a name


@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "-Infinity", "1e999"])
def test_an_ascii_coordinate_that_is_not_finite_is_named_so(value: str) -> None:
    data = re.sub(rb"vertex \S+", b"vertex " + value.encode(), ascii_(), count=1)
    assert refused(data).code == "mesh_not_finite"


@pytest.mark.parametrize("pattern", [r"(\d)\.(\d)", r"(vertex -?\d+)\.(\d)", r"(vertex \S+ \S+ -?\d+)\.(\d)"])
@pytest.mark.parametrize("count", [0, 1])  # 0: all
def test_decimal_commas_are_named_as_such(pattern: str, count: int) -> None:
    text = re.sub("normal .*", "normal 0 0 1", ascii_().decode())
    defect = refused(re.sub(pattern, r"\1,\2", text, count=count).encode())
    assert defect.code == "malformed_mesh"
    assert "decimal commas" in defect.seen


def test_an_ascii_file_joined_with_a_binary_one_is_refused() -> None:
    assert refused(ascii_() + binary()).code == "malformed_mesh"


def test_two_ascii_files_joined_are_two_solids() -> None:
    assert len(read(ascii_() + ascii_())) == 2 * len(SPHERE.faces)


@pytest.mark.parametrize("end", [b"solid lower\n", b"solid lower\nfacet normal 0 0 1\nouter loop\nvertex 1"])
def test_a_file_that_ends_in_its_second_solid_is_truncated(end: bytes) -> None:
    assert refused(ascii_() + end).code == "truncated_mesh"


OTHER_FILES = {
    "a gzip file": gzip.compress(binary(), mtime=0),
    "a zip archive": b"PK\x03\x04" + binary(),
    "a compressed file": b"BZh9" + binary(),
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 76084\n",
    "a git-annex pointer": b"/annex/objects/SHA256E-s76084--4d7a.stl\n",
    "a web page": b"\xef\xbb\xbf\n<!-- 1 --><!DOCTYPE html><html>" + b" " * 500,
    "an XML document": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "a JSON document": b'{"CaseID": "1"}',
    "a PLY file": bytes(SPHERE.export(file_type="ply")),
    "an OBJ file": b"# Jane\nmtllib x.mtl\n" + SPHERE.export(file_type="obj").encode(),
    "a text in UTF-16": ascii_().decode().encode("utf-16"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_what_is_no_stl_is_named_with_a_fix(kind: str) -> None:
    defect = refused(OTHER_FILES[kind])
    assert (defect.code, defect.seen) == ("not_a_mesh", f"not an STL: {kind}")
    assert defect.fix


@pytest.mark.parametrize("header", [b"{", b"<x>", b"[mm]", b"PLY-like", b"OFF-line"])
def test_a_binary_file_with_a_tail_is_not_taken_for_what_its_header_looks_like(header: bytes) -> None:
    np.testing.assert_array_equal(read(header.ljust(80, b"\0") + binary()[80:] + b"tail"), read(binary()))


@pytest.mark.parametrize("text", [b"Jane Doe", b"FDI,file\n11,11.stl\n", b"../../cache/11.stl"])
def test_a_text_that_is_no_stl_is_named_without_a_word_of_it(text: bytes) -> None:
    assert str(refused(text)).startswith("not_a_mesh: not an STL: a text without a facet")


@pytest.mark.parametrize(
    "header", [b"\x1f\x8b", b"PK\x03\x04", b"ply\n", b"version https://git-lfs.github.com/"]
)
def test_a_whole_binary_stl_is_read_whatever_its_header_looks_like(header: bytes) -> None:
    assert len(read(header.ljust(80, b"\0") + binary()[80:])) == len(SPHERE.faces)


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.8])
def test_a_truncated_ascii_file_is_refused(keep: float) -> None:
    data = ascii_()
    assert refused(data[: int(keep * len(data))]).code == "truncated_mesh"
    cut = data.index(b"facet normal", int(keep * len(data)))  # between two triangles
    assert refused(data[:cut]).code == "truncated_mesh"


def test_random_bytes_give_a_defect_or_triangles_never_another_error() -> None:
    rng = np.random.default_rng(0)
    for length in (1, 50, 84, 134, 400, 2000):
        for start in (b"", b"solid", b"solid facet normal 0 0 0\nouter loop\nvertex "):
            with contextlib.suppress(ToothDefect):
                assert np.isfinite(read(start + rng.bytes(length))).all()


def test_the_hash_of_a_mesh_is_that_of_its_bytes_without_header_and_tail() -> None:
    wanted = hashlib.sha256(bytes(80) + binary()[80:]).hexdigest()
    for header in (b"", b"Jane Doe", b"solid Jane Doe"):
        data = header.ljust(80, b"\0") + binary()[80:]
        assert stl.mesh_sha256(data) == stl.mesh_sha256(data + b"Jane Doe, 1970") == wanted


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    stl.write_binary(tmp_path / "a.stl", SPHERE.vertices, SPHERE.faces)
    data = (tmp_path / "a.stl").read_bytes()
    wanted = SPHERE.vertices.astype(np.float32).astype(np.float64)[SPHERE.faces]
    np.testing.assert_array_equal(read(data), wanted)
    loaded = trimesh.load_mesh(tmp_path / "a.stl")
    assert loaded.is_watertight
    assert loaded.volume == pytest.approx(SPHERE.volume, rel=1e-5)
    stl.write_binary(tmp_path / "b.stl", SPHERE.vertices, SPHERE.faces)
    assert (tmp_path / "b.stl").read_bytes() == data
