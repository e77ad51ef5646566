"""TensorBoard on a run, a sweep of six and a GAN, as a user sees it: the pages in headless Chromium.

With SCREENSHOTS=FOLDER in the environment the pages are kept there as pictures.
"""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import PATIENCE, chromium, needs_chromium, new_page, screenshot
from command_line import PLAIN, SMALL, run_well
from playwright.sync_api import Browser

pytestmark = [needs_chromium, pytest.mark.extended]


@contextmanager
def tensorboard(runs: Path, name: str) -> Iterator[str]:
    """The address of a TensorBoard over a folder of runs, as soon as it has found that of this name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(runs), "--port", str(port)]
    server = subprocess.Popen([*command, "--load_fast=false"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield wait_for(f"http://127.0.0.1:{port}/", "data/runs", name)
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def one_run(trained: Path) -> Iterator[str]:
    """TensorBoard over the folder of a finished run."""
    with tensorboard(trained.parents[3], "lenet") as address:
        yield address


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """TensorBoard over a sweep of six jobs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("sweep"))
        budget = (*PLAIN, "trainer.max_epochs=1", "trainer.log_every_n_steps=2")
        run_well("-m", "model=lenet,recurrent", "model.optimizer.lr=0.001,0.003,0.01", *budget)
        with tensorboard(Path.cwd() / "outputs", "005_") as address:
            yield address


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """TensorBoard over the run of a GAN."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("gan"))
        scores = ("callbacks.evaluation.every_n_epochs=1", "callbacks.evaluation.count=20")
        budget = ("trainer.max_epochs=3", "trainer.log_every_n_steps=5", "callbacks.evaluation.final_count=20")
        run_well("model=gan", "model.network.width=0.1", *SMALL, *budget, *scores)
        with tensorboard(Path.cwd() / "outputs", "gan") as address:
            yield address


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


# the runs and the tab, and what a user must find on it
PAGES = {
    ("one_run", "scalars"): ("train/loss", "val/accuracy"),
    ("one_run", "images"): ("val/confusion matrix", "val/worst mistakes"),
    ("one_run", "graphs"): ("net",),
    ("one_run", "hparams"): ("val/accuracy", "batch_size"),
    ("one_run", "pr_curves"): ("val/precision and recall of 0",),
    ("one_run", "projector"): (),  # draws on a canvas, without words
    ("sweep", "hparams"): ("val/accuracy", "lr", "recurrent", "0.0030000"),
    ("gan", "scalars"): ("train/generator_loss", "val/fid"),
    ("gan", "images"): ("samples/over time", "samples/interpolations between latents"),
    ("gan", "text"): ("real images", "near 0.5"),  # of the table of results
}
ANSWERS = {"projector": "projector/sprite_image"}  # the thumbnails, the last thing that it asks for
CLOSED = {("one_run", "scalars"): ("train", "val")}  # groups to open


@pytest.mark.parametrize(("runs", "tab"), PAGES)
def test_dashboard_shows_what_the_runs_left(
    runs: str, tab: str, request: pytest.FixtureRequest, browser: Browser
) -> None:
    address = request.getfixturevalue(runs)
    outside: list[str] = []
    with new_page(browser, outside) as page:
        try:
            with page.expect_response(
                lambda answer: ANSWERS.get(tab, "data/") in answer.url and answer.ok, timeout=PATIENCE
            ):
                page.goto(f"{address}#{tab}", timeout=PATIENCE)
            for group in CLOSED.get((runs, tab), ()):
                page.get_by_text(group, exact=True).first.click(timeout=PATIENCE)
            for text in PAGES[runs, tab]:
                page.get_by_text(re.compile(re.escape(text))).first.wait_for(state="attached", timeout=PATIENCE)
            page.wait_for_timeout(1500)  # what is drawn comes after its title
        finally:
            screenshot(page, f"{runs}_{tab}")
    assert outside == []


def test_groups_of_charts_begin_with_those_of_training_and_floors_are_not_charts(gan: str) -> None:
    tags = json.loads(urllib.request.urlopen(f"{gan}data/plugin/scalars/tags", timeout=30).read())
    (names,) = tags.values()
    assert list(dict.fromkeys(name.split("/")[0] for name in sorted(names))) == ["train", "val", "watch"]
    assert not any(name.endswith("_floor") for name in names)


def test_columns_of_a_sweep_begin_with_what_differs(sweep: str) -> None:
    ask = urllib.request.Request(f"{sweep}data/plugin/hparams/experiment", b"{}", {"Content-Type": "application/json"})
    experiment = json.loads(urllib.request.urlopen(ask, timeout=30).read())
    columns = [info["name"] for info in experiment["hparamInfos"]]
    assert columns[:2] == ["lr", "model"]
    assert columns[2:] == ["batch_size", "data", "epochs", "optimizer", "seed", "train_images_per_class"]
    metrics = [info["name"]["tag"] for info in experiment["metricInfos"]]
    assert metrics[0] == "val/accuracy"
    assert len(metrics) <= 4
