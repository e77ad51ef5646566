"""experiment=search_lr: a search by Optuna names its best run and, when stopped, comes to the same trials again."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from command_line import PLAIN, results_of, run, run_well
from conftest import compose

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="pip install hydra-optuna-sweeper")
pytestmark = pytest.mark.filterwarnings("ignore")  # Optuna 2 uses what its own libraries will give up

SEARCH = ("experiment=search_lr", "model=lenet", *PLAIN, "trainer.max_epochs=2")
TRIALS = ("hydra.sweeper.n_trials=4", "hydra.sweeper.sampler.n_startup_trials=2")  # the others depend on results


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a search, and what it said."""
    place = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        out = run_well(*SEARCH, *TRIALS).out
    [folder] = (place / "outputs" / "sweeps").iterdir()
    return folder, out


def jobs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def test_search_ends_with_the_best_run_and_the_command_that_repeats_it(search: tuple[Path, str]) -> None:
    folder, out = search
    best = max(jobs(folder), key=lambda job: results_of(job)["objective"])
    [place] = re.findall(r"^its run +(\S+)$", out, re.MULTILINE)
    assert Path(place).name == best.name
    [command] = re.findall(r"^to repeat +python run.py (.+)$", out, re.MULTILINE)
    repeated = compose(*shlex.split(command))
    assert f"model.optimizer.lr={repeated.model.optimizer.lr}" in results_of(best)["overrides"]
    assert (repeated.choices.experiment, repeated.trainer.max_epochs) == (None, 2)


def test_stopped_search_comes_to_the_same_trials(search: tuple[Path, str]) -> None:
    copy = Path("again").absolute()
    shutil.copytree(search[0], copy)
    for job in jobs(copy)[2:]:
        shutil.rmtree(job)
    first = [(job / "results.json").read_bytes() for job in jobs(copy)]
    out = run_well(*SEARCH, *TRIALS, f"hydra.sweep.dir={copy}").out
    assert "2 of its jobs have finished" in out
    assert [(job / "results.json").read_bytes() for job in jobs(copy)[:2]] == first
    assert [job.name for job in jobs(copy)] == [job.name for job in jobs(search[0])]
    assert out.splitlines()[-1] == search[1].splitlines()[-1]


@pytest.mark.parametrize(
    ("mistake", "key"),
    [
        ("model=gan", "callbacks.checkpoint.monitor"),
        ("hydra.sweeper.direction=minimize", "hydra.sweeper.direction"),
        ("callbacks.checkpoint.mode=min", "hydra.sweeper.direction"),
    ],
)
def test_search_for_nothing_or_for_the_worst_is_refused(mistake: str, key: str) -> None:
    outcome = run(*SEARCH, mistake)
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome.err
    assert key in outcome.err
    assert not [path for path in Path().rglob("*") if path.is_file()]
