"""`dentalign pseudonymise`: no case id, name or free text goes on, and nothing else is lost."""

import csv
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from dentalign import pseudonymise as module
from dentalign.cases import case_list, planners
from dentalign.cases.settings import Limits
from dentalign.errors import DentalignError, NothingUsable, ParamError, ToothDefect
from dentalign.files import atomic, csv_table
from dentalign.geometry import mesh_file, stl
from dentalign.pseudonymise import KEY_VARIABLE, PseudonymiseResult, keyed_hash, pseudonymise
from tests.support.personal_data import WORDS, leaks, own_practice
from tests.support.pipeline_project import Project, make
from tests.support.repository import ROOT

Build = Callable[..., dict[str, Any]]
KEY = "a key for the tests, of some length"
SPHERE = trimesh.creation.icosphere(1, 4.0)


def name_of(case_id: str) -> str:
    return keyed_hash("case", case_id, KEY.encode())


# --- the pipeline on pseudonymised cases


@pytest.fixture(scope="module")
def anonymous(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str, Path]:
    """A practice full of names, after `dentalign pseudonymise` and `dvc repro`; and what these said."""
    project = make(tmp_path_factory.mktemp("anonymous") / "project")
    practice = own_practice(project)
    project.environment[KEY_VARIABLE] = KEY
    said = project.run(
        "dentalign", "pseudonymise", "../practice", "../clean",
        "--map", "../whose.csv", "--planners", "../planners.csv",
    ).stdout  # fmt: skip
    del project.environment[KEY_VARIABLE]  # the pipeline needs no key
    for name, place in (("cases", "cases.csv"), ("json", "json"), ("meshes", "stl")):
        project.set(f"source.{name}", f"../clean/{place}")
    project.run(
        "dentalign", "list", "../clean/cases.csv", "--out", "../all.csv",
        "--autoencoder", "4", "--autoencoder-out", "../clean/autoencoder.csv",
    )  # fmt: skip
    project.set("autoencoder.cases", "../clean/autoencoder.csv")
    return project, said + project.dvc("repro", "--verbose").stdout, practice


def test_neither_personal_data_nor_a_case_id_is_in_anything_written_cached_or_said(
    anonymous: tuple[Project, str, Path],
) -> None:
    project, said, practice = anonymous
    ids = tuple(sorted(path.stem for path in (practice / "json").iterdir()))
    words = (*WORDS, *ids)
    assert len(leaks(practice, words)) > 50  # the search finds them where they are
    clean, index = project.root.parent / "clean", Path(project.environment["DVC_SITE_CACHE_DIR"])
    for folder in (clean, project.root):
        assert leaks(folder, (*words, KEY)) == []
    assert leaks(index, (*ids, "Zoë", "needles", "clinic.example")) == []
    assert [word for word in (*words, KEY) if word in said] == []
    assert len(list((clean / "json").iterdir())) == 19
    assert (project.root / "data" / "latents.h5").exists()


def test_the_map_says_whose_is_whose_and_is_its_owner_s_alone(anonymous: tuple[Project, str, Path]) -> None:
    project, _, practice = anonymous
    file = project.root.parent / "whose.csv"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    ids = {path.stem for path in (practice / "json").iterdir()}
    assert {row["case_id"]: row["pseudonym"] for row in rows} == {
        case_id: name_of(case_id) for case_id in ids
    }


def test_every_case_keeps_its_poses_and_meshes_and_what_was_left_out_is_named(
    anonymous: tuple[Project, str, Path],
) -> None:
    project, said, practice = anonymous
    clean = project.root.parent / "clean"
    meshes = list((practice / "stl").rglob("[1-4][1-8].stl"))
    assert len(meshes) == 160
    for file in meshes:
        carried = clean / "stl" / name_of(file.parent.name) / file.name
        if (clean / "json" / f"{carried.parent.name}.json").exists():
            assert carried.read_bytes() == bytes(80) + file.read_bytes()[80:]
    with open(clean / "left_out.csv", encoding="utf-8", newline="") as table:
        lines = list(csv.DictReader(table))
    assert {line["code"] for line in lines} == {
        "not_json", "unknown_tooth_key", "not_a_mesh", "duplicate_case_id", "bad_case_id",
    }  # fmt: skip
    assert "22 cases listed = 19 carried over + 0 there already + 3 left out; 152 meshes" in said
    used = case_list.read_splits(project.root / "data" / "cases.csv")
    assert len(used) == 19


