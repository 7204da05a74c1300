"""Reading STL: both forms, and everything that a broken export may hold."""

import contextlib
import hashlib
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


def test_bytes_after_the_last_triangle_do_no_harm() -> None:
    np.testing.assert_array_equal(read(binary() + b"\0\0\0"), read(binary()))


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


@pytest.mark.parametrize("damage", [(b"vertex", b"vertix"), (b"endloop", b""), (b"4.0", b"four")])
def test_a_damaged_ascii_file_is_refused_or_read_whole(damage: tuple[bytes, bytes]) -> None:
    with contextlib.suppress(ToothDefect):
        np.testing.assert_allclose(read(ascii_().replace(*damage)), SPHERE.triangles, atol=1e-6)


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
