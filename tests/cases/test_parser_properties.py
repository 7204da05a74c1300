"""Documents and meshes that hypothesis makes up, and a short coverage-guided run if atheris is here."""

import contextlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from dentalign.cases import case_document
from dentalign.errors import CaseDefect, ToothDefect
from dentalign.geometry import mesh_file, stl
from tests.fuzz.fuzz_parsers import HERE, TARGETS, one_document, one_mesh

CORPUS = sorted(path for path in (HERE / "corpus").rglob("*") if path.is_file())

# --- documents

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "1e999", "NaN", "-Infinity", "1_0", " 2.5 ", "0x1", "١", "1987-05-12"])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
numbers = st.floats(-100, 100, allow_nan=False).map(lambda x: x + 0.0)
written = numbers | numbers.map(str) | numbers.map(lambda x: f" {x:.6e} ")


def objects(names: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, values))


good_pose = st.fixed_dictionaries({
    "translation": st.fixed_dictionaries(dict.fromkeys("xyz", written)),
    "rotation": st.fixed_dictionaries(dict.fromkeys("xyzw", written)),
})  # fmt: skip
odd_pose = st.fixed_dictionaries(
    {},
    optional={
        "translation": objects("xyz", scalars) | anything,
        "rotation": objects("xyzw", scalars) | anything,
    },
)
poses = good_pose | odd_pose | anything
fdis = st.sampled_from(["11", "21", "36", "55", "99", "0", "011", "x", ""]) | st.text(max_size=4)
teeth = st.dictionaries(fdis, poses, max_size=4)
jaws = {"MandibularTransform": poses, "MaxillaryTransform": poses}
spellings = ("ToothTransforms", "RelativeToothTransforms", "RelativeToothTransformsHead")
places = objects("xyz", written | scalars) | anything
keys = [key for kind in case_document.POINTS.values() for key in kind]
points = st.dictionaries(fdis, st.dictionaries(st.sampled_from([*keys, "x"]), places, max_size=3) | anything)
stages = st.fixed_dictionaries(
    {},
    optional={"Stage": scalars, "Landmarks": points | anything}
    | jaws
    | dict.fromkeys(spellings, teeth | anything),
)
documents = st.fixed_dictionaries(
    {"Staging": st.lists(stages | anything, max_size=4) | anything},
    optional={
        "CaseID": st.sampled_from(["c1", " c1 ", "c2", None, 5]) | anything,
        "T2Stage": st.integers(-1, 5) | scalars,
        "mandibularRelativeTransform": poses,
        "maxillaRelativeTransform": poses,
        "PatientName": anything,
        "Bolton": points | anything,
    },
)


@given(documents)
def test_a_made_up_document_is_a_case_that_survives_writing_or_has_a_reason(document: Any) -> None:
    one_document(json.dumps(document).encode())


