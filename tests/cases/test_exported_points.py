"""Points and widths that an export gives beside the poses: kept if asked for, numbers only, checked."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from dentalign.cases import case_document, fetch, rigid_transforms
from dentalign.cases.case_document import POINTS, canonical, parse
from dentalign.cases.crowns import Sampler
from dentalign.cases.exported_points import apex_travel_mm
from dentalign.cases.findings import Findings
from dentalign.cases.reading import read_case
from dentalign.cases.settings import Fetch, Limits, Sample, Source
from dentalign.cases.sources.meshes import MeshStore
from dentalign.clinical.landmarks import LANDMARK_INDEX
from dentalign.dataset import mouth_store
from dentalign.dataset.clouds import make_clouds
from dentalign.dataset.mouth_store import MouthStore
from dentalign.demo_clinic.clinic import make_clinic
from dentalign.errors import CaseDefect
from dentalign.geometry import stl
from dentalign.mouth import EXPORTED_NAMES, T1, Mouth
from dentalign.teeth import SLOT_INDEX, SLOTS

CASE = "demo-0001"
ALL = tuple(POINTS)
KEYS = {
    "mesial_contact": "MCPoint",
    "distal_contact": "DCPoint",
    "edge_mesial": "MEPoint",
    "edge_distal": "DEPoint",
    "edge_middle": "BCPoint",
    "buccal_cusp": "BCPoint",
    "facial_axis": "FAPoint",
}
SAMPLE = Sample(points=8, oversampling=2)
pytestmark = pytest.mark.usefixtures("state")


def point(xyz: Any) -> dict[str, Any]:
    return dict(zip("xyz", np.asarray(xyz).tolist(), strict=True))


class Export:
    """Case of the demo clinic whose document also has points 0.3 mm off those of the meshes, and widths."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.file = folder / "json" / f"{CASE}.json"
        self.content = json.loads(self.file.read_text(encoding="utf-8"))
        self.mesh = self.read(keep=())
        points, ends = {}, {}
        for slot in np.flatnonzero(self.mesh.present[T1]):
            found = {name: self.mesh.landmarks[slot, LANDMARK_INDEX[name]] + np.float32(0.3) for name in KEYS}
            tooth = {KEYS[name]: point(at) for name, at in found.items() if np.isfinite(at).all()}
            points[str(self.mesh.fdi[slot])] = tooth | {"MRAPoint": point([0.0, 0.0, -16.0])}
            ends[str(self.mesh.fdi[slot])] = {
                "toothRelativeTransform": {"translation": {"x": 99.0}},
                "toothBoltonStartPoint": point([4.0, 0.0, 0.0]),
                "toothBoltonEndPoint": point([-4.0, 0.0, 0.5]),
            }
        self.content["Staging"][0]["Landmarks"] = points
        self.content["Staging"][-1]["Landmarks"] = points
        self.content["Bolton"] = ends

    @property
    def points(self) -> dict[str, Any]:
        return self.content["Staging"][0]["Landmarks"]

    def save(self) -> "Export":
        self.file.write_text(json.dumps(self.content), encoding="utf-8")
        return self

    def read(self, keep: tuple[str, ...] = ALL, axis: Any = "+y", findings: Findings | None = None) -> Mouth:
        document = case_document.read(self.file, CASE, keep=keep)
        with MeshStore(str(self.folder / "stl"), Limits()) as meshes:
            sampler = Sampler(axis, SAMPLE, Limits())
            return read_case(document, "a.json", meshes, sampler, findings or Findings(CASE, "test"))[0]


@pytest.fixture
def export(tmp_path: Path) -> Export:
    make_clinic(tmp_path / "clinic", cases=1, seed=3)
    return Export(tmp_path / "clinic").save()


def as_bytes(content: Any) -> bytes:
    return json.dumps(content).encode()


