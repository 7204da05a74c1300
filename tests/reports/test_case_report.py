"""The report of one case: one file, small enough, the same bytes twice, the figures that were given."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from dentalign.geometry import rigid, stl
from dentalign.reports import page
from dentalign.reports.scene import Scene, SceneTooth
from tests.support.report_scenes import EXTRACTED, PRIMARY, Page, full_mouth
from tests.support.report_scenes import tooth as simple_tooth

MOST_BYTES = 5_000_000


def test_the_report_is_one_file_and_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        page.write_case(tmp_path / "out" / name, full_mouth())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.html", "b.html"}
    assert (tmp_path / "out" / "a.html").read_bytes() == (tmp_path / "out" / "b.html").read_bytes()


def test_the_figures_are_those_given_to_six_digits(tmp_path: Path) -> None:
    scene = full_mouth()
    page.write_case(tmp_path / "a.html", scene)
    written = json.loads(Page.of(tmp_path / "a.html").text("script", id="scenes"))["scenes"][0]
    assert written["case"] == scene.case_id
    assert written["notes"] == list(scene.notes)
    assert [tooth["fdi"] for tooth in written["teeth"]] == [tooth.fdi for tooth in scene.teeth]
    for shown, given in zip(written["teeth"], scene.teeth, strict=True):
        assert shown["values"] == pytest.approx(dict(given.figures), rel=1e-5)
    by_fdi = {tooth["fdi"]: tooth for tooth in written["teeth"]}
    assert set(by_fdi[EXTRACTED]["poses"]) == {"t1"}
    assert by_fdi[PRIMARY]["name"] == "lower left primary second molar"
    assert by_fdi[PRIMARY]["arch"] == "lower"


def test_a_mouth_of_28_crowns_is_under_5_mb(tmp_path: Path) -> None:
    crown = trimesh.creation.icosphere(subdivisions=4, radius=5.0)  # 5,120 faces
    rng = np.random.default_rng(1)
    # Every crown's faces in an order of their own: none is shared with another crown's.
    teeth = tuple(
        replace(given, vertices=np.asarray(crown.vertices), faces=rng.permutation(np.asarray(crown.faces)))
        for given in full_mouth().teeth
    )
    page.write_case(tmp_path / "a.html", replace(full_mouth(), teeth=teeth))
    assert len(teeth) == 28
    assert (tmp_path / "a.html").stat().st_size < MOST_BYTES


def test_a_crown_as_a_scanner_makes_it_takes_its_share_of_that_and_no_more(tmp_path: Path) -> None:
    crown = trimesh.creation.icosphere(subdivisions=6, radius=5.0)  # 81,920 faces
    tooth = SceneTooth(11, np.asarray(crown.vertices), np.asarray(crown.faces), {"t1": np.eye(4)})
    page.write_case(tmp_path / "fine.html", Scene("a", (("t1", "T1"),), (tooth,)))
    page.write_case(tmp_path / "none.html", Scene("a", (("t1", "T1"),), (simple_tooth(),)))
    share = (tmp_path / "fine.html").stat().st_size - (tmp_path / "none.html").stat().st_size
    assert 10_000 < share < (MOST_BYTES - 1_000_000) / 32


def test_one_arch_and_intermediate_stages_are_written(tmp_path: Path) -> None:
    states = (("t1", "T1"), ("stage-1", "stage 1"), ("stage-2", "stage 2"), ("predicted", "predicted T2"))
    upper = [tooth for tooth in full_mouth().teeth if tooth.fdi // 10 in (1, 2)]
    teeth = tuple(replace(t, poses={key: t.poses["t1"] for key, _ in states}, figures={}) for t in upper)
    page.write_case(tmp_path / "a.html", Scene("one-arch", states, teeth))
    written = json.loads(Page.of(tmp_path / "a.html").text("script", id="scenes"))["scenes"][0]
    assert [key for key, _ in written["states"]] == ["t1", "stage-1", "stage-2", "predicted"]
    assert {tooth["arch"] for tooth in written["teeth"]} == {"upper"}


def test_real_crowns_fit_and_keep_their_shape(realteeth: Path, tmp_path: Path) -> None:
    folder = sorted(path for path in (realteeth / "stl").iterdir() if path.name < "rt-9")[0]
    teeth = []
    for file in sorted(folder.glob("*.stl")):
        corners = stl.read_triangles(file.read_bytes(), file=file.name, tooth=int(file.stem)).reshape(-1, 3)
        pose = rigid.from_rotation(np.eye(3), np.zeros(3))
        teeth.append(
            SceneTooth(int(file.stem), corners, np.arange(len(corners)).reshape(-1, 3), {"t1": pose})
        )
    page.write_case(tmp_path / "a.html", Scene(folder.name, (("t1", "T1"),), tuple(teeth)))
    assert len(teeth) > 20
    assert (tmp_path / "a.html").stat().st_size < MOST_BYTES / 2
