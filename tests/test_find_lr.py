"""task=find_lr: a range test, and the command that trains with its suggestion."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL, results_of, run, run_well
from conftest import compose


@pytest.mark.extended
def test_suggestion_is_within_the_range_and_its_command_composes() -> None:
    out = run_well("task=find_lr", "task.steps=40", "model=lenet", *SMALL).out
    [plot] = Path().rglob("find_lr.png")
    suggestion = results_of(plot.parent)["suggestion"]
    assert 1e-6 < suggestion < 1
    [command] = re.findall(r"python run.py (.+)", out)
    cfg = compose(*command.split())
    assert cfg.model.optimizer.lr == pytest.approx(suggestion, rel=0.05)
    assert cfg.model.lr_scheduler.max_lr == cfg.model.optimizer.lr
    assert cfg.task._target_ == "tasks.train.train"


@pytest.mark.extended
def test_losses_begin_with_those_of_an_untrained_net_and_the_suggestion_is_their_steepest_place() -> None:
    run_well("task=find_lr", "model=lenet", "data=mnist_5k", "trainer.accelerator=cpu")
    [table] = Path().rglob("find_lr.csv")
    rates, losses = np.loadtxt(table, delimiter=",", skiprows=1).T
    assert losses[:30] == pytest.approx(math.log(10), abs=0.05)
    slopes = np.diff(losses) / np.diff(np.log(rates))
    assert results_of(table.parent)["suggestion"] == pytest.approx(rates[slopes.argmin()], rel=0.35)


@pytest.mark.parametrize("arguments", [("model=gan",), ("model=esn",), ("model=lenet", "task.min_lr=2")])
def test_what_cannot_be_tested_is_refused_in_one_line(arguments: tuple[str, ...]) -> None:
    outcome = run("task=find_lr", *arguments, *SMALL)
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1
    assert not list(Path().rglob("find_lr.*"))
