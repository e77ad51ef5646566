"""Debian's Chromium without a window, driven by playwright; nothing it is shown may ask another machine."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, sync_playwright

CHROMIUM = shutil.which("chromium")
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-extensions", "--no-first-run", "--disable-domain-reliability"),
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")


@contextmanager
def page(outside: list[str]) -> Iterator[Page]:
    """An empty page; every request that leaves this machine is stopped and added to `outside`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)

        def note(request: Request) -> None:
            if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
                outside.append(request.url)

        page.on("request", note)
        try:
            yield page
        finally:
            browser.close()


def screenshot(page: Page, name: str) -> None:
    """Keeps a picture of the page in the folder that SCREENSHOTS names, if it names one."""
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")
