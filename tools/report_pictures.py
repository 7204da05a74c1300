"""Screenshots of a report for the docs, taken in headless Chromium.

    python -m tools.report_pictures reports/validation/index.html docs/pictures

Needs what the browser tests need (`make test-all` installs it).
"""

import sys
from io import BytesIO
from pathlib import Path

from PIL import Image

from tests.support.report_browser import browser

SIZE = {"width": 1180, "height": 860}


def main(report: Path, folder: Path) -> None:
    """Write `report-viewer.png` and `report-figures.png` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with browser() as started:
        page = started.new_page(viewport=SIZE)
        page.goto(report.resolve().as_uri())
        page.evaluate("document.querySelector('#h-spread').scrollIntoView()")
        save(page.screenshot(), folder / "report-figures.png")
        page.locator("#cases label").nth(1).click()
        page.select_option("#ghost", "t2")
        page.locator('[data-view="left"]').click()
        page.evaluate("dentalign.select(26)")
        page.evaluate("document.querySelector('#h-cases').scrollIntoView()")
        page.wait_for_timeout(1000)
        save(page.screenshot(), folder / "report-viewer.png")


def save(screenshot: bytes, path: Path) -> None:
    """Write a screenshot as a small PNG."""
    Image.open(BytesIO(screenshot)).convert("RGB").quantize(256, kmeans=2).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
