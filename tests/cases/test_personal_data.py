"""Nobody's name in anything that is written, kept or said."""

import csv
import json
import re
import shutil
import struct
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trimesh

from dentalign.cases import case_list
from dentalign.cases.settings import Fetch, Limits
from dentalign.cases.sources.meshes import MeshStore
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
def own_cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str, Path]:
    """After `dvc repro`: the project, what was said, and the practice full of names."""
    project = make(tmp_path_factory.mktemp("own practice") / "project")
    practice = own_practice(project)
    return project, project.dvc("repro", "--verbose").stdout, practice


def test_no_personal_data_are_in_anything_written_cached_or_said(
    own_cases: tuple[Project, str, Path],
) -> None:
    project, said, practice = own_cases
    assert len(leaks(practice, WORDS)) > 50  # the search finds them where they are
    assert leaks(project.root, WORDS) == []
    assert leaks(Path(project.environment["DVC_SITE_CACHE_DIR"]), ("Zoë", "needles", "clinic.example")) == []
    assert [word for word in WORDS if word in said] == []
    for place in ("data/json", "data/latents.h5", "reports/left_out.csv", ".dvc/cache", ".dentalign/fetch"):
        assert (project.root / place).exists()


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
