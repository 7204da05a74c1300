"""Nobody's name in anything that is written, kept or said; and on request no case id."""

import csv
import json
import re
import shutil
import stat
import struct
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trimesh

from dentalign.cases import case_list, fetch, pseudonyms
from dentalign.cases.case_list import ListedCase
from dentalign.cases.pseudonyms import KEY_VARIABLE
from dentalign.cases.settings import Fetch, Limits
from dentalign.cases.sources.meshes import MeshStore
from dentalign.errors import CaseDefect, DentalignError, ParamError
from dentalign.geometry import stl
from tests.support.http_server import Server
from tests.support.pipeline_project import FDIS, Project, make

KEY = "a key for the tests, of some length"
PLANTED = {
    "name": "Ivan Petrovich",
    "Vorname": "Zoë-Änne",
    "mail": "ivan@clinic.example",
    "born": "1987-05-12",
    "compact": "19870512",
    "phone": "+7 916 123-45-67",
    "digits": 79161234567,
    "free": "Patient is afraid of needles",
}
WORDS = (
    "Petrovich", "Zoë", "Zo\\u00eb", "needles", "clinic.example",
    "1987-05", "19870512", "916 123", "79161234567",
)  # fmt: skip


def plant(value: Any) -> Any:
    """The document with all of PLANTED in unknown fields, and as their names, in every object."""
    if isinstance(value, dict):
        extra = {f"x_{name}": text for name, text in PLANTED.items()}
        named = {str(text): {str(text): [text, {"deep": text}]} for text in PLANTED.values()}
        return {key: plant(item) for key, item in value.items()} | extra | named
    return [plant(item) for item in value] if isinstance(value, list) else value


def plant_in_known_fields(document: dict[str, Any]) -> None:
    """Personal data where numbers, poses and tooth numbers are expected."""
    first = document["Staging"][0]
    first["Stage"] = PLANTED["born"]
    (teeth,) = (value for key, value in first.items() if key.endswith(("Transforms", "Head")))
    known = [key for key in teeth if re.fullmatch(r"\d\d", key)]
    teeth[known[0]]["translation"]["x"] = PLANTED["compact"]
    teeth[known[1]]["rotation"] = PLANTED["name"]
    teeth[known[2]] = [PLANTED["mail"], PLANTED["digits"]]
    document["Staging"].insert(1, PLANTED["free"])
    document["T2Stage"] = 2


def leaks(folder: Path, words: tuple[str, ...]) -> list[str]:
    """Files below a folder, git's own left out, that hold one of the words in their name or content."""
    found = []
    for path in folder.rglob("*"):
        if ".git" in path.relative_to(folder).parts:
            continue
        content = path.read_bytes() if path.is_file() else b""
        for word in words:
            if word in path.name or any(word.encode(code) in content for code in ("utf-8", "utf-16-le")):
                found.append(f"{path.relative_to(folder)}: {word}")
    return found


def named_patient(case_id: str) -> str:
    """A patient id that is a name and falls into the split that the case id alone would."""
    names = (f"{PLANTED['name']} {case_id} {number}" for number in count())
    return next(name for name in names if case_list.split_of(name) == case_list.split_of(case_id))


