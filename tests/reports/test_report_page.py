"""A page: complete in itself, closed to everything else, and hostile text stays text."""

import base64
import hashlib
import json
import re

import numpy as np
import pytest

from dentalign.reports import page as reports_page
from dentalign.reports.scene import Scene
from tests.support.report_scenes import Page, at, full_mouth, tooth

# Of the bundle that three/README.md says how to make; a change here must be one of the library's version.
THREE_SHA256 = "980b5ef274b9837bd949f1c5ed17106a199a85570c73e2ca5d4f5793db9f47b9"

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<!-- dentalign: revision -->",
    "{{ 7 * 7 }} ${7} & ' \" `",
    "a\0b\x1b[31m\u202egnp.exe\u2028\ud800",
    "x" * 300,
    "]]>--></style></title>",
)


def page_of(case_id: str, note: str = "") -> Page:
    scene = Scene(
        case_id, (("t1", note or "T1"),), (tooth(figures={"a_mm": 1.0}),), ("a_mm",), (note or "n",)
    )
    return Page(reports_page.render_viewer("case.html", [scene], case_id=case_id).decode())


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_the_policy_lets_exactly_the_page_s_own_scripts_and_style_run() -> None:
    page = page_of("c1")
    (policy,) = [a["content"] or "" for a, _ in page.all("meta") if a.get("http-equiv")]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    scripts = [text for attributes, text in page.all("script") if "type" not in attributes]
    assert rules["default-src"] == ["'none'"]
    assert rules["script-src"] == [f"'sha256-{digest(text)}'" for text in scripts]
    assert rules["style-src"] == [f"'sha256-{digest(page.text('style'))}'"]
    assert len(scripts) == len(reports_page.VIEWER_SCRIPTS)
    assert "unsafe" not in policy


def test_nothing_is_loaded_from_elsewhere() -> None:
    for _, attributes, _ in page_of("c1").elements:
        assert not {"src", "href", "srcset", "action", "style"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    plain_page, page = page_of("c1", "n"), page_of(text, text)
    # The same elements: nothing in the text became one, or closed one.
    assert [tag for tag, _, _ in page.elements] == [tag for tag, _, _ in plain_page.elements]
    shown = reports_page.plain(text)
    assert page.text("bdi") == shown
    data = json.loads(page.text("script", id="scenes"))
    assert data["scenes"][0]["case"] == shown
    assert data["scenes"][0]["notes"] == [shown]
    assert data["scenes"][0]["states"] == [["t1", shown]]


def test_the_place_of_the_revision_is_there_once_whatever_the_data_say() -> None:
    scene = Scene(HOSTILE[2], (("t1", "T1"),), (tooth(),))
    content = reports_page.render_viewer("case.html", [scene], case_id=HOSTILE[2])
    assert content.count(reports_page.REVISION_PLACE.encode()) == 1


def test_what_hides_or_reorders_text_is_shown_as_a_mark() -> None:
    assert reports_page.plain("a\0b\u202ec\ud800d\n") == "a\ufffdb\ufffdc\ufffdd\ufffd"
    assert reports_page.plain("Zürich, Пациент 7 — é") == "Zürich, Пациент 7 — é"


def test_equal_lists_of_faces_are_written_once() -> None:
    scene = Scene("a", (("t1", "T1"),), (tooth(11), tooth(21)))
    data = reports_page.page_data([scene, scene], {})
    assert len(data["faces"]) == 1
    assert [t["faces"] for s in data["scenes"] for t in s["teeth"]] == [0, 0, 0, 0]


def test_a_colour_scale_has_its_end_from_a_few_and_is_the_same_for_all_scenes() -> None:
    def scene(*values: float) -> Scene:
        teeth = [tooth(fdi, figures={"a_mm": v}) for fdi, v in zip((11, 12, 13), values, strict=True)]
        return Scene("a", (("t1", "T1"),), tuple(teeth), ("a_mm",))

    def figure(scenes: list[Scene], **ends: float) -> dict[str, object]:
        found: dict[str, object] = reports_page.page_data(scenes, ends)["figures"]["a_mm"]
        return found

    assert figure([scene(0.1, 0.2, 0.3)]) == {"label": "a", "unit": "mm", "end": 1.5, "signed": False}
    assert figure([scene(0.1, 0.2, 0.3), scene(2, 2.1, 2.2)])["end"] == 3.0
    assert figure([scene(50, 60, 70)])["end"] == 12.0
    assert figure([scene(0.1, -0.2, 0.3)])["signed"]
    assert figure([scene(0.1, 0.2, 0.3)], a_mm=4.0)["end"] == 4.0


def test_poses_come_back_from_the_page_exactly_enough() -> None:
    from scipy.spatial.transform import Rotation

    scene = full_mouth()
    for written, given in zip(
        reports_page.page_data([scene], {})["scenes"][0]["teeth"], scene.teeth, strict=True
    ):
        assert set(written["poses"]) == set(given.poses)
        for key, pose in given.poses.items():
            assert written["poses"][key][:3] == pytest.approx(pose[:3, 3], abs=1e-5)
            turned = Rotation.from_quat(written["poses"][key][3:]).as_matrix()
            assert turned == pytest.approx(np.asarray(pose)[:3, :3], abs=1e-6)


def test_the_3d_library_is_the_one_its_readme_names_and_its_licence_comes_with_it() -> None:
    folder = reports_page.ASSETS / "three"
    assert hashlib.sha256((folder / "three.min.js").read_bytes()).hexdigest() == THREE_SHA256
    said = (folder / "README.md").read_text()
    (version,) = set(re.findall(r"three@([\d.]+)", said))
    assert f"three.js](https://threejs.org) {version}" in said
    licence = (folder / "LICENSE").read_text()
    assert "The MIT License" in licence
    assert page_of("c1").text("pre") == licence


def test_a_pose_that_swaps_the_sign_of_its_quaternion_is_the_same_text() -> None:
    turned = np.diag([-1.0, -1, 1, 1])  # half a turn: both signs of the quaternion are equally right
    data = reports_page.page_data(
        [Scene("a", (("t1", "T1"),), (tooth(poses={"t1": turned @ at(0, 0, 0)}),))], {}
    )
    assert data["scenes"][0]["teeth"][0]["poses"]["t1"] == [0, 0, 0, 0, 0, 1, 0]
