"""The table over finished runs, and what it says of those that did not finish."""

import csv
from pathlib import Path

from command_line import PLAIN, run, run_well

from tasks.leaderboard import cells, summary


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "leaderboard.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_leaderboard_task_collects_every_finished_run_below_a_folder() -> None:
    small = (*PLAIN, "~callbacks.progress_bar", "trainer.max_epochs=1")
    run_well(*small)
    run_well(*small, "seed=1")
    run_well(*small, "model.optimizer.lr=0.01")
    outcome = run_well("task=leaderboard")
    (folder,) = Path("outputs/leaderboard").iterdir()
    table = rows(folder)
    assert sorted((row["changes"], row["seeds"]) for row in table) == [("", "2"), ("model.optimizer.lr=0.01", "1")]
    assert "61.7 k" in outcome.out


def test_run_that_was_killed_is_listed_as_such() -> None:
    run_well(*PLAIN, "~callbacks.progress_bar", "trainer.max_epochs=1")
    (results,) = Path("outputs").rglob("results.json")
    results.unlink()
    outcome = run("task=leaderboard")
    assert "no results.json: still running, or killed" in outcome.out


def test_sweep_with_an_unknown_model_leaves_nothing_behind() -> None:
    outcome = run("-m", "model=lenet,nope")
    assert outcome.status == 2
    assert outcome.err.startswith("Error: model=nope is unknown: choose one of alexnet, ")
    assert not list(Path("outputs/sweeps").iterdir())


def test_a_gans_row_shows_its_fid_beside_the_floor() -> None:
    records = [{"seed": seed, "test/fid": fid, "test/fid_floor": 2.7} for seed, fid in enumerate((12.0, 14.0))]
    assert "13 +- 1.414 / 2.7" in cells(summary(("gan", "mnist", "", "cpu"), records))
    validated = {"seed": 0, "val/fid": 12.0, "val/fid_floor": 2.7}
    assert "12 / 2.7 (val)" in cells(summary(("gan", "mnist_5k", "", "cpu"), [validated]))
