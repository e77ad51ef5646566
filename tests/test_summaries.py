"""A sweep of task=summarize ends in one table, with the accuracy of runs that are there."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import run_well

from tasks.summarize import known_accuracy


def finished_run(folder: str, results: dict[str, Any]) -> None:
    run = Path(folder)
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra/overrides.yaml").touch()
    (run / "results.json").write_text(json.dumps(results))


def test_accuracy_of_the_best_run_is_known_also_where_a_low_loss_is_best() -> None:
    net = {"model": "lenet", "data": "mnist_5k", "parameters": 61_706, "macs": 416_520}
    run = {"status": "finished", "task": "train", "folder": "there", "overrides": [], **net}
    for name, loss, accuracy in (("good", 0.05, 0.99), ("bad", 0.5, 0.85)):
        objective = {"val/loss": loss, "objective": loss}
        finished_run(f"outputs/{name}", run | objective | {"test/accuracy": accuracy})
    assert known_accuracy(Path("outputs"), net) == ({"test/accuracy": 0.99}, "outputs/good")


@pytest.mark.extended
def test_summaries_of_a_sweep_end_in_one_table_with_the_accuracy_that_is_known() -> None:
    lenet = {"status": "finished", "task": "train", "model": "lenet", "data": "mnist_5k", "folder": "there", "seed": 0}
    lenet |= {"parameters": 61_706, "macs": 416_520, "overrides": []}
    finished_run("outputs/a", lenet | {"objective": 0.97, "test/accuracy": 0.9612})
    finished_run("outputs/b", lenet | {"objective": 0.96, "test/accuracy": 0.9734})  # better only on the test images
    finished_run("outputs/c", lenet | {"objective": 0.99, "test/accuracy": 0.9856, "macs": 1})  # another LeNet
    run_well("-m", "task=summarize", "model=lenet,gan,resnet", "data=mnist_5k")
    [sweep] = Path("outputs/sweeps").iterdir()
    assert (sweep / "leaderboard.png").stat().st_size > 1000
    lines = (sweep / "leaderboard.md").read_text().splitlines()
    assert [line.rsplit("|", 2)[0] + "|" for line in lines] == [  # without the folder
        "| model | data | parameters | MACs | accuracy (%) | seeds |",
        "|---|---|---|---|---|---|",
        "| lenet | mnist_5k | 61.7 k | 417 k | 96.12 | 1 |",
        "| gan | mnist_5k | 3.7 M | 3.7 M |  | 1 |",
        "| resnet | mnist_5k | 269 k | 30.8 M |  | 1 |",
    ]


def test_parameters_are_those_that_a_run_learns_without_their_average() -> None:
    small = ("model=gan", "model.network.width=0.1", "data=mnist_5k")
    run_well("task=summarize", *small)
    run_well("task=summarize", *small, "model.ema_decay=0.9", "name=averaged")
    plain, averaged = (json.loads(path.read_text()) for path in sorted(Path("outputs").rglob("results.json")))
    assert plain["parameters"] == averaged["parameters"] > 0
