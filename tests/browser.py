"""Debian's Chromium without a window, driven by playwright; nothing it is shown may ask another machine."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-domain-reliability"),
    "--enable-unsafe-swiftshader",  # WebGL in software
)
PATIENCE = 60_000  # milliseconds: both cores may be busy with other tests
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def new_page(browser: Browser, outside: list[str]) -> Iterator[Page]:
    """An empty page; the address of every request that leaves this machine is added to `outside`."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(PATIENCE)

    def note(request: Request) -> None:
        if not re.match(r"(https?|ws)://127\.0\.0\.1[:/]|data:|blob:|chrome", request.url):
            outside.append(request.url)

    page.on("request", note)
    try:
        yield page
    finally:
        page.close()


def screenshot(page: Page, name: str) -> None:
    """Keeps a picture of the page in the folder that SCREENSHOTS names, if it names one."""
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")