def test_nothing_is_kept_unless_it_is_asked_for(export: Export) -> None:
    kept = canonical(parse(as_bytes(export.content), CASE))
    for stage in export.content["Staging"]:
        stage.pop("Landmarks", None)
    del export.content["Bolton"]
    assert kept == canonical(parse(as_bytes(export.content), CASE))
    assert Fetch().keep == []


@pytest.mark.parametrize("kind", ALL)
def test_each_kind_is_kept_alone_and_a_second_reading_keeps_the_same(export: Export, kind: str) -> None:
    document = parse(as_bytes(export.content), CASE, keep=[kind])
    first, *later = document.staging
    teeth = (document.bolton if kind == "bolton" else first.landmarks) or {}
    assert {name for tooth in teeth.values() for name in tooth} <= set(POINTS[kind])
    assert len(teeth) == len(export.points)
    assert (document.bolton is None) == (kind != "bolton")
    assert (first.landmarks is None) == (kind == "bolton")
    assert not any(stage.landmarks for stage in later)
    assert canonical(parse(canonical(document), CASE, keep=ALL)) == canonical(document)


def test_no_text_and_no_figure_that_is_no_place_on_a_tooth_passes_with_the_points(export: Export) -> None:
    odd = {"Ivan": point([1, 2, 3]), "FAPoint": {"x": "Ivan", "y": 19870512, "z": "1987-05-12", "by": "Ivan"}}
    export.content["Staging"][0]["Landmarks"] = {
        "11": odd,
        "Ivan": odd,
        "12": "Ivan",
        "13": {"MCPoint": "Ivan"},
    }
    export.content["Bolton"] = {"11": {"toothBoltonStartPoint": {"x": 1987.0512, "note": "Ivan"}, "Ivan": 1}}
    kept = canonical(parse(as_bytes(export.content), CASE, keep=ALL)).decode()
    for text in ("Ivan", "19870512", "1987.0512", "1987-05-12"):
        assert text not in kept


def test_key_that_stands_twice_is_noticed_only_where_it_is_kept() -> None:
    data = b'{"Staging": [{"Landmarks": {}}], "Bolton": {"11": {"MCPoint": {}, "MCPoint": {}}}, "Bolton": {}}'
    parse(data, "c1")
    with pytest.raises(CaseDefect, match="double_key"):
        parse(data, "c1", keep=["bolton"])


def test_landmarks_of_the_export_take_the_place_of_those_from_the_mesh(export: Export) -> None:
    told, mesh = export.read(), export.mesh
    for name in KEYS:
        index = LANDMARK_INDEX[name]
        assert_allclose(told.landmarks[:, index], mesh.landmarks[:, index] + 0.3, atol=1e-5, err_msg=name)
    for name in ("central_fossa", "mesial_ridge", "lingual_cusp"):
        assert_array_equal(told.landmarks[:, LANDMARK_INDEX[name]], mesh.landmarks[:, LANDMARK_INDEX[name]])
    assert np.isnan(told.landmarks[SLOT_INDEX[11], LANDMARK_INDEX["edge_20_000"]]).all()
    assert_allclose(told.bolton_mm[told.present[T1]], np.hypot(8.0, 0.5), atol=1e-5)
    assert_array_equal(export.read(keep=("bolton",)).landmarks, mesh.landmarks)


def test_points_turn_with_the_tooth_local_frame_of_the_exporter(export: Export) -> None:
    ours = export.read()
    for tooth in export.points.values():
        for place in tooth.values():
            place["x"], place["y"] = -place["x"], -place["y"]
    for stage in export.content["Staging"]:
        for spelling in ("ToothTransforms", "RelativeToothTransformsHead", "RelativeToothTransforms"):
            for pose in stage.get(spelling, {}).values():
                q = pose["rotation"]  # times 180 deg about z
                pose["rotation"] = {"x": q["y"], "y": -q["x"], "z": q["w"], "w": -q["z"]}
    for file in (export.folder / "stl" / CASE).iterdir():
        triangles = stl.read_triangles(file.read_bytes(), file="", tooth=11) * [-1, -1, 1]
        stl.write_binary(file, *stl.merged(triangles))
    theirs = export.save().read(axis="-y")
    assert_allclose(theirs.landmarks, ours.landmarks, atol=1e-3)
    assert_allclose(theirs.exported_landmarks, ours.exported_landmarks, atol=1e-3)


