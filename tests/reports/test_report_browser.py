"""The reports in a real browser, headless: what a person does with them works, and nothing else happens."""

import re
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation, Slerp

from dentalign.geometry import rigid
from dentalign.reports import left_out_page
from dentalign.reports import page as reports_page
from dentalign.reports.rendering import VIEWS
from dentalign.reports.scene import Scene, tooth_name
from dentalign.validation.measurement import validate
from dentalign.validation.report import page as report_page
from dentalign.validation.report.pictures import chosen_cases
from tests.support import report_browser
from tests.support.report_left_out import LINES, TOTALS
from tests.support.report_scenes import EXTRACTED, PRIMARY, full_mouth, tooth
from tests.support.report_validation import SETTINGS, small_latents, small_models

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-all does it")

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
TEETH = {tooth.fdi: tooth for tooth in full_mouth().teeth}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if report_browser.program() is None:
        pytest.skip(f"none of {', '.join(report_browser.CHROMIUMS)} is here: make test-all installs Chromium")
    with report_browser.browser() as started:
        yield started


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "case.html"
    reports_page.write_case(path, full_mouth())
    return path


class Visit:
    """A page that was opened, and everything it complained about or asked for."""

    def __init__(self, browser: Any, path: Path, size: dict[str, int], **options: Any):
        self.context = browser.new_context(viewport=size, **options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.set_default_timeout(15_000)
        self.page.goto(path.as_uri())

    def reset(self) -> None:
        page = self.page
        page.evaluate("document.activeElement.blur(); dentalign.select(null); scrollTo(0, 0)")
        for choice in ("upper", "lower"):
            page.locator(f"#{choice}").set_checked(True)
        page.locator("#numbers").set_checked(False)
        page.locator('[data-view="frontal"]').click()
        page.locator('input[name="target"]').first.check()
        self.slide(1)
        page.select_option("#ghost", "")
        page.select_option("#colour", "movement_mm")
        page.mouse.move(0, 0)

    def position(self, fdi: int) -> Any:
        """Position of a tooth, mm, head frame; None if it is not shown."""
        return self.page.evaluate("fdi => dentalign.toothPosition(fdi)", fdi)

    def rotation(self, fdi: int) -> Any:
        return self.page.evaluate("fdi => dentalign.toothRotation(fdi)", fdi)

    def shown(self) -> set[int]:
        return set(self.page.evaluate("dentalign.shownTeeth()"))

    def slide(self, share: float) -> None:
        self.page.locator("#progress").fill(str(round(1000 * share)))

    def choose(self, text: str) -> None:
        """A choice, by its words, as a person clicks it."""
        self.page.locator("label, button").filter(has_text=re.compile(f"^{text}$")).click()

    def until(self, expression: str) -> None:
        """Wait until it is true. (Playwright's own way evaluates text, which the page's policy forbids.)"""
        end = time.monotonic() + 15
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, f"{expression} has not come true"
            time.sleep(0.02)

    def settle(self) -> None:
        """Wait until what was asked for has been drawn."""
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def pixels(self) -> Any:
        """The picture as it is seen, (height, width, 3)."""
        self.settle()
        seen = Image.open(BytesIO(self.page.locator("#teeth").screenshot()))
        return np.asarray(seen.convert("RGB")).astype(int)

    def colours(self) -> int:
        """Number of different colours in the picture."""
        return len(np.unique(self.pixels().reshape(-1, 3), axis=0))


@pytest.fixture(scope="module")
def opened(browser: Any, report: Path) -> Iterator[Visit]:
    """One page for many tests: to start a 3D page takes seconds without a GPU."""
    made = Visit(browser, report, DESKTOP)
    yield made
    made.context.close()


@pytest.fixture
def visit(opened: Visit, report: Path) -> Iterator[Visit]:
    """The page as it opens, by way of its own controls; no test may leave a complaint or a request."""
    opened.reset()
    yield opened
    assert opened.complaints == []
    assert opened.requests == [report.as_uri()]


def test_it_opens_from_disk_without_a_complaint_and_without_the_network(visit: Visit) -> None:
    assert visit.colours() > 500  # shaded teeth: neither a blank picture nor a flat one
    assert visit.page.locator("#no-3d").is_hidden()
    assert "clinic-0001" in visit.page.title()


def test_it_opens_at_the_predicted_state_from_the_front_in_colour(browser: Any, report: Path) -> None:
    fresh = Visit(browser, report, DESKTOP)
    for fdi, given in TEETH.items():
        if fdi == EXTRACTED:
            assert fresh.position(fdi) is None
        else:
            assert fresh.position(fdi) == pytest.approx(given.poses["predicted"][:3, 3], abs=1e-4)
    assert fresh.page.evaluate("dentalign.viewDirection()") == pytest.approx([0, -1, 0], abs=1e-3)
    assert fresh.page.input_value("#colour") == "movement_mm"
    fresh.context.close()


@pytest.mark.parametrize(("label", "key"), [("predicted T2", "predicted"), ("true T2", "t2")])
def test_the_slider_moves_the_teeth_from_t1_to_the_state_chosen(visit: Visit, label: str, key: str) -> None:
    visit.choose(label)
    for share in (0.0, 0.25, 0.5, 1.0):
        visit.slide(share)
        for fdi in (11, PRIMARY, 47):
            start, end = TEETH[fdi].poses["t1"], TEETH[fdi].poses[key]
            assert visit.position(fdi) == pytest.approx(
                (1 - share) * start[:3, 3] + share * end[:3, 3], abs=1e-4
            )
            both = Rotation.from_matrix(np.stack([start[:3, :3], end[:3, :3]]))
            wanted = Slerp([0, 1], both)(share).as_matrix()
            turned = Rotation.from_quat(visit.rotation(fdi)).as_matrix()
            assert float(rigid.angle_deg(turned.T @ wanted)) < 0.01


def test_an_extracted_tooth_is_there_at_t1_and_gone_at_t2(visit: Visit) -> None:
    visit.slide(0)
    assert visit.position(EXTRACTED) == pytest.approx(TEETH[EXTRACTED].poses["t1"][:3, 3], abs=1e-4)
    visit.slide(0.5)  # it fades
    assert EXTRACTED in visit.shown()
    visit.slide(1)
    assert EXTRACTED not in visit.shown()
    visit.page.evaluate("fdi => dentalign.select(fdi)", EXTRACTED)
    assert "Not there at: predicted T2, true T2." in visit.page.inner_text("#tooth")


def test_the_toggles_hide_an_arch(visit: Visit) -> None:
    upper = {fdi for fdi in TEETH if fdi // 10 in (1, 2)} - {EXTRACTED}
    lower = set(TEETH) - upper - {EXTRACTED}
    assert visit.shown() == upper | lower
    visit.choose("Upper arch")
    assert visit.shown() == lower
    visit.choose("Lower arch")
    assert visit.shown() == set()
    visit.choose("Upper arch")
    assert visit.shown() == upper


def test_an_occlusal_view_shows_its_arch_and_the_next_view_what_was_there(visit: Visit) -> None:
    whole = visit.shown()
    visit.choose("Lower occlusal")
    assert {fdi // 10 for fdi in visit.shown()} == {3, 4, 7}
    visit.choose("Upper occlusal")
    assert {fdi // 10 for fdi in visit.shown()} == {1, 2}
    visit.choose("Left")
    assert visit.shown() == whole


def test_the_views_are_those_that_dentists_know(visit: Visit) -> None:
    for view, axes in VIEWS.items():
        visit.page.locator(f'[data-view="{view}"]').click()
        visit.settle()
        assert visit.page.evaluate("dentalign.viewDirection()") == pytest.approx(axes[2], abs=1e-3)
        # Across and up on the page, pixels, against the picture's right and up in the head frame, mm.
        teeth = sorted(visit.shown())
        pixels = np.array([visit.page.evaluate("fdi => dentalign.toothOnScreen(fdi)", fdi) for fdi in teeth])
        centres = np.array([
            rigid.apply(TEETH[f].poses["predicted"], np.asarray([_middle(f)]))[0] for f in teeth
        ])  # fmt: skip
        for seen, axis in ((pixels[:, 0], axes[0]), (-pixels[:, 1], axes[1])):
            along = centres @ axis
            slope, rest = np.polyfit(along, seen, 1)
            assert slope > 5  # pixels a millimetre, and not mirrored
            assert np.abs(slope * along + rest - seen).max() < 1
        # All of it is in the picture.
        frame = visit.page.locator("#teeth").bounding_box()
        assert (pixels > [frame["x"], frame["y"]]).all()
        assert (pixels < [frame["x"] + frame["width"], frame["y"] + frame["height"]]).all()


def _middle(fdi: int) -> Any:
    vertices = TEETH[fdi].vertices
    return (vertices.min(0) + vertices.max(0)) / 2


def test_a_click_on_a_tooth_shows_its_figures(visit: Visit) -> None:
    x, y = visit.page.evaluate("dentalign.toothOnScreen(21)")
    visit.page.mouse.click(x, y)
    assert visit.page.inner_text("#tooth h3") == "21, upper left central incisor"
    for name, value in TEETH[21].figures.items():
        digits, unit = (1, "°") if name.endswith("_deg") else (2, "mm")
        shown = visit.page.inner_text(f'#tooth [data-figure="{name}"]')
        assert shown == f"{value:.{digits}f} {unit}".replace("-", "−")
    assert visit.page.get_attribute('tr[data-fdi="21"]', "class") == "chosen"
    frame = visit.page.locator("#teeth").bounding_box()
    visit.page.mouse.click(frame["x"] + 5, frame["y"] + frame["height"] - 5)  # beside the teeth
    assert "Click a tooth" in visit.page.inner_text("#tooth")


def test_a_drag_turns_the_mouth_and_chooses_nothing(visit: Visit) -> None:
    x, y = visit.page.evaluate("dentalign.toothOnScreen(21)")
    before = visit.page.evaluate("dentalign.viewDirection()")
    visit.page.mouse.move(x, y)
    visit.page.mouse.down()
    visit.page.mouse.move(x + 120, y + 40, steps=5)
    visit.page.mouse.up()
    assert np.linalg.norm(np.subtract(visit.page.evaluate("dentalign.viewDirection()"), before)) > 0.2
    assert visit.page.locator("#tooth h3").count() == 0


def test_the_wheel_scrolls_the_page_until_the_picture_was_clicked(visit: Visit) -> None:
    x, y = visit.page.evaluate("dentalign.toothOnScreen(21)")

    def width() -> float:
        left, right = (visit.page.evaluate("fdi => dentalign.toothOnScreen(fdi)", fdi)[0] for fdi in (13, 23))
        return float(right - left)

    before = width()
    visit.page.mouse.move(x, y)
    visit.page.mouse.wheel(0, 100)
    visit.until("scrollY > 50")
    assert width() == pytest.approx(before, abs=0.5)
    visit.page.evaluate("scrollTo(0, 0)")
    visit.page.mouse.click(x, y)
    visit.page.mouse.wheel(0, -200)
    visit.until(f"dentalign.toothOnScreen(23)[0] - dentalign.toothOnScreen(13)[0] > {1.05 * before}")


def test_everything_is_reached_by_keyboard(visit: Visit) -> None:
    keyboard = visit.page.keyboard
    seen = []
    for _ in range(60):
        keyboard.press("Tab")
        seen.append(visit.page.evaluate(
            "(it => it.id || it.dataset.view || it.ariaLabel || '')(document.activeElement)"
        ))  # fmt: skip
    for wanted in ("teeth", "play", "progress", *VIEWS, "upper", "lower", "numbers", "ghost", "colour"):
        assert wanted in seen
    name = tooth_name(11)
    assert f"Tooth 11, {name}" in seen

    visit.page.locator("#progress").focus()
    keyboard.press("Home")
    assert visit.position(11) == pytest.approx(TEETH[11].poses["t1"][:3, 3], abs=1e-4)
    visit.page.locator('tr[data-fdi="11"] button').focus()
    keyboard.press("Enter")
    assert visit.page.inner_text("#tooth h3") == f"11, {name}"

    visit.page.locator("#teeth").focus()
    for key, view in zip(
        "12345", ("frontal", "right", "left", "upper_occlusal", "lower_occlusal"), strict=True
    ):
        keyboard.press(key)
        assert visit.page.evaluate("dentalign.viewDirection()") == pytest.approx(VIEWS[view][2], abs=1e-3)
    keyboard.press("1")
    keyboard.press("ArrowRight")
    turned = visit.page.evaluate("dentalign.viewDirection()")
    assert turned == pytest.approx([np.sin(np.pi / 18), -np.cos(np.pi / 18), 0], abs=1e-3)
    keyboard.press("ArrowUp")
    assert visit.page.evaluate("dentalign.viewDirection()")[2] == pytest.approx(np.sin(np.pi / 18), abs=1e-3)
    keyboard.press("Escape")
    assert "Click a tooth" in visit.page.inner_text("#tooth")


def test_the_colours_follow_the_figure_and_the_legend_says_the_scale(visit: Visit) -> None:
    def red_minus_blue(fdi: int) -> float:
        red, _, blue = visit.page.evaluate("fdi => dentalign.toothColour(fdi)", fdi)
        return float(red - blue)

    movement = {fdi: t.figures["movement_mm"] for fdi, t in TEETH.items() if t.figures}
    most, least = max(movement, key=lambda f: movement[f]), min(movement, key=lambda f: movement[f])
    assert red_minus_blue(most) > red_minus_blue(least)
    assert visit.page.inner_text("#legend-title") == "movement, mm"
    visit.page.select_option("#colour", "vertical_mm")
    vertical = {fdi: t.figures["vertical_mm"] for fdi, t in TEETH.items() if t.figures}
    assert red_minus_blue(min(vertical, key=lambda f: vertical[f])) < 0  # intruded: towards blue
    assert visit.page.inner_text("#legend-low").startswith("≤ −")
    visit.page.select_option("#colour", "")
    assert visit.page.locator("#legend").is_hidden()
    assert red_minus_blue(most) == red_minus_blue(least)


def test_a_shadow_of_another_state_changes_the_picture(visit: Visit) -> None:
    visit.page.select_option("#colour", "")

    def blue() -> int:
        picture = visit.pixels()
        return int((picture[..., 2] > picture[..., 0] + 25).sum())

    assert blue() < 50
    visit.page.select_option("#ghost", "t1")
    assert blue() > 500


def test_the_play_button_moves_from_t1_to_the_end(visit: Visit) -> None:
    visit.slide(1)
    visit.page.locator("#play").click()
    visit.until("document.getElementById('progress').value < 900")
    visit.until("document.getElementById('progress').value == 1000")
    assert visit.position(11) == pytest.approx(TEETH[11].poses["predicted"][:3, 3], abs=1e-4)


def test_the_table_sorts_by_a_figure(visit: Visit) -> None:
    heading = visit.page.get_by_role("button", name="movement, mm", exact=True)
    heading.click()
    heading.click()
    numbers = visit.page.eval_on_selector_all(
        "#teeth-table tbody tr", "rows => rows.map(row => row.dataset.fdi)"
    )
    movement = {fdi: t.figures["movement_mm"] for fdi, t in TEETH.items() if t.figures}
    assert [int(n) for n in numbers[:-1]] == sorted(movement, key=lambda f: -movement[f])
    assert int(numbers[-1]) == EXTRACTED  # without a figure: last
    assert visit.page.get_attribute("#teeth-table th:nth-child(2)", "aria-sort") == "descending"


def test_it_fits_a_phone_and_a_finger_turns_it(browser: Any, report: Path) -> None:
    opened = Visit(browser, report, PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    small = page.eval_on_selector_all(
        "button:not(td button, th button), select, .choices label",
        "all => all.map(e => e.getBoundingClientRect()).filter(r => r.height < 30 || r.right > 360).length",
    )
    assert small == 0
    x, y = page.evaluate("dentalign.toothOnScreen(11)")
    page.touchscreen.tap(x, y)
    assert page.inner_text("#tooth h3").startswith("11,")
    touch = opened.context.new_cdp_session(page)
    before = page.evaluate("dentalign.viewDirection()")
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 5):
        point = {"x": x + 15 * step, "y": y}
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert np.linalg.norm(np.subtract(page.evaluate("dentalign.viewDirection()"), before)) > 0.1
    opened.context.close()
    assert opened.complaints == []


def test_intermediate_stages_are_passed_on_the_way(browser: Any, tmp_path: Path) -> None:
    def at(x: float) -> Any:
        return rigid.from_rotation(np.eye(3), np.array([x, 0.0, 0.0]))

    states = (("t1", "T1"), ("stage-1", "stage 1"), ("stage-2", "stage 2"), ("predicted", "predicted T2"))
    poses = dict(zip(("t1", "stage-1", "stage-2", "predicted"), map(at, (0, 3, 4, 10)), strict=True))
    reports_page.write_case(tmp_path / "a.html", Scene("a", states, (tooth(poses=poses),)))
    opened = Visit(browser, tmp_path / "a.html", DESKTOP)
    assert opened.page.locator("#targets label").count() == 1
    assert opened.page.locator('[data-view="lower_occlusal"]').is_disabled()
    for share, x in ((0, 0), (1 / 6, 1.5), (1 / 2, 3.5), (1, 10)):
        opened.slide(share)
        assert opened.position(11) == pytest.approx([x, 0, 0], abs=0.01)
    opened.slide(1 / 3)
    opened.context.close()
    assert opened.complaints == []


def test_hostile_text_runs_nothing(browser: Any, tmp_path: Path) -> None:
    hostile = '</script><script>window.owned = 1</script><img src=x onerror="window.owned = 1">'
    scene = Scene(hostile, (("t1", hostile),), (tooth(),), notes=(hostile,))
    reports_page.write_case(tmp_path / "a.html", scene)
    opened = Visit(browser, tmp_path / "a.html", DESKTOP)
    assert opened.page.evaluate("window.owned") is None
    assert opened.page.inner_text("#notes li") == hostile
    assert opened.requests == [(tmp_path / "a.html").as_uri()]
    opened.context.close()
    assert opened.complaints == []


def test_without_webgl_the_figures_are_still_there(tmp_path: Path, browser: Any, report: Path) -> None:
    context = browser.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.goto(report.as_uri())
    assert page.locator("#no-3d").is_visible()
    page.locator('tr[data-fdi="11"] button').click()
    assert page.inner_text("#tooth h3").startswith("11,")
    page.locator("#progress").fill("0")
    assert page.evaluate("dentalign.toothPosition(11)") == pytest.approx(
        TEETH[11].poses["t1"][:3, 3], abs=1e-4
    )
    context.close()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_validation_report_works_and_fits(browser: Any, tmp_path: Path, size: dict[str, int]) -> None:
    latents = small_latents(tmp_path / "l.h5")
    found = validate(latents, *small_models(tmp_path), SETTINGS)
    report_page.write(tmp_path / "index.html", found, latents)
    opened = Visit(browser, tmp_path / "index.html", size)
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert opened.colours() > 200
    names = list(chosen_cases(found).values())
    page.locator("#cases label").nth(2).click()
    assert found.case_ids[names[2]] in page.get_attribute("#teeth", "aria-label")
    page.locator('[data-show-case="0"]').first.click()
    assert found.case_ids[names[0]] in page.get_attribute("#teeth", "aria-label")
    assert page.locator("#cases input").first.is_checked()
    page.get_by_role("button", name="ADD, mm", exact=True).last.click()
    cells = page.eval_on_selector_all(
        "#test-cases tbody tr", "rows => rows.map(r => Number(r.cells[2].textContent))"
    )
    assert cells == sorted(cells)
    for section in ("h-metrics", "h-spread", "h-slots", "h-cases", "h-all", "h-left-out", "h-lineage"):
        assert page.locator(f"#{section}").is_visible()
    opened.context.close()
    assert opened.complaints == []
    assert opened.requests == [(tmp_path / "index.html").as_uri()]


def test_the_list_of_what_was_left_out_filters_and_sorts(browser: Any, tmp_path: Path) -> None:
    left_out_page.write(tmp_path / "a.html", LINES, TOTALS)
    opened = Visit(browser, tmp_path / "a.html", PHONE)
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    shown = page.locator("#left-out tbody tr:visible td:first-child")
    assert page.inner_text("#shown") == "5 of 5 lines"
    page.fill("#filter", "MISSING json/c")
    assert page.inner_text("#shown") == "1 of 5 lines"
    assert shown.all_inner_texts() == ["c"]
    page.fill("#filter", "")
    page.locator('[data-code="missing_mesh"]').click()
    assert shown.all_inner_texts() == ["b", "c"]
    page.get_by_role("button", name="Case", exact=True).click()
    page.get_by_role("button", name="Case", exact=True).click()
    assert shown.all_inner_texts() == ["c", "b"]
    opened.context.close()
    assert opened.complaints == []
    assert opened.requests == [(tmp_path / "a.html").as_uri()]