def own_practice(project: Project) -> Path:
    """Move the cases out of the project, as a user has them, with personal data wherever there is room."""
    practice = project.root.parent / "practice"
    shutil.move(project.root / "cases", practice)
    for name, place in (("cases", "cases.csv"), ("json", "json"), ("meshes", "stl")):
        project.set(f"source.{name}", f"../practice/{place}")
    project.set("autoencoder.cases", "../practice/autoencoder.csv")
    files = sorted((practice / "json").iterdir())
    for number, file in enumerate(files):
        document = plant(json.loads(file.read_text(encoding="utf-8")))
        if number in (0, 1):
            plant_in_known_fields(document)
        file.write_text(json.dumps(document, ensure_ascii=number % 2 == 0), encoding="utf-8")
    files[2].write_text(f'{{"PatientName": "{PLANTED["name"]}", {PLANTED["mail"]}', encoding="utf-8")
    rows = list(csv.reader((practice / "cases.csv").read_text(encoding="utf-8").splitlines()))
    with open(practice / "cases.csv", "w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table)
        writer.writerow([*rows[0], "patient_id", "name", "note"])
        writer.writerows([*row, named_patient(row[0]), PLANTED["name"], PLANTED["free"]] for row in rows[1:])
        writer.writerow([PLANTED["name"], PLANTED["mail"]])
        writer.writerow([rows[1][0], named_patient(rows[1][0])])  # a second time
    for mesh in (practice / "stl").rglob(f"{FDIS[0]}.stl"):
        data = mesh.read_bytes()
        mesh.write_bytes(str(PLANTED["name"]).encode().ljust(80) + data[80:])
        (mesh.parent / f"{PLANTED['name']}.stl").write_bytes(data)
    return practice


@pytest.fixture(scope="module")
def anonymous(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str, Path]:
    """After `dvc repro` with pseudonyms: the project, what was said, and the practice full of names."""
    root = tmp_path_factory.mktemp("anonymous") / "project"
    project = make(root)
    practice = own_practice(project)
    project.set("source.pseudonym_map", "../practice/whose.csv")
    project.environment[KEY_VARIABLE] = KEY
    return project, project.dvc("repro", "--verbose").stdout, practice


def test_no_personal_data_are_in_anything_written_cached_or_said(
    anonymous: tuple[Project, str, Path],
) -> None:
    project, said, practice = anonymous
    assert len(leaks(practice, WORDS)) > 50  # the search finds them where they are
    assert leaks(project.root, WORDS) == []
    assert leaks(Path(project.environment["DVC_SITE_CACHE_DIR"]), ("Zoë", "needles", "clinic.example")) == []
    assert [word for word in WORDS if word in said] == []
    for place in ("data/json", "data/latents.h5", "reports/left_out.csv", ".dvc/cache", ".dentalign/fetch"):
        assert (project.root / place).exists()


def test_with_pseudonyms_no_case_id_is_in_anything_written_cached_or_said(
    anonymous: tuple[Project, str, Path],
) -> None:
    project, said, practice = anonymous
    ids = tuple(sorted(path.stem for path in (practice / "json").iterdir()))
    assert len(leaks(practice, ids[:3])) > 3
    assert leaks(project.root, ids) == []
    assert [case_id for case_id in ids if case_id in said] == []
    assert KEY not in said
    assert leaks(project.root.parent, (KEY,)) == []


def test_with_pseudonyms_the_split_is_the_real_patient_s_and_the_map_says_whose(
    anonymous: tuple[Project, str, Path],
) -> None:
    project, _, practice = anonymous
    whose = practice / "whose.csv"
    assert stat.S_IMODE(whose.stat().st_mode) == 0o600
    real = pseudonyms.read_map(str(whose))
    splits = case_list.read_splits(project.root / "data" / "cases.csv")
    patients = {case.case_id: case for case in case_list.read(practice / "cases.csv")[0]}
    assert len(splits) == 19
    assert splits == {name: patients[real[name]].split for name in splits}
    assert all(re.fullmatch("p-[0-9a-f]{20}", name) for name in real)


def test_with_pseudonyms_every_case_has_its_own_meshes_and_the_list_of_the_left_out_names_pseudonyms(
    anonymous: tuple[Project, str, Path], finished_project: Project
) -> None:
    project, _, practice = anonymous
    real = pseudonyms.read_map(str(practice / "whose.csv"))
    found = {}
    for file in (project.root / "data" / "transforms").iterdir():
        for case in json.loads(file.read_bytes())["cases"]:
            for tooth in case["teeth"]:
                found[real[case["case_id"]], tooth["fdi"]] = tooth["mesh_sha256"]
                assert tooth["mesh"] == f"{case['case_id']}/{tooth['fdi']}.stl"
    for file in (finished_project.root / "data" / "transforms").iterdir():
        for case in json.loads(file.read_bytes())["cases"]:
            for tooth in case["teeth"]:
                wanted = tooth["mesh_sha256"]  # whatever stands in the header
                assert found.get((case["case_id"], tooth["fdi"]), wanted) == wanted
    assert len(found) > 100
    with open(project.root / "reports" / "left_out.csv", encoding="utf-8", newline="") as table:
        lines = list(csv.DictReader(table))
    assert {line["code"] for line in lines} >= {"not_json", "bad_pose", "duplicate_case_id", "bad_case_id"}
    for line in lines:
        assert line["case_id"] in real or line["case_id"].startswith("line ")


# --- pseudonyms by themselves


@pytest.fixture
def practice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder beside the project, which is the working folder; the key is set."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    return tmp_path


CASES = [ListedCase(case_id, f"patient {case_id}") for case_id in ("a", "b", "1623")]


def test_a_pseudonym_hangs_on_the_key_and_the_id_alone(
    practice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, real = pseudonyms.replace_ids(CASES, str(practice / "a.csv"))
    again, _ = pseudonyms.replace_ids(CASES[1:], str(practice / "b.csv"))
    assert set(again) < set(first)
    assert first == sorted(first)
    assert sorted(real.values()) == sorted(case.case_id for case in CASES)
    assert {case.patient_id for case in first} == {case.patient_id for case in CASES}
    monkeypatch.setenv(KEY_VARIABLE, KEY + "!")
    other, _ = pseudonyms.replace_ids(CASES, str(practice / "c.csv"))
    assert not {case.case_id for case in other} & {case.case_id for case in first}
    assert pseudonyms.read_map(str(practice / "a.csv")) == real


def test_a_pseudonym_is_an_hmac_as_the_rfc_defines_it() -> None:
    # RFC 2104 by hand: H(K ^ opad, H(K ^ ipad, text)).
    import hashlib

    block = KEY.encode().ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + b"dentalign case 1623").digest()
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).hexdigest()
    assert pseudonyms.pseudonym("1623", KEY.encode()) == f"p-{outer[:20]}"