@pytest.mark.parametrize("value", ["Ivan", None, 40.1, "nan", [1], 1e400])
def test_point_that_is_none_is_named_with_case_tooth_and_key_and_its_tooth_stays(
    export: Export, value: Any
) -> None:
    export.points["16"]["MCPoint"]["y"] = value
    export.points["16"]["FAPoint"] = {"x": 1}
    findings = Findings(CASE, "test")
    told = export.save().read(findings=findings)
    (line,) = findings.lines
    assert (line.case_id, line.tooth, line.code, line.file) == (CASE, "16", "bad_point", "a.json")
    assert "from -40 to 40 mm" in line.seen
    assert line.seen.endswith("MCPoint, FAPoint")
    assert findings.dropped == 0
    slot = SLOT_INDEX[16]
    for name in ("mesial_contact", "facial_axis"):
        assert_array_equal(
            told.landmarks[slot, LANDMARK_INDEX[name]], export.mesh.landmarks[slot, LANDMARK_INDEX[name]]
        )


@pytest.mark.parametrize(
    ("end", "said"), [([-13.0, 0, 0], " of 17.0 mm"), ([3.0, 0, 0], " of 1.0 mm"), (["x", 0, 0], "")]
)
def test_width_of_no_tooth_is_named(export: Export, end: list[Any], said: str) -> None:
    export.content["Bolton"]["21"]["toothBoltonEndPoint"] = dict(zip("xyz", end, strict=True))
    findings = Findings(CASE, "test")
    told = export.save().read(findings=findings)
    assert [(line.tooth, line.code) for line in findings.lines] == [("21", "bad_point")]
    assert findings.lines[0].seen.endswith(f"Bolton width{said}")
    assert np.isnan(told.bolton_mm[SLOT_INDEX[21]])


def test_points_off_the_crown_and_apex_above_it_are_named_and_not_used(export: Export) -> None:
    export.points["26"]["DCPoint"] = point([30.0, 1.0, 2.0])
    export.points["26"]["MRAPoint"] = point([0.0, 0.0, 16.0])
    findings = Findings(CASE, "test")
    told = export.save().read(findings=findings)
    (line,) = findings.lines
    assert (line.tooth, line.code) == ("26", "point_off_crown")
    assert line.seen.endswith(": distal_contact, root_apex")
    assert findings.dropped == 0
    slot, index = SLOT_INDEX[26], LANDMARK_INDEX["distal_contact"]
    assert_array_equal(told.landmarks[slot, index], export.mesh.landmarks[slot, index])
    assert np.isnan(told.exported_landmarks[slot, EXPORTED_NAMES.index("root_apex")]).all()


def test_apex_travels_with_its_tooth(export: Export) -> None:
    told = export.read()
    pose = told.pose[T1].copy()
    slot = SLOT_INDEX[13]
    pose[slot, :3, 3] += [3.0, 4.0, 0.0]
    travel = apex_travel_mm(told, pose)
    assert travel[slot] == pytest.approx(5.0, abs=1e-4)
    assert_allclose(travel[told.present[T1] & (np.arange(32) != slot)], 0.0, atol=1e-6)
    assert np.isnan(apex_travel_mm(export.mesh, pose)).all()


