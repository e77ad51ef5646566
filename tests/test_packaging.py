"""The wheel in an environment of its own: the console command from an empty folder, the imports, a sweep."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from command_line import only_run, results_of
from conftest import CONF
from documents import copy_project

from tasks.published import FILES

pytestmark = pytest.mark.slow  # builds, and starts three processes


def call(*command: str | Path, folder: Path) -> str:
    outcome = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_project(folder / "source")
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source, folder=folder)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment with the wheel, which borrows this one's packages but not this checkout."""
    fresh = tmp_path_factory.mktemp("fresh") / "venv"
    call(sys.executable, "-m", "venv", fresh, folder=fresh.parent)
    [packages] = fresh.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    call(fresh / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, folder=fresh)
    return fresh / "bin"


def test_wheel_holds_every_config_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"conf/{file.relative_to(CONF)}" for file in CONF.rglob("*.yaml")} <= names
    assert {"run.py", "tasks/demo.html", "gan/scores/weights/floors.json", "classic_cnn/py.typed"} <= names
    assert {f"published/lenet_mnist/{name}" for name in FILES} <= names
    assert not {name.split("/")[0] for name in names} & {"tests", "benchmarks", "docs"}
    assert not [name for name in names if name.startswith("published/runs")]  # which a checkout's documents are made of


def test_console_command_trains_from_an_empty_folder(programs: Path, tmp_path: Path) -> None:
    call(programs / "classic-nets", "data=mnist_5k", "trainer.max_epochs=2", folder=tmp_path)
    assert results_of(only_run(tmp_path / "outputs"))["status"] == "finished"


def test_console_command_sweeps(programs: Path, tmp_path: Path) -> None:
    small = ("data=mnist_5k", "data.train_images_per_class=20", "trainer.max_epochs=1")
    call(programs / "classic-nets", "-m", "seed=0,1", *small, folder=tmp_path)
    assert len(list(tmp_path.glob("outputs/sweeps/*/*/results.json"))) == 2


def test_modules_are_imported_from_the_environment(programs: Path, tmp_path: Path) -> None:
    program = "import run, classic_cnn, tasks; print(run.compose('model=vgg').model.depth, run.__file__)"
    depth, file = call(programs / "python", "-c", program, folder=tmp_path).split()
    assert depth == "16"
    assert Path(file).is_relative_to(programs.parent)
