"""Every target of the Makefile, in a copy of the project and with this environment's programs."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from command_line import only_run, results_of
from conftest import ROOT
from documents import README, copy_project

BIN = f"BIN={Path(sys.executable).parent}"  # the environment is not set up again
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
PATIENCE = 120  # seconds: both cores may be busy with other tests


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project whose environment counts as installed."""
    project = copy_project(tmp_path_factory.mktemp("make") / "project")
    (project / ".venv").mkdir()
    (project / ".venv" / "installed").touch()
    return project


def make(project: Path, *arguments: str) -> str:
    command = ["make", BIN, *arguments]
    outcome = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, env=environment())
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


def environment() -> dict[str, str]:
    """This process's, without what `make test` gives to the `make` that it starts."""
    return {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "ARGS")}


def test_every_target_is_tested_here() -> None:
    assert {"run", "test", "test-all", "lint", "fetch", "tensorboard", "clean", "help"} == TARGETS
    assert {*re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[0].split()} == TARGETS


def test_make_help_lists_every_target_with_what_it_does(project: Path) -> None:
    lines = dict(line.split("\t") for line in make(project, "help").splitlines())
    assert lines.keys() == {f"make {target}" for target in TARGETS}
    assert all(len(text) > 10 for text in lines.values())


def test_targets_that_the_documents_name_exist() -> None:
    for file in (README, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        assert set(
            re.findall(r"`make ([\w-]+)|^make ([\w-]+)|\(or: make ([\w-]+)\)", file.read_text(), re.MULTILINE)
        ) <= {match for target in TARGETS for match in ((target, "", ""), ("", target, ""), ("", "", target))}


@pytest.mark.extended
def test_make_run_trains(project: Path) -> None:
    make(project, "run", "ARGS=trainer.max_epochs=1 data.train_images_per_class=5 trainer.accelerator=cpu")
    assert results_of(only_run(project / "outputs"))["status"] == "finished"


def test_make_fetch_leaves_files_that_are_there(project: Path) -> None:
    for name in ("mnist", "fashion_mnist"):
        (project / "data" / name).mkdir(parents=True)
        (project / "data" / name / "train-images-idx3-ubyte").write_text("of a person")
    command = ["make", BIN, "fetch"]
    without = {name: value for name, value in environment().items() if name != "DATA_ROOT"}
    outcome = subprocess.run(command, cwd=project, env=without, capture_output=True, text=True, check=True)
    assert "task=fetch" not in outcome.stdout
    assert [file.name for file in (project / "data" / "mnist").iterdir()] == ["train-images-idx3-ubyte"]


def test_make_tensorboard_answers(project: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["make", BIN, "tensorboard", f"ARGS=--port {port} --load_fast=false"]
    server = subprocess.Popen(
        command,
        cwd=project,
        env=environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and server.poll() is None:
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).read().decode()
                break
            except OSError:
                time.sleep(0.3)
        else:
            raise AssertionError(f"TensorBoard did not answer, status {server.poll()}")
        assert "TensorBoard" in page
    finally:
        os.killpg(server.pid, 15)
        server.communicate()


@pytest.mark.slow
def test_make_test_runs_all_checks(project: Path) -> None:
    assert "passed" in make(project, "test", "ARGS=tests/test_vgg.py")


def test_make_clean_leaves_results_and_data(project: Path) -> None:
    for folder in ("outputs", "data", "build", "tests/__pycache__"):
        (project / folder).mkdir(exist_ok=True)
    make(project, "clean")
    assert (project / "outputs").is_dir()
    assert (project / "data").is_dir()
    assert not any((project / name).exists() for name in (".venv", "build", "tests/__pycache__"))
    assert (project / "run.py").is_file()
