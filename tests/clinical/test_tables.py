"""Table, document and report rows of clinical measures."""

import csv
import json
from dataclasses import replace
from pathlib import Path

from dentalign.clinical import tables
from dentalign.mouth import Mouth
from tests.support.made_mouths import MadeMouth


def test_document_and_table_hold_every_measure_at_every_time(tmp_path: Path) -> None:
    found = MadeMouth().without(46).measure()
    document, table = tables.write(tmp_path, "c1", {"t1": found, "plan": found})
    assert json.loads(document.read_text())["t1"] == found
    rows = {row["measure"]: row for row in csv.DictReader(table.read_text().splitlines())}
    assert rows["overjet_mm"]["t1"] == rows["overjet_mm"]["plan"] == str(found["measures"]["overjet_mm"])
    assert rows["overjet_mm"]["predicted"] == ""
    assert rows["molar_relation_right_mm"]["not_measurable"] == "46 is missing"
    assert rows["tip_deg.11"]["t1"] != ""
    assert rows["crossbite_teeth"]["t1"] == "none"


def test_trend_is_better_nearer_to_the_normal_range() -> None:
    assert tables.trend("overjet_mm", 6.0, 2.0) == "better"
    assert tables.trend("overjet_mm", 2.0, -2.0) == "worse"
    assert tables.trend("overjet_mm", 1.5, 2.5) == "same"
    assert tables.trend("width_33_upper_mm", 30.0, 35.0) == ""


def test_report_row_marks_the_landmarks_that_a_measure_is_taken_from() -> None:
    made = MadeMouth()
    mouth = replace(Mouth.empty(), landmarks=made.landmarks(), fdi=made.fdi)
    mouth.present[0] = made.present
    rows = {row.name: row for row in tables.report_rows({"t1": made.measure()}, mouth)}
    assert [mark[0] for mark in json.loads(rows["molar_relation_left_mm"].marks)] == [26, 36, 36]
    assert len(json.loads(rows["irregularity_lower_mm"].marks)) == 12
    assert rows["overjet_mm"].normal == "1 to 3"
