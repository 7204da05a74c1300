"""Crowns that are not those of their teeth, or not tooth-local, are found; right ones are not suspected."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dentalign import check
from dentalign.cases import case_document
from dentalign.cases.crowns import Sampler
from dentalign.cases.findings import Findings
from dentalign.cases.left_out import LeftOut
from dentalign.cases.reading import read_case
from dentalign.cases.settings import BuccalAxis, Limits, Sample
from dentalign.cases.sources.meshes import MeshStore
from dentalign.demo_clinic import case_files, clinic
from dentalign.errors import CaseDefect
from dentalign.geometry import rigid, stl
from dentalign.geometry.average_crowns import DIRECTIONS, average_crown, mirrored_directions
from dentalign.geometry.rigid import Array
from dentalign.teeth import SLOT_INDEX

Change = Callable[[Array], Array]  # of the triangles (F, 3, 3) of a crown

SAMPLER = Sampler("+y", Sample(points=8, oversampling=2), Limits())
JAW = rigid.from_rotation(np.eye(3), np.array([0.4, 27.0, -2.0]))


@dataclass
class Store:
    """Case store with one made-up case; its crowns may be changed."""

    folder: Path
    case: clinic.Case

    def file(self, fdi: int) -> Path:
        return self.folder / "stl" / self.case.case_id / f"{fdi}.stl"

    def triangles(self, fdi: int) -> Array:
        return stl.read_triangles(self.file(fdi).read_bytes(), file="", tooth=fdi)

    def write(self, fdi: int, triangles: Array) -> None:
        corners = triangles.reshape(-1, 3)
        stl.write_binary(self.file(fdi), corners, np.arange(len(corners)).reshape(-1, 3))

    def change(self, change: Change, *teeth: int) -> None:
        for fdi in teeth or self.case.patient.mouth:
            self.write(fdi, change(self.triangles(fdi)))

    def to_head(self, *teeth: int, frame: Array | None = None) -> None:
        """Write crowns in head coordinates, or in those of a frame of the head."""
        for fdi in teeth or self.case.patient.mouth:
            pose = self.case.t1[fdi] if frame is None else rigid.inverse(frame) @ self.case.t1[fdi]
            self.write(fdi, rigid.apply(pose, self.triangles(fdi)))

    def read(self, buccal_axis: BuccalAxis = "+y") -> list[LeftOut]:
        """Read the case as stages, check, predict and importers do; returns the lines, raises CaseDefect."""
        file = self.folder / "json" / f"{self.case.case_id}.json"
        findings = Findings(self.case.case_id, "test")
        with MeshStore(str(self.folder / "stl"), Limits()) as meshes:
            sampler = Sampler(buccal_axis, SAMPLER.sample, SAMPLER.limits)
            read_case(case_document.read(file, self.case.case_id), str(file), meshes, sampler, findings)
        return findings.lines

    def found(self) -> list[tuple[str, str]]:
        """Tooth and code of each line; tooth "" if the case is excluded."""
        try:
            return [(line.tooth, line.code) for line in self.read()]
        except CaseDefect as defect:
            return [("", defect.code)]


def make(folder: Path, number: int = 2, complete: bool = True) -> Store:
    case = clinic.make_case(number, seed=3, complete=complete)
    store = Store(folder, case)
    (folder / "json").mkdir(parents=True)
    store.file(11).parent.mkdir(parents=True)
    case_files.write_json(folder / "json" / f"{case.case_id}.json", case.document)
    for fdi, crown in case.patient.mouth.items():
        stl.write_binary(store.file(fdi), crown.vertices, crown.faces)
    return store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return make(tmp_path / "store")


def axes(*signs: float) -> Change:
    return lambda crown: crown * signs


def turned(axis: str, deg: float) -> Change:
    return lambda crown: crown @ Rotation.from_euler(axis, deg, degrees=True).as_matrix().T


def with_root(crown: Array) -> Array:
    """A cone of 13 mm under the crown."""
    low = crown.reshape(-1, 3)[crown.reshape(-1, 3)[:, 2].argsort()[:40]]
    return np.concatenate([crown, cone(low.mean(0), 3.0, 13.0)])


def cone(top: Array, radius: float, length: float) -> Array:
    angle = np.linspace(0, 2 * np.pi, 25)
    ring = top + radius * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    apex, middle = np.broadcast_to(top - [0, 0, length], (24, 3)), np.broadcast_to(top, (24, 3))
    sides, lid = np.stack([ring[:-1], apex, ring[1:]], 1), np.stack([ring[:-1], ring[1:], middle], 1)
    return np.concatenate([sides, lid])


def test_made_up_patients_with_third_molars_and_primary_teeth_pass(tmp_path: Path) -> None:
    seen = set()
    for number in (1, 2, 13, 20):
        store = make(tmp_path / str(number), number, complete=False)
        assert store.found() == []
        seen |= set(store.case.patient.mouth)
    assert seen > {18, 28, 38, 48, 65}


ALL_WRONG: dict[str, tuple[Change, str]] = {
    "upside down, turned about x": (turned("x", 180), "crown_upside_down"),
    "upside down, turned about y": (turned("y", 180), "crown_upside_down"),
    "upside down, z mirrored": (axes(1, 1, -1), "crown_upside_down"),
    "mirrored in x": (axes(-1, 1, 1), "crown_mirrored"),
    "mirrored in y": (axes(1, -1, 1), "crown_mirrored"),
    "turned about z": (turned("z", 180), "crown_turned"),
    "whole teeth": (with_root, "whole_tooth"),
    "half as large": (axes(0.5, 0.5, 0.5), "crown_size"),
    "no crowns": (lambda crown: cone(np.array([0, 0, 6.0]), 4 + crown.max() / 9, 12.0), "not_crowns"),
}


@pytest.mark.parametrize("kind", ALL_WRONG)
def test_crowns_that_are_all_wrong_in_the_same_way_exclude_the_case(store: Store, kind: str) -> None:
    change, code = ALL_WRONG[kind]
    store.change(change)
    assert store.found() == [("", code)]


def test_crowns_in_head_coordinates_are_named_as_such(store: Store) -> None:
    store.to_head()
    with pytest.raises(
        CaseDefect, match=r"28 of 28 crowns lie 2.* mm from .* they are in head coordinates"
    ) as found:
        store.read()
    assert found.value.code == "mesh_far_off"
    assert "tooth-local" in found.value.fix and "limits.max_from_origin_mm" in found.value.fix


def test_crowns_in_the_frame_of_a_jaw_are_one_common_frame_and_not_the_heads(store: Store) -> None:
    store.to_head(frame=JAW)
    with pytest.raises(CaseDefect, match="one common frame") as found:
        store.read()
    assert found.value.code == "mesh_far_off"


ONE_WRONG: dict[str, tuple[int, Change, str]] = {
    "upside down": (24, turned("x", 180), "crown_upside_down"),
    "upside down, an incisor": (41, turned("y", 180), "crown_upside_down"),
    "turned about z": (33, turned("z", 180), "crown_turned"),
    "an upper molar mirrored": (16, axes(-1, 1, 1), "crown_mirrored"),
    "whole tooth": (11, with_root, "whole_tooth"),
    "metres": (11, axes(1e-3, 1e-3, 1e-3), "mesh_size"),
}


@pytest.mark.parametrize("kind", ONE_WRONG)
def test_a_single_wrong_crown_drops_its_tooth_alone(store: Store, kind: str) -> None:
    fdi, change, code = ONE_WRONG[kind]
    store.change(change, fdi)
    assert store.found() == [(str(fdi), code)]


def test_a_crown_in_head_coordinates_is_told_by_its_place(store: Store) -> None:
    store.to_head(36)
    [line] = store.read()
    assert (line.tooth, line.code) == ("36", "mesh_far_off")
    assert "it is in head coordinates (" in line.seen
    store.change(lambda crown: np.add(crown, [0, 40, 0]), 36)
    [line] = store.read()
    assert "another frame (of a jaw or a scan?)" in line.seen


def test_an_incisor_in_the_place_of_a_molar_is_of_another_kind(store: Store) -> None:
    store.write(46, store.triangles(41) * 1.01)
    [line] = store.read()
    assert (line.tooth, line.code) == ("46", "other_tooth")
    assert "off an average 46" in line.seen and "off a 41" in line.seen


def test_the_mesh_of_16_as_that_of_26_is_found_and_16_stays(store: Store) -> None:
    store.file(26).write_bytes(store.file(16).read_bytes())
    [line] = store.read()
    assert (line.tooth, line.code) == ("26", "same_mesh")
    assert "tooth 16" in line.seen


def test_what_geometry_cannot_tell_passes(store: Store) -> None:
    store.change(axes(-1, 1, 1), 31)  # an incisor's mirror image
    store.change(turned("z", 15), 14)
    first, second = store.triangles(24), store.triangles(25)
    store.write(24, second)
    store.write(25, first)
    assert store.found() == []


def worn(crown: Array) -> Array:
    return np.minimum(crown, [np.inf, np.inf, crown[..., 2].max() - 1.5])


def open_at_the_gum(crown: Array) -> Array:
    return np.asarray(crown[(crown[..., 2] > crown[..., 2].min() + 1.0).all(1)])


def with_a_rim_of_gum(crown: Array) -> Array:
    crown = open_at_the_gum(crown)
    share = np.clip(1 - (crown[..., 2:] - crown[..., 2].min()) / 2, 0, 1)
    return np.concatenate([crown[..., :2] * (1 + 0.25 * share), crown[..., 2:] - 1.2 * share], axis=-1)


PASSES: dict[str, Change] = {
    "worn": worn,
    "open at the gum": open_at_the_gum,
    "with a rim of gum": with_a_rim_of_gum,
    "a side missing": lambda crown: crown[(crown[..., 0] < 0.6 * crown[..., 0].max()).all(1)],
    "the origin at the gum line": lambda crown: np.add(crown, [0, 0, 4.3]),
    "front to back inclined by 15 deg": turned("x", 15),
    "tipped by 15 deg": turned("y", 15),
    "faces flipped": lambda crown: crown[:, ::-1],
    "coarse": lambda crown: crown[::3],
    "10 % larger": axes(1.1, 1.1, 1.1),
}


@pytest.mark.parametrize("kind", PASSES)
def test_crowns_as_other_laboratories_have_them_pass(store: Store, kind: str) -> None:
    store.change(PASSES[kind])
    assert store.found() == []


def test_an_exporter_with_buccal_at_minus_y_passes_with_the_setting_and_is_told_it_without(
    store: Store,
) -> None:
    half_turn = rigid.from_rotation(np.diag([-1.0, -1.0, 1.0]), np.zeros(3))
    t1, t2 = (
        {fdi: pose @ half_turn for fdi, pose in poses.items()} for poses in (store.case.t1, store.case.t2)
    )
    name = store.case.case_id
    document = case_files.document(name, 1, t1, t2, np.random.default_rng(0))
    case_files.write_json(store.folder / "json" / f"{name}.json", document)
    store.change(turned("z", 180))
    assert store.read(buccal_axis="-y") == []
    with pytest.raises(CaseDefect) as found:
        store.read()
    assert found.value.code == "buccal_axis" and 'source.buccal_axis: "-y"' in found.value.fix


def test_meshes_turned_against_right_poses_are_no_matter_of_the_buccal_axis(store: Store) -> None:
    store.change(turned("z", 180))
    with pytest.raises(CaseDefect) as found:
        store.read()
    assert "the poses have the right buccal axis" in found.value.fix


def test_where_too_few_teeth_tell_the_arch_turned_meshes_get_the_advice_of_the_buccal_axis(
    store: Store,
) -> None:
    document = store.case.document
    for stage in document["Staging"]:
        poses = case_files.tooth_poses(stage)
        for fdi in set(poses) - {"11", "21", "33", "43"}:
            del poses[fdi]
    case_files.write_json(store.folder / "json" / f"{store.case.case_id}.json", document)
    assert store.found() == []
    store.change(turned("z", 180))
    with pytest.raises(CaseDefect) as found:
        store.read()
    assert found.value.code == "crown_turned" and 'source.buccal_axis: "-y"' in found.value.fix


def test_many_single_faults_exclude_the_case_by_the_limit(store: Store) -> None:
    store.to_head(11, 12, 13, 14, 15)
    assert store.found() == [("", "too_many_dropped")]


def test_check_says_the_same_and_its_counts_add_up(store: Store) -> None:
    store.change(turned("x", 180), 16)
    with check.locate(store.folder) as places:
        result = check.check(places)
    assert [(line.tooth, line.code) for line in result.lines] == [("16", "crown_upside_down")]
    assert result.totals.add_up and result.totals.teeth_dropped == 1
    store.to_head()
    with check.locate(store.folder) as places:
        result = check.check(places)
    assert [(line.tooth, line.code) for line in result.lines] == [("", "mesh_far_off")]
    assert result.totals.add_up and result.totals.cases_excluded == 1


def test_the_limits_are_those_of_the_params(store: Store) -> None:
    store.to_head(36)
    store.change(with_root, 11)
    fdi = {line.tooth for line in store.read()}
    assert fdi == {"11", "36"}
    wide = SAMPLER.limits.model_copy(update={"max_from_origin_mm": 500.0, "max_crown_height_mm": 30.0})
    file = store.folder / "json" / f"{store.case.case_id}.json"
    findings = Findings(store.case.case_id, "test")
    with MeshStore(str(store.folder / "stl"), Limits()) as meshes:
        document = case_document.read(file, store.case.case_id)
        read_case(document, str(file), meshes, Sampler("+y", SAMPLER.sample, wide), findings)
    assert not {"mesh_far_off", "whole_tooth"} & {line.code for line in findings.lines}


def test_the_directions_are_mirrored_onto_each_other() -> None:
    for signs in ((-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1)):
        order = mirrored_directions(*signs)
        np.testing.assert_allclose(DIRECTIONS[order], DIRECTIONS * signs, atol=1e-12)


def test_every_permanent_tooth_but_the_third_molars_has_an_average_crown() -> None:
    for fdi in SLOT_INDEX:
        average = average_crown(fdi)
        assert (average is None) == (fdi % 10 == 8)
        if average is not None:
            assert average.misfit(average.mean) == 0 and np.linalg.eigvalsh(average.precision).min() > 0
            assert 4 < average.extent.min() < average.extent.max() < 12


def test_realteeth_cases_pass(realteeth: Path) -> None:
    with MeshStore(str(realteeth / "stl"), Limits()) as meshes:
        for file in sorted((realteeth / "json").glob("rt-00*.json")):
            findings = Findings(file.stem, "test")
            read_case(case_document.read(file, file.stem), str(file), meshes, SAMPLER, findings)
            assert findings.lines == [], file.name
