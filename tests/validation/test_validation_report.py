"""The report of a validation: everything in it, the same bytes twice, nothing of this machine."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from dentalign.cases import left_out
from dentalign.cases.left_out import LeftOut
from dentalign.dataset.mouth_store import MouthStore
from dentalign.errors import DentalignError
from dentalign.teeth import SLOTS
from dentalign.validation.measurement import Validation, validate
from dentalign.validation.metrics import MEANINGS
from dentalign.validation.report import page as report_page
from dentalign.validation.report import pictures
from dentalign.validation.report.pictures import chosen_cases
from dentalign.validation.report.tables import COLUMNS
from tests.support.report_scenes import Page
from tests.support.report_validation import (
    ENCODER,
    EXTRACTED,
    LATE,
    SETTINGS,
    SHIFT_MM,
    TEETH,
    small_latents,
    small_models,
)

PARAMETERS = {"validate": {"batch_cases": 2}, "decoder": {"weights": "decoder.pt"}}


@pytest.fixture
def latents(tmp_path: Path) -> Path:
    return small_latents(tmp_path / "l.h5")


@pytest.fixture
def found(tmp_path: Path, latents: Path) -> Validation:
    return validate(latents, *small_models(tmp_path), SETTINGS)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "log" / "plots" / "metrics"
    folder.mkdir(parents=True)
    (folder / "loss.tsv").write_text("step\tloss\n1\t4.0\n2\t2.0\n3\t1.5\n")
    (folder / "val_add_mm.tsv").write_text("step\tval_add_mm\n1\t2.0\n2\t1.5\n3\t1.6\n")
    return tmp_path / "log"


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    lines = [
        LeftOut("case-9", "", "fetch_json", "not_json", "<b>not</b> JSON", "export again", "/home/x/9.json"),
        LeftOut("case-8", "16", "rigid_transforms", "zero_quaternion", "norm 0", "correct it", "8.json"),
        LeftOut("case-8", "17", "rigid_transforms", "zero_quaternion", "norm 0", "correct it", "8.json"),
    ]
    left_out.write_csv(tmp_path / "left_out.csv", lines)
    return tmp_path / "left_out.csv"


def report(
    folder: Path, found: Validation, latents: Path, log: Path | None = None, listed: Path | None = None
) -> Page:
    report_page.write(folder / "index.html", found, latents, log, listed)
    return Page.of(folder / "index.html")


def rows(page: Page, table: str) -> list[list[str]]:
    """Texts of the body cells of a table."""
    start = next(
        k for k, (tag, given, _) in enumerate(page.elements) if tag == "table" and given.get("id") == table
    )
    found: list[list[str]] = []
    for tag, _, text in page.elements[start + 1 :]:
        if tag == "table":
            break
        if tag == "tr":
            found.append([])
        if tag in ("td", "th") and found:
            found[-1].append("".join(text))
    return found[1:]


def test_it_is_the_same_bytes_twice_and_names_no_path_of_this_machine(
    tmp_path: Path, found: Validation, latents: Path, log: Path, listed: Path
) -> None:
    for name in ("a", "b"):
        report_page.write(tmp_path / name / "index.html", found, latents, log, listed, PARAMETERS)
    written = (tmp_path / "a" / "index.html").read_bytes()
    assert written == (tmp_path / "b" / "index.html").read_bytes()
    assert str(tmp_path).encode() not in written
    assert b"/home/x" not in written


def test_every_metric_is_there_for_the_model_all_baselines_and_the_true_t2(
    tmp_path: Path, found: Validation, latents: Path
) -> None:
    table = {
        cells[0]: cells[1:] for cells in rows(report(tmp_path, found, latents), "metrics") if len(cells) > 1
    }
    every = {name for block in ("model", "true_t2") for name in found.metrics[block]}
    assert list(table) == [name for name in MEANINGS if name in every]
    assert every == set(table)
    for name, cells in table.items():
        for column, cell in zip(COLUMNS, cells, strict=True):
            value = found.metrics[column].get(name)
            form = "{:d}" if isinstance(value, int) else "{:.3f}"
            assert cell == ("–" if value is None else form.format(value))


def test_the_best_method_is_marked_but_none_that_is_told_of_the_plan(
    tmp_path: Path, found: Validation, latents: Path
) -> None:
    values = {"model": 0.2, "identity": 0.4, "mean_motion": 0.3, "ridge": 0.35}
    for name in ("add_mm", "add_auc_5mm", "decoded_add_mm"):
        for method, value in values.items():
            found.metrics[method][name] = value
        found.metrics["arch_motion"][name] = 0.9 if name == "add_auc_5mm" else 0.1
    page = report(tmp_path, found, latents)
    marked: dict[str, list[str]] = {}
    for tag, given, text in page.elements:
        if tag == "th" and given.get("scope") == "row":
            row = marked.setdefault("".join(text), [])
        elif tag == "td" and given.get("class") == "best":
            row.append("".join(text))
    assert marked["add_mm"] == ["0.200"]
    assert marked["add_auc_5mm"] == ["0.400"]  # here more is better
    assert marked["decoded_add_mm"] == []  # nothing to compare: a baseline decodes nothing


def test_the_verdict_follows_the_figures() -> None:
    def said(model: float, identity: float, mean_motion: float, ridge: float) -> str:
        values = {"model": model, "identity": identity, "mean_motion": mean_motion, "ridge": ridge}
        return report_page.verdict({name: {"add_mm": value} for name, value in values.items()})

    assert said(1, 4, 3, 2) == (
        "The model is better than all 3 baselines: ADD 1.00 mm, against 4.00 mm without movement, "
        "3.00 mm with the mean motion of each slot and 2.00 mm with ridge regression."
    )
    assert "is better than 2 of the 3 baselines" in said(2, 4, 3, 1)
    assert "is worse than all 3 baselines" in said(3, 1, 2, 2)
    assert "is worse than all 3 baselines" in said(1, 1, 1, 1)


def test_every_test_case_is_in_the_table_and_three_of_them_in_3d(
    tmp_path: Path, found: Validation, latents: Path
) -> None:
    page = report(tmp_path, found, latents)
    table = rows(page, "test-cases")
    assert [cells[0] for cells in table] == found.case_ids
    for number, cells in enumerate(table):
        add = found.figures["model"]["add_mm"][number, found.measured[number]]
        assert cells[2] == f"{add.mean():.3f}"
    data = json.loads(page.text("script", id="scenes"))
    chosen = chosen_cases(found)
    assert [scene["case"] for scene in data["scenes"]] == [
        found.case_ids[number] for number in chosen.values()
    ]
    assert data["figures"]["add_mm"]["end"] == 3.0  # as in the pictures
    shown = {
        attributes["data-show-case"] for attributes, _ in page.all("button") if "data-show-case" in attributes
    }
    assert shown == {"0", "1", "2"}


def test_a_case_s_scene_has_what_was_measured_and_says_what_was_not(found: Validation, latents: Path) -> None:
    with MouthStore(latents) as store:
        scene = pictures.scene(found, store, 0)
    by_fdi = {tooth.fdi: tooth for tooth in scene.teeth}
    assert set(by_fdi) == set(TEETH)
    assert set(by_fdi[SLOTS[EXTRACTED]].poses) == {"t1"}
    assert set(by_fdi[SLOTS[LATE]].poses) == {"t2"}
    assert not by_fdi[SLOTS[EXTRACTED]].figures
    assert scene.notes == (
        "Extracted in the plan, at T1 only: 35.",
        "At T2 only, neither predicted nor measured: 26.",
    )
    measured = [tooth for tooth in scene.teeth if tooth.figures]
    assert len(measured) == len(TEETH) - 2
    for tooth in measured:
        assert tooth.figures["planned_movement_mm"] == pytest.approx(3 * SHIFT_MM, abs=1e-5)
        assert tooth.figures["planned_rotation_deg"] == pytest.approx(0, abs=1e-5)
        assert tooth.figures["predicted_movement_mm"] == pytest.approx(0, abs=0.05)
        assert tooth.figures["add_mm"] == found.figures["model"]["add_mm"][0, SLOTS.index(tooth.fdi)]


def test_a_dropped_tooth_is_said_and_a_primary_tooth_keeps_its_number(
    found: Validation, latents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MouthStore(latents) as store:
        mouth = store.mouth(int(found.rows[0]))
        mouth.dropped[SLOTS.index(48)] = True
        mouth.fdi[SLOTS.index(36)] = 0
        mouth.fdi[SLOTS.index(33)] = 73
        monkeypatch.setattr(store, "mouth", lambda *_, **__: mouth)
        scene = pictures.scene(found, store, 0)
    assert "Left out because of a defect: 48." in scene.notes
    assert {36, 73} < {tooth.fdi for tooth in scene.teeth}


def test_the_hashes_of_what_went_in_are_there(
    tmp_path: Path, found: Validation, latents: Path, log: Path, listed: Path
) -> None:
    report_page.write(tmp_path / "index.html", found, latents, log, listed, PARAMETERS)
    table = dict(rows(Page.of(tmp_path / "index.html"), "lineage"))
    assert table["encoder"] == ENCODER
    assert table["latents"] == hashlib.sha256(latents.read_bytes()).hexdigest()
    assert table["list of what was left out"] == hashlib.sha256(listed.read_bytes()).hexdigest()
    text = json.dumps(PARAMETERS, sort_keys=True).encode()
    assert table["parameters"] == hashlib.sha256(text).hexdigest()


def test_what_was_left_out_is_listed_and_counted(
    tmp_path: Path, found: Validation, latents: Path, log: Path, listed: Path
) -> None:
    page = report(tmp_path, found, latents, log, listed)
    assert rows(page, "left-out") == [
        ["case-8", "16", "rigid_transforms", "zero_quaternion", "norm 0", "correct it"],
        ["case-8", "17", "rigid_transforms", "zero_quaternion", "norm 0", "correct it"],
        ["case-9", "whole case", "fetch_json", "not_json", "<b>not</b> JSON", "export again"],
    ]
    (said,) = [text for _, text in page.all("p") if "whole case" in text]
    assert "1 whole case and 2 single teeth" in said
    assert "zero_quaternion 2, not_json 1" in said


def test_a_list_too_long_for_a_page_says_how_much_is_not_shown(
    tmp_path: Path, found: Validation, latents: Path
) -> None:
    count = report_page.MOST_LEFT_OUT_LINES + 7
    lines = [LeftOut(f"case-{k:05}", "", "fetch_json", "not_json", "x", "y", "z") for k in range(count)]
    left_out.write_csv(tmp_path / "l.csv", lines)
    page = report(tmp_path, found, latents, None, tmp_path / "l.csv")
    assert len(rows(page, "left-out")) == report_page.MOST_LEFT_OUT_LINES
    assert [text for _, text in page.all("p") if "7 more lines are in the CSV" in text]
    assert [text for _, text in page.all("p") if f"{count} whole cases" in text]


def test_without_curves_or_a_list_the_report_says_so(
    tmp_path: Path, found: Validation, latents: Path
) -> None:
    page = report(tmp_path, found, latents, tmp_path / "none", tmp_path / "none.csv")
    assert not list(page.all("h2", id="h-training"))
    assert [text for _, text in page.all("p") if "without a list of what was left out" in text]
    left_out.write_csv(tmp_path / "empty.csv", [])
    page = report(tmp_path, found, latents, None, tmp_path / "empty.csv")
    assert [text for _, text in page.all("p") if "every listed case and tooth was used" in text]
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DentalignError, match=r"wrong\.csv: not the list of what was left out"):
        report(tmp_path, found, latents, None, tmp_path / "wrong.csv")


def test_the_curves_of_the_training_are_drawn(
    tmp_path: Path, found: Validation, latents: Path, log: Path
) -> None:
    page = report(tmp_path, found, latents, log)
    assert page.text("h2", id="h-training") == "Training"
    said = [given["aria-label"] or "" for given, _ in page.all("svg") if "aria-label" in given]
    assert (
        "Training loss by epoch, from 4 to 1.5 (units: docs/metrics.md); "
        "ADD on the validation cases by epoch, best 1.500 mm at epoch 2" in said
    )


def test_a_hostile_case_id_is_text_in_every_place(tmp_path: Path, found: Validation, latents: Path) -> None:
    hostile = ['<img src=x onerror="alert(1)">', "</script><b>", "c"]
    tags = [tag for tag, _, _ in report(tmp_path, found, latents).elements]
    page = report(tmp_path, replace(found, case_ids=hostile), latents)
    assert [tag for tag, _, _ in page.elements] == tags
    assert [cells[0] for cells in rows(page, "test-cases")] == hostile