@pytest.mark.parametrize("key", ["", "short", "x" * 15])
def test_without_a_key_of_some_length_nothing_is_written(
    practice: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(ParamError, match=KEY_VARIABLE) as caught:
        pseudonyms.replace_ids(CASES, str(practice / "a.csv"))
    assert not key or f"'{key}'" not in str(caught.value)
    assert not (practice / "a.csv").exists()


@pytest.mark.parametrize("place", ["whose.csv", "data/whose.csv", "../project/whose.csv", "link/whose.csv"])
def test_a_map_inside_the_project_is_refused(practice: Path, place: str) -> None:
    (practice / "project" / "link").symlink_to(practice / "project")
    with pytest.raises(ParamError, match="lies in the project"):
        pseudonyms.replace_ids(CASES, place)
    with pytest.raises(ParamError, match="lies in the project"):
        pseudonyms.read_map(place)


def test_a_map_that_is_open_to_others_is_replaced_by_one_that_is_not(practice: Path) -> None:
    (practice / "a.csv").write_text("old")
    (practice / "a.csv").chmod(0o666)
    pseudonyms.replace_ids(CASES, str(practice / "a.csv"))
    assert stat.S_IMODE((practice / "a.csv").stat().st_mode) == 0o600


def test_a_missing_or_foreign_map_ends_the_stage_and_says_how_to_go_on(practice: Path) -> None:
    with pytest.raises(DentalignError, match=r"dvc repro -f fetch_json"):
        pseudonyms.read_map(str(practice / "none.csv"))
    (practice / "other.csv").write_text("case_id\na\n")
    with pytest.raises(DentalignError, match="no map of pseudonyms"):
        pseudonyms.read_map(str(practice / "other.csv"))
    pseudonyms.replace_ids(CASES, str(practice / "a.csv"))
    (practice / "stl").mkdir()
    with (
        MeshStore(str(practice / "stl"), Limits(), pseudonym_map=str(practice / "a.csv")) as meshes,
        pytest.raises(DentalignError, match="of another run or key"),
    ):
        meshes.refresh("p-00000000000000000000/11.stl")


def test_errors_of_documents_and_meshes_name_the_pseudonym(
    practice: Path, serve: Callable[[], Server]
) -> None:
    cases, _ = pseudonyms.replace_ids([ListedCase("1623", "1623")], str(practice / "a.csv"))
    name = cases[0].case_id
    server = serve()
    for location in (str(practice / "stl"), server.url):
        (practice / "stl" / "1623").mkdir(parents=True, exist_ok=True)
        with MeshStore(location, Limits(), Fetch(retries=0), str(practice / "a.csv")) as meshes:
            for use in (meshes.refresh, meshes.mesh_path):
                with pytest.raises(CaseDefect, match="not_found") as caught:
                    use(f"{name}/11.stl")
                assert caught.value.file == f"{location}/{name}/11.stl"
                assert "1623" not in f"{caught.value} {caught.value!r}"
    assert {path for _, path, _ in server.requests} == {"/1623/11.stl"}


def test_a_fetch_over_the_network_asks_by_the_real_id_and_keeps_the_pseudonym(
    practice: Path, serve: Callable[[], Server], document: Callable[..., Any]
) -> None:
    server = serve()
    server.put("1623.json", document("1623"))
    server.put("1624.json", document("1623"))
    (practice / "list.csv").write_text("case_id\n1623\n1624\n")

    def run() -> fetch.Fetched:
        return fetch.fetch_cases(
            practice / "list.csv", server.url, out="data/json", cases_out="data/cases.csv",
            left_out="data/left_out.json", fetch=Fetch(), limits=Limits(),
            pseudonym_map=str(practice / "whose.csv"),
        )  # fmt: skip

    assert run() == fetch.Fetched(cases=1, unchanged=0, left_out=1)
    assert run() == fetch.Fetched(cases=1, unchanged=1, left_out=1)
    assert leaks(practice / "project", ("1623", "1624")) == []
    name = pseudonyms.pseudonym("1623", KEY.encode())
    assert json.loads(Path(f"data/json/{name}.json").read_bytes())["CaseID"] == name


def test_the_mirror_of_remote_meshes_is_without_the_names_in_stl_files(
    tmp_path: Path, state: Path, serve: Callable[[], Server]
) -> None:
    sphere = trimesh.creation.icosphere(1, 4.0)
    binary = bytes(trimesh.exchange.stl.export_stl(sphere))
    text = str(trimesh.exchange.stl.export_stl_ascii(sphere))
    text = text.replace("solid", "solid Ivan Petrovich", 1).replace("endsolid", "endsolid Ivan Petrovich")
    server = serve()
    server.put("a/11.stl", b"Ivan Petrovich".ljust(80) + binary[80:])
    server.put("a/12.stl", text.encode())
    server.put("a/13.stl", b"solid Ivan Petrovich".ljust(80) + binary[80:])
    with MeshStore(server.url, Limits(), Fetch()) as meshes:
        digests = [meshes.refresh(f"a/{fdi}.stl") for fdi in (11, 12, 13)]
        assert digests[0] == digests[2] == stl.mesh_sha256(bytes(80) + binary[80:])
        assert leaks(state, ("Ivan", "Petrovich", "petrovich")) == []
        for fdi in (11, 12, 13):
            data = meshes.mesh_path(f"a/{fdi}.stl").read_bytes()
            assert stl.read_triangles(data, file="", tooth=fdi).shape == sphere.triangles.shape
    assert struct.unpack("<I", binary[80:84])[0] == len(sphere.faces)
