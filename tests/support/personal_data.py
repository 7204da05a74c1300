"""A practice whose files are full of names, dates and addresses, and the search for them."""

import csv
import json
import re
import shutil
from itertools import count
from pathlib import Path
from typing import Any

from dentalign.cases import case_list
from tests.support.pipeline_project import FDIS, Project

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
PLANNERS = ("Dr Quillfeather", "Ñandú's protocol", "", "DR QUILLFEATHER")  # two planners
WORDS = (
    "Petrovich", "Zoë", "Zo\\u00eb", "needles", "clinic.example",
    "1987-05", "19870512", "916 123", "79161234567", "Quillfeather", "QUILLFEATHER", "Ñandú",
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
        writer.writerow([*rows[0], "patient_id", "name", "note", "planner"])
        writer.writerows(
            [*row, named_patient(row[0]), PLANTED["name"], PLANTED["free"], PLANNERS[number % len(PLANNERS)]]
            for number, row in enumerate(rows[1:])
        )
        writer.writerow([PLANTED["name"], PLANTED["mail"]])
        writer.writerow([rows[1][0], named_patient(rows[1][0])])  # a second time
    for mesh in (practice / "stl").rglob(f"{FDIS[0]}.stl"):
        data = mesh.read_bytes()
        mesh.write_bytes(str(PLANTED["name"]).encode().ljust(80) + data[80:])
        (mesh.parent / f"{PLANTED['name']}.stl").write_bytes(data)
    return practice
