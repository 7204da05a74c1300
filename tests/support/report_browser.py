"""A headless Chromium that draws 3D by the processor, as on a bare server without a GPU."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def program() -> str | None:
    """The Chromium of this machine, None where there is none."""
    return next((path for name in CHROMIUMS if (path := shutil.which(name))), None)


@contextmanager
def browser() -> Iterator[Any]:
    """A Playwright browser; needs Playwright and `program()`."""
    from playwright.sync_api import sync_playwright

    arguments = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    # As root, Chromium starts without its sandbox only.
    arguments += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program(), args=arguments)
        yield started
        started.close()