# --- the command by itself


class Practice:
    """A case store of a few cases, and the pseudonymised store made of it."""

    def __init__(self, folder: Path, document: Build):
        self.source, self.dest, self._document = folder / "practice", folder / "clean", document
        (self.source / "json").mkdir(parents=True)
        for number in range(4):
            self.add(f"case-{number}", f"Ivan {number // 2}")
        self.write_list()

    def add(self, case_id: str, patient: str = "", planner: str = "") -> None:
        (self.source / "json" / f"{case_id}.json").write_text(json.dumps(self._document(case_id)))
        (self.source / "stl" / case_id).mkdir(parents=True)
        for fdi in (11, 12):
            (self.source / "stl" / case_id / f"{fdi}.stl").write_bytes(binary("Ivan", fdi / 10))
        self.rows = [*getattr(self, "rows", []), [case_id, patient, planner]]

    def write_list(self, columns: int = 2) -> None:
        heading = ["case_id", "patient_id", "planner"]
        text = csv_table.text(heading[:columns], (row[:columns] for row in self.rows))
        (self.source / "cases.csv").write_text(text, encoding="utf-8")

    def run(self, **options: Any) -> PseudonymiseResult:
        return pseudonymise(self.source, self.dest, **options)

    def made(self) -> dict[str, bytes]:
        """Content of what the user gets."""
        files = (path for path in self.dest.rglob("*") if path.is_file())
        return {
            path.relative_to(self.dest).as_posix(): path.read_bytes()
            for path in files
            if module.NOTES not in path.parts
        }

    def left_out(self) -> list[tuple[str, str, str, str]]:
        with open(self.dest / "left_out.csv", encoding="utf-8", newline="") as table:
            return [(row["case_id"], row["tooth"], row["code"], row["file"]) for row in csv.DictReader(table)]


def binary(name: str, size: float = 1.0) -> bytes:
    return stl.as_binary(SPHERE.vertices * size, SPHERE.faces, name.encode())


@pytest.fixture
def practice(tmp_path: Path, document: Build, monkeypatch: pytest.MonkeyPatch) -> Practice:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # in this process, where tests can interfere
    return Practice(tmp_path, document)


def test_a_name_is_an_hmac_as_the_rfc_defines_it() -> None:
    # RFC 2104 by hand: H(K ^ opad, H(K ^ ipad, text)).
    block = KEY.encode().ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + b"dentalign case 1623").digest()
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).hexdigest()
    assert keyed_hash("case", "1623", KEY.encode()) == f"p-{outer[:20]}"


