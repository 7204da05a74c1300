"""`dentalign predict --crowns`: from a folder of crowns without a JSON to a plan, in one command."""

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dentalign import cli
from tests.support.small_models import write_models, write_mouth


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crowns")
    write_models(folder / "models")
    return write_mouth(folder)


@pytest.fixture(autouse=True)
def _without_params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work where there is no params.yaml."""
    monkeypatch.chdir(tmp_path)


def run(place: Path, *words: str) -> str:
    models = f"{place}/models"
    done = CliRunner().invoke(cli.app, [*words, "--models", models] if words[0] == "predict" else [*words])
    assert done.exit_code == 0, done.output
    return done.output


def test_one_command_writes_what_import_and_predict_write(place: Path, tmp_path: Path) -> None:
    options = ("--device", "cpu", "--poses-only")
    said = run(place, "predict", "--crowns", f"{place}/scan/m1", "--out", f"{tmp_path}/one", *options)
    assert f"predict: models: {place}/models (alignment.pt " in said
    run(place, "import", "crowns", f"{place}/scan/m1", f"{tmp_path}/cases")
    run(place, "predict", "--case", f"{tmp_path}/cases/json", "--meshes", f"{tmp_path}/cases/stl",
        "--out", f"{tmp_path}/two", *options)  # fmt: skip
    for name in ("json/m1.json", "movement/m1.csv", "teeth.tsv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    kept, imported = tmp_path / "one" / "crowns" / "m1", tmp_path / "cases" / "stl" / "m1"
    assert {file.name: file.read_bytes() for file in kept.iterdir()} == {
        file.name: file.read_bytes() for file in imported.iterdir()
    }


def test_what_either_step_leaves_out_is_listed_once_with_the_files_of_the_user(
    place: Path, tmp_path: Path
) -> None:
    crowns = tmp_path / "m2"
    crowns.mkdir()
    for file in (place / "scan" / "m1").iterdir():
        (crowns / file.name).write_bytes(file.read_bytes())
    (crowns / "tooth_11.stl").write_bytes(b"")
    (crowns / "lower_gum.stl").write_bytes((crowns / "tooth_21.stl").read_bytes())
    out = tmp_path / "out"
    run(place, "predict", "--crowns", str(crowns), "--out", str(out), "--device", "cpu", "--poses-only")
    with open(out / "left_out.csv", encoding="utf-8", newline="") as table:
        lines = [(row["case_id"], row["code"], row["file"]) for row in csv.DictReader(table)]
    assert sorted(lines) == [
        ("m2", "empty_file", str(crowns / "tooth_11.stl")),
        ("m2", "not_a_crown", str(crowns / "lower_gum.stl")),
    ]


def test_the_table_for_spreadsheets_has_a_row_per_tooth_of_all_cases(place: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = tmp_path / "mouths" / name
        folder.mkdir(parents=True)
        for file in (place / "scan" / "m1").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    out = tmp_path / "out"
    run(place, "predict", "--crowns", f"{tmp_path}/mouths", "--out", str(out), "--poses-only")
    with open(out / "teeth.tsv", encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    assert [row["case_id"] for row in rows] == ["a"] * 28 + ["b"] * 28
    with open(out / "movement" / "b.csv", encoding="utf-8", newline="") as table:
        expected = next(csv.DictReader(table))
    assert rows[28].items() >= expected.items()
    with open(out / "to_look_at.csv", encoding="utf-8", newline="") as table:
        looks = [(row["case_id"], row["tooth"], row["code"]) for row in csv.DictReader(table) if row["tooth"]]
    assert looks
    named = {(row["case_id"], row["fdi"]): row["to_look_at"].split() for row in rows}
    assert sum(map(len, named.values())) == len(looks)
    assert all(code in named[case_id, tooth] for case_id, tooth, code in looks)


def test_crowns_do_not_go_with_a_case() -> None:
    for words in (["--crowns", "x", "--case", "y"], ["--case", "y"], ["--numbering", "fdi"], []):
        assert CliRunner().invoke(cli.app, ["predict", "--out", "z", *words]).exit_code == 2