@given(documents, st.data())
def test_a_document_cut_or_changed_anywhere_is_a_case_or_has_a_reason(document: Any, data: Any) -> None:
    text = bytearray(json.dumps(document).encode())
    place = data.draw(st.integers(0, len(text) - 1))
    text[place : place + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    one_document(bytes(text))


@given(st.dictionaries(st.sampled_from(["11", "12", "21", "36", "47"]), good_pose, min_size=1))
def test_good_poses_are_kept_as_they_were_written(poses_of: dict[str, Any]) -> None:
    given_document = {"CaseID": "c1", "T2Stage": 0, "Staging": [{"ToothTransforms": poses_of}]}
    found = case_document.as_json(case_document.parse(json.dumps(given_document).encode(), "c1"))
    kept = found["Staging"][0]["ToothTransforms"]
    for fdi, pose in poses_of.items():
        for part, values in pose.items():
            assert kept[fdi][part] == {name: float(value) for name, value in values.items()}


@given(anything)
def test_no_text_of_a_document_is_in_what_is_kept(value: Any) -> None:
    mark = "Ivan-Petrovich"
    marked = json.loads(json.dumps({mark: value, "x": mark}).replace('""', f'"{mark}"'))
    stage = {"ToothTransforms": {"11": marked, mark: marked}, "Note": marked, "Stage": mark}
    of_teeth = {"11": dict.fromkeys(keys, marked), mark: marked, "12": marked, "13": {"MCPoint": {"x": mark}}}
    document = {"Staging": [stage | {"Landmarks": of_teeth}, marked], "Bolton": of_teeth}
    keep = tuple(case_document.POINTS)
    try:
        kept = case_document.canonical(case_document.parse(json.dumps(document).encode(), "c1", keep=keep))
    except CaseDefect as defect:
        kept = str(defect).encode()
    assert mark.encode() not in kept


# --- meshes

corners = st.lists(
    st.lists(st.floats(-50, 50, width=32), min_size=9, max_size=9), min_size=1, max_size=8
).map(lambda rows: np.array(rows, np.float32).reshape(-1, 3, 3))


def binary(triangles: np.ndarray, header: bytes, promised: int) -> bytes:
    facets = np.zeros(len(triangles), stl._FACET)
    facets["corners"] = triangles
    return header.ljust(80)[:80] + promised.to_bytes(4, "little") + facets.tobytes()


def ascii_(triangles: np.ndarray, name: str, end: str) -> bytes:
    lines = [f"solid {name}"]
    for triangle in triangles:
        lines += ["facet normal 0 0 1", "outer loop"]
        lines += [f"vertex {x!r} {y!r} {z!r}" for x, y, z in triangle.tolist()]
        lines += ["endloop", "endfacet"]
    return end.join([*lines, f"endsolid {name}", ""]).encode()


@given(corners, st.binary(max_size=80), st.binary(max_size=49))
def test_a_binary_mesh_comes_back_whatever_its_header_and_tail(
    triangles: np.ndarray, header: bytes, tail: bytes
) -> None:
    whole = binary(triangles, header, len(triangles))
    np.testing.assert_array_equal(stl.read_triangles(whole, file="", tooth=11), triangles)
    if not header.lstrip().lower().startswith((b"solid", b"<")):
        np.testing.assert_array_equal(stl.read_triangles(whole + tail, file="", tooth=11), triangles)
    one_mesh(whole)


@given(corners, st.from_regex(r"[A-Za-z0-9 _.-]{0,20}", fullmatch=True), st.sampled_from(["\n", "\r\n"]))
def test_an_ascii_mesh_comes_back_whatever_its_name(triangles: np.ndarray, name: str, end: str) -> None:
    data = ascii_(triangles, name, end)
    np.testing.assert_array_equal(stl.read_triangles(data, file="", tooth=11), triangles)
    one_mesh(data)


@given(corners, st.integers(0, 2**32 - 1), st.booleans(), st.data())
def test_a_mesh_cut_or_changed_anywhere_is_triangles_or_has_a_reason(
    triangles: np.ndarray, promised: int, text: bool, data: Any
) -> None:
    mesh = bytearray(ascii_(triangles, "x", "\n") if text else binary(triangles, b"x", promised))
    place = data.draw(st.integers(0, len(mesh) - 1))
    mesh[place : place + data.draw(st.integers(0, 200))] = data.draw(st.binary(max_size=16))
    one_mesh(bytes(mesh))


@given(st.sampled_from(["ply", "ply ascii", "obj"]), st.data())
def test_a_ply_or_obj_cut_or_changed_anywhere_is_triangles_or_has_a_reason(kind: str, data: Any) -> None:
    options = {"encoding": "ascii"} if "ascii" in kind else {}
    exported = trimesh.creation.box().export(file_type=kind[:3], **options)
    mesh = bytearray(exported if isinstance(exported, bytes) else exported.encode())
    place = data.draw(st.integers(0, len(mesh) - 1))
    mesh[place : place + data.draw(st.integers(0, 60))] = data.draw(st.binary(max_size=16))
    with contextlib.suppress(ToothDefect):
        found = mesh_file.read_triangles(bytes(mesh), file=f"11.{kind[:3]}", tooth=11)
        assert len(found)
        assert np.isfinite(found).all()
        clean = mesh_file.without_text(bytes(mesh), file=f"11.{kind[:3]}", tooth=11)
        assert np.array_equal(mesh_file.read_triangles(clean, file=f"11.{kind[:3]}", tooth=11), found)


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"solid", b"solid x\nfacet normal 0 0 1\nouter loop\n"]),
)
def test_bytes_after_any_beginning_are_triangles_or_have_a_reason(data: bytes, beginning: bytes) -> None:
    one_mesh(beginning + data)
    one_document(beginning + data)


# --- what the fuzzers found, and a short run of them


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_once_stays_good(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def test_the_corpus_is_small_and_has_both_good_and_bad(tmp_path: Path) -> None:
    assert sum(path.stat().st_size for path in CORPUS) < 100_000
    good = {"case_document": 0, "stl": 0}
    for path in CORPUS:
        try:
            if path.parent.name == "stl":
                stl.read_triangles(path.read_bytes(), file="", tooth=11)
            else:
                case_document.parse(path.read_bytes(), "c1")
        except (CaseDefect, ToothDefect):
            continue
        good[path.parent.name] += 1
    for name, count in good.items():
        assert 0 < count < sum(path.parent.name == name for path in CORPUS)


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_short_coverage_guided_run_finds_no_crash(tmp_path: Path, target: str) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: python -m pip install '.[fuzz]'")
    words = [sys.executable, str(HERE / "fuzz_parsers.py"), target, "-runs=2000", "-seed=1"]
    done = subprocess.run(
        [*words, str(tmp_path), str(HERE / "corpus" / target)],
        cwd=tmp_path, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Done 2000 runs" in done.stdout
