"""TensorBoard on a real run, as a user sees it: the pages in headless Chromium show what the run left.

With SCREENSHOTS=FOLDER in the environment the pages are kept there as pictures.
"""

import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import PATIENCE, chromium, needs_chromium, new_page, screenshot
from playwright.sync_api import Browser

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def tensorboard(trained: Path) -> Iterator[str]:
    """The address of a TensorBoard over the folder of a finished run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(trained.parents[3]), "--port", str(port)]
    server = subprocess.Popen([*command, "--load_fast=false"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield wait_for(f"http://127.0.0.1:{port}/", "data/runs", "lenet")
    finally:
        server.terminate()
        server.wait()


def wait_for(address: str, path: str, text: str) -> str:
    """Returns the address as soon as its answer at `path` holds `text`."""
    end = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < end:
        try:
            if text in urllib.request.urlopen(address + path, timeout=10).read().decode():
                return address
        except OSError:
            pass
        time.sleep(0.3)
    raise AssertionError(f"{address}{path} never showed {text}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


# the tab, and what a user must find on it
TABS = {
    "scalars": ("train/loss", "val/accuracy"),
    "images": ("val/confusion matrix", "val/worst mistakes"),
    "graphs": ("net",),
    "hparams": ("val/accuracy", "data/batch_size"),
    "pr_curves": ("val/precision and recall of 0",),
    "projector": (),  # draws on a canvas, without words
}
ANSWERS = {"projector": "projector/sprite_image"}  # the thumbnails, the last thing that it asks for
CLOSED = {"scalars": ("train", "val")}  # groups to open


@pytest.mark.parametrize("tab", TABS)
def test_dashboard_shows_what_the_run_left(tab: str, tensorboard: str, browser: Browser) -> None:
    outside: list[str] = []
    with new_page(browser, outside) as page:
        try:
            with page.expect_response(
                lambda answer: ANSWERS.get(tab, "data/") in answer.url and answer.ok, timeout=PATIENCE
            ):
                page.goto(f"{tensorboard}#{tab}", timeout=PATIENCE)
            for group in CLOSED.get(tab, ()):
                page.get_by_text(group, exact=True).first.click(timeout=PATIENCE)
            for text in TABS[tab]:
                page.get_by_text(re.compile(re.escape(text))).first.wait_for(state="attached", timeout=PATIENCE)
            page.wait_for_timeout(1500)  # what is drawn comes after its title
        finally:
            screenshot(page, tab)
    assert outside == []