def test_the_same_key_gives_the_same_names_and_splits_and_another_key_others(
    practice: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    practice.run()
    cases, bad = case_list.read(practice.dest / "cases.csv")
    assert not bad
    first = practice.made()
    practice.add("case-9", "Ivan 0")  # another case of a patient
    practice.write_list()
    practice.dest = practice.dest.with_name("later")
    practice.run()
    later, _ = case_list.read(practice.dest / "cases.csv")
    assert set(cases) < set(later)
    assert {
        case.split for case in later if case.patient_id == keyed_hash("patient", "Ivan 0", KEY.encode())
    } == {case.split for case in cases if case.case_id == name_of("case-0")}
    monkeypatch.setenv(KEY_VARIABLE, KEY + "!")
    practice.dest = practice.dest.with_name("other")
    practice.run()
    assert not {name for name in practice.made() if "p-" in name} & first.keys()


def test_a_planner_becomes_a_code_that_stays_and_cases_without_one_stay_without(
    practice: Practice, tmp_path: Path
) -> None:
    practice.rows = [
        [*row[:2], planner] for row, planner in zip(practice.rows, ("Dr Who", "", "Dr Who", "X"), strict=True)
    ]
    table = tmp_path / "planners.csv"

    def codes() -> list[str]:
        practice.write_list(columns=3)
        practice.run(planners_file=table)
        rows = csv.DictReader((practice.dest / "cases.csv").read_text().splitlines())
        found = {row["case_id"]: row["planner"] for row in rows}
        return [found.get(name_of(f"case-{number}"), "") for number in range(5)]

    first = codes()
    assert sorted(first) == ["", "", "planner-01", "planner-01", "planner-02"]
    assert (first[0], first[1]) == (first[2], "")
    assert planners.code_of("dr who", table) == first[0]
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    practice.add("case-4", "Ivan 2", "Aoi")
    assert codes() == [*first[:4], "planner-03"]
    assert leaks(practice.dest, ("Who", "Ivan", "Aoi")) == []


def test_a_list_of_its_own_and_a_folder_called_meshes_will_do(practice: Practice, tmp_path: Path) -> None:
    (practice.source / "stl").rename(practice.source / "meshes")
    (practice.source / "cases.csv").unlink()
    assert practice.run().new == 4  # all that is in json/
    (tmp_path / "some.csv").write_text("case_id\ncase-1\n")
    done = practice.run(cases=tmp_path / "some.csv")
    assert (done.listed, done.unchanged, done.meshes) == (1, 1, 2)
    assert [path.stem for path in (practice.dest / "json").iterdir()] == [name_of("case-1")]


def test_a_second_run_does_nothing_twice_and_takes_over_what_changed(practice: Practice) -> None:
    assert (practice.run().new, practice.run().unchanged) == (4, 4)
    before = {path: path.stat().st_mtime_ns for path in practice.dest.rglob("*.[js][st]*")}
    (practice.source / "stl" / "case-1" / "12.stl").write_bytes(binary("Ivan", 3.0))
    (practice.source / "stl" / "case-2" / "11.stl").unlink()
    practice.rows = practice.rows[:3]
    practice.write_list()
    done = practice.run()
    assert (done.new, done.unchanged, done.meshes) == (2, 1, 5)
    assert (practice.dest / "stl" / name_of("case-1") / "12.stl").read_bytes() == binary("", 3.0)
    assert [path.name for path in (practice.dest / "stl" / name_of("case-2")).iterdir()] == ["12.stl"]
    assert not [
        path for path in practice.dest.rglob("*") if name_of("case-3") in path.name
    ]  # no longer listed
    kept = [path for path in before if name_of("case-0") in str(path)]
    assert len(kept) == 4
    assert all(path.stat().st_mtime_ns == before[path] for path in kept)


@pytest.mark.parametrize("after", range(1, 12, 2))
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    practice: Practice, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    practice.run()
    whole = practice.made()
    shutil.rmtree(practice.dest)
    write, written = atomic.write_bytes, []

    def interrupted(path: Path, data: bytes) -> None:
        written.append(path)
        if len(written) > after:
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write_bytes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            practice.run()
    (practice.dest / "stl").mkdir(exist_ok=True)
    (practice.dest / "stl" / ".x.stl.1.part").write_text("of a killed run")
    done = practice.run()
    assert done.new + done.unchanged == 4
    assert practice.made() == whole


def test_what_cannot_be_carried_over_is_listed_and_counted_without_a_name(practice: Practice) -> None:
    folder = practice.source / "stl" / "case-0"
    (folder / "13.stl").write_bytes(binary("x") + b"Ivan" * 20)
    (folder / "14.stl").write_bytes(b"Ivan")
    (folder / "15.stl").symlink_to("/etc/hostname")
    (folder / "Ivan.stl").write_bytes(binary("x"))
    (practice.source / "json" / "case-1.json").write_text('{"CaseID": "case-2"}')
    (practice.source / "json" / "case-2.json").unlink()
    with open(practice.source / "cases.csv", "a", encoding="utf-8") as table:
        table.write("Ivan Petrovich,\n")
    done = practice.run()
    first = name_of("case-0")
    assert sorted(practice.left_out()) == sorted([
        (first, "13", "contradictory_mesh", f"stl/{first}/13.stl"),
        (first, "14", "not_a_mesh", f"stl/{first}/14.stl"),
        (first, "15", "mesh_link_out_of_folder", f"stl/{first}/15.stl"),
        (first, "?", "not_a_mesh", f"stl/{first}"),
        (name_of("case-1"), "", "case_id_differs", f"json/{name_of('case-1')}.json"),
        (name_of("case-2"), "", "not_found", f"json/{name_of('case-2')}.json"),
        ("line 6", "", "bad_case_id", "cases.csv: line 6"),
    ])  # fmt: skip
    assert str(done) == (
        "5 cases listed = 2 carried over + 0 there already + 3 left out; 4 meshes carried over, "
        "4 parts of cases left out"
    )
    assert leaks(practice.dest, ("Ivan", "case-")) == []
    assert practice.run().lines == done.lines  # what is there already still says what it lacks


def test_documents_in_capitals_and_crowns_as_ply_are_carried_over(practice: Practice) -> None:
    document, crown = practice.source / "json" / "case-0.json", practice.source / "stl" / "case-0" / "11.stl"
    document.rename(document.with_suffix(".JSON"))
    ply = trimesh.load_mesh(crown).export(file_type="ply")
    assert isinstance(ply, bytes)
    crown.with_suffix(".PLY").write_bytes(ply)
    crown.unlink()
    assert (practice.run().new, practice.left_out()) == (4, [])
    assert (practice.dest / "json" / f"{name_of('case-0')}.json").is_file()
    assert (practice.dest / "stl" / name_of("case-0") / "11.PLY").read_bytes().startswith(b"ply\n")


def test_without_a_usable_case_the_list_of_reasons_is_written(practice: Practice) -> None:
    shutil.rmtree(practice.source / "json")
    (practice.source / "json").mkdir()
    with pytest.raises(NothingUsable, match=r"left_out\.csv"):
        practice.run()
    assert {code for _, _, code, _ in practice.left_out()} == {"not_found"}


@pytest.mark.parametrize("key", ["", "short", "x" * 15])
def test_without_a_key_of_some_length_nothing_is_written(
    practice: Practice, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(ParamError, match=KEY_VARIABLE) as caught:
        practice.run()
    assert not key or f"'{key}'" not in str(caught.value)
    assert not practice.dest.exists()


@pytest.mark.parametrize("mark", [".git", ".dvc", "clean"])
def test_a_map_that_could_be_handed_on_with_the_data_is_refused(
    practice: Practice, tmp_path: Path, mark: str
) -> None:
    folder = tmp_path / ("clean" if mark == "clean" else "project")
    (folder / "deep").mkdir(parents=True)
    if mark != "clean":
        (folder / mark).mkdir()
        (tmp_path / "link").symlink_to(folder / "deep")
    else:
        shutil.rmtree(folder)
    for place in (folder / "whose.csv", folder / "deep" / "whose.csv", tmp_path / "link" / "whose.csv"):
        if mark != "clean" or "link" not in place.parts:
            with pytest.raises(ParamError, match="could be handed on"):
                practice.run(map_file=place)
            assert not place.exists()


def test_a_map_that_is_open_to_others_is_replaced_by_one_that_is_not(
    practice: Practice, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("old")
    (tmp_path / "a.csv").chmod(0o666)
    practice.run(map_file=tmp_path / "a.csv")
    assert stat.S_IMODE((tmp_path / "a.csv").stat().st_mode) == 0o600


def test_a_folder_that_is_something_else_is_left_alone(
    practice: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    practice.run(map_file=tmp_path / "whose.csv")
    before = practice.made(), (tmp_path / "whose.csv").read_bytes()
    monkeypatch.setenv(KEY_VARIABLE, KEY + "!")
    with pytest.raises(DentalignError, match="another key"):
        practice.run(map_file=tmp_path / "whose.csv")
    assert (practice.made(), (tmp_path / "whose.csv").read_bytes()) == before
    other = tmp_path / "other"
    (other / "json").mkdir(parents=True)
    with pytest.raises(DentalignError, match="contains something else"):
        pseudonymise(practice.source, other)
    for place in (practice.source, practice.source / "clean", tmp_path):
        with pytest.raises(ParamError, match="contains the other"):
            pseudonymise(practice.source, place)


MESHES = {
    "binary.stl": binary("Ivan"),
    "solid.stl": binary("solid Ivan"),
    "ascii.stl": str(trimesh.exchange.stl.export_stl_ascii(SPHERE))
    .replace("solid", "solid Ivan", 1)
    .replace("endfacet", "endfacet\ncomment Ivan", 1)
    .encode(),
    "text.obj": b"# Ivan\nmtllib Ivan.mtl\no Ivan\ng Ivan\n"
    + trimesh.exchange.obj.export_obj(SPHERE, header="Ivan").encode(),
    "binary.ply": trimesh.exchange.ply.export_ply(SPHERE).replace(b"comment", b"obj_info Ivan\ncomment", 1),
    "ascii.ply": trimesh.exchange.ply.export_ply(SPHERE, encoding="ascii").replace(
        b"comment", b"comment Ivan\ncomment", 1
    ),
}


@pytest.mark.parametrize("name", MESHES)
def test_a_mesh_loses_its_text_and_keeps_every_triangle(name: str) -> None:
    def triangles(data: bytes) -> Any:
        return trimesh.load_mesh(trimesh.util.wrap_as_stream(data), file_type=kind, process=False).triangles

    given, kind = MESHES[name], name[-3:]
    assert b"Ivan" in given
    clean = mesh_file.without_text(given, file=name, tooth=11)
    for word in (b"Ivan", b"comment", b"trimesh"):
        assert word not in clean
    # trimesh rounds the digits of an ASCII PLY to float32.
    np.testing.assert_allclose(triangles(clean), triangles(given), rtol=2e-7 * (name == "ascii.ply"), atol=0)
    assert mesh_file.without_text(clean, file=name, tooth=11) == clean


@pytest.mark.parametrize("kind", ["stl", "obj", "ply"])
@pytest.mark.parametrize(
    "data", [b"", b"Ivan", b"<html>Ivan</html>", b"ply\nIvan\nend_header\n", b"v 1 2 Ivan\n"]
)
def test_what_is_no_mesh_is_a_defect_that_does_not_quote_it(kind: str, data: bytes) -> None:
    with pytest.raises(ToothDefect) as caught:
        mesh_file.without_text(data, file=f"11.{kind}", tooth=11)
    assert "Ivan" not in str(caught.value)


def test_what_a_limit_kept_out_comes_once_the_limit_is_raised(practice: Practice) -> None:
    assert practice.run(limits=Limits(max_mesh_mb=0.001)).meshes == 0
    assert practice.run().meshes == 8
    shutil.rmtree(practice.dest / "stl" / name_of("case-1"))
    done = practice.run()  # what somebody has deleted in DEST comes back
    assert (done.new, done.unchanged, done.meshes) == (1, 3, 8)


def test_an_old_parameter_names_the_command_that_took_its_place(practice: Practice, tmp_path: Path) -> None:
    source = "{cases: c.csv, json: json, meshes: stl, pseudonym_map: ../whose.csv}"
    (tmp_path / "params.yaml").write_text(f"source: {source}\nfetch: {{}}\nlimits: {{}}\n")
    command = [sys.executable, str(ROOT / "stages" / "fetch_json.py")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert re.search(r"source\.pseudonym_map: run `dentalign pseudonymise SRC DEST`", done.stderr)