def test_mirror_image_and_dropped_teeth_take_their_points_along(export: Export) -> None:
    told = export.read()
    mirrored = told.mirrored()
    left, right = (mouth.exported_landmarks[SLOT_INDEX[f]] for mouth, f in ((told, 14), (mirrored, 24)))
    assert_array_equal(right, left * np.array([-1, 1, 1], np.float32))
    assert_array_equal(mirrored.mirrored().bolton_mm, told.bolton_mm)
    without = told.dropping([SLOT_INDEX[14]])
    assert np.isnan(without.exported_landmarks[SLOT_INDEX[14]]).all()
    assert np.isnan(without.bolton_mm[SLOT_INDEX[14]])


def stages(export: Export, keep: list[Any]) -> Path:
    """Run fetch_json, rigid_transforms and sample_clouds; returns the clouds."""
    folder = export.folder / "run"
    (export.folder / "list.csv").write_text(f"case_id\n{CASE}\n")
    settings, limits = Fetch(keep=keep), Limits()
    fetch.fetch_cases(
        export.folder / "list.csv", str(export.folder / "json"), out=folder / "json",
        cases_out=folder / "cases.csv", left_out=folder / "left_out.json", fetch=settings, limits=limits,
    )  # fmt: skip
    meshes = str(export.folder / "stl")
    rigid_transforms.make_manifests(
        folder / "json", folder / "cases.csv", folder / "left_out.json", folder / "transforms",
        source=Source.model_validate({"cases": "", "json": "", "meshes": meshes}),
        fetch=settings, limits=limits, shards=["s", "t"],
    )  # fmt: skip
    with MeshStore(meshes, limits) as store:
        clouds = [folder / f"{shard}.h5" for shard in ("s", "t")]
        for out in clouds:
            sampler = Sampler("+y", SAMPLE, limits)
            make_clouds(folder / "transforms" / f"{out.stem}.json", store, out, sampler)
    layouts = []
    for out in clouds:
        with MouthStore(out) as read:
            layouts.append(read.layout)
            if len(read):
                found = out
    assert layouts[0] == layouts[1]  # an empty shard, too, can be joined with the others
    return found


def test_what_is_kept_goes_through_the_stages_into_the_columns_of_the_contract(export: Export) -> None:
    told = export.read()
    with MouthStore(stages(export, [*ALL])) as store:
        mouth = store.mouth(0)
        assert tuple(name.decode() for name in store.attributes["exported_landmark_names"]) == EXPORTED_NAMES
        copy = export.folder / "copy.h5"
        with mouth_store.create(copy, store.layout, {}) as writer:
            writer.append(mouth)
    for name in ("landmarks", "exported_landmarks", "bolton_mm"):
        assert_array_equal(getattr(mouth, name), getattr(told, name), err_msg=name)
        with MouthStore(copy) as again:
            assert_array_equal(getattr(again.mouth(0), name), getattr(told, name), err_msg=name)


def test_without_it_no_file_of_the_stages_has_the_points(export: Export) -> None:
    export.points["11"]["FAPoint"]["x"] = 0.123454321
    clouds = stages(export.save(), [])
    with MouthStore(clouds) as store:
        assert not store.layout.exported
        assert "exported_landmark_names" not in store.attributes
    text = "\n".join(
        file.read_text(encoding="utf-8") for file in (export.folder / "run").rglob("*.json") if file.is_file()
    )
    assert "0.12345" not in text
    assert "exported" not in text
    assert "keep" not in text


def test_asking_for_more_or_less_fetches_what_the_cache_has_anew(export: Export) -> None:
    kept = [json.loads((stages(export, keep).parent / "json" / f"{CASE}.json").read_text()) for keep in
            ([], ["bolton"], [])]  # fmt: skip
    assert ["Bolton" in document for document in kept] == [False, True, False]


def test_every_slot_of_the_mouth_has_its_place_for_points() -> None:
    mouth = Mouth.empty()
    assert mouth.exported_landmarks.shape == (len(SLOTS), len(EXPORTED_NAMES), 3)
    assert np.isnan(mouth.exported_landmarks).all()
