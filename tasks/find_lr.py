"""task=find_lr: L. N. Smith's range test, "Cyclical Learning Rates for Training Neural Networks", 2017, section 3.3."""

import io
import math
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stderr
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from lightning.pytorch.tuner import Tuner
from matplotlib.figure import Figure
from omegaconf import DictConfig
from pydantic import Field

from datamodules.contract import Positive
from tasks.budget import check_length_is_its_own
from tasks.build import build, describe
from tasks.config import ConfigError
from tasks.folders import short
from tasks.messages import command
from tasks.plots import save_plot
from tasks.results import atomic_writer
from tasks.tables import Column, Table, one_line
from tasks.train import warm_start

AVERAGED = 0.98  # of the losses so far, in Lightning's running average


def find_lr(
    cfg: DictConfig, folder: Path, min_lr: Positive, max_lr: Positive, steps: Annotated[int, Field(ge=20)]
) -> dict[str, Any]:
    """Trains with a learning rate that grows with each batch, and suggests the one at which the loss falls fastest.

    Draws the loss over the rate as find_lr.png, writes both as find_lr.csv, and prints the command that trains with the
    suggestion. The training is Lightning's; its loss is a running average.

    Args:
        cfg: the config of the run.
        folder: the run's own.
        min_lr: the first rate.
        max_lr: the last one; the test ends earlier where the loss is four times its best.
        steps: batches.

    Raises:
        ValueError: the model is not trained by one optimizer, or the rates are in the wrong order.
    """
    if min_lr >= max_lr:
        raise ConfigError("task.max_lr", f"must be above task.min_lr={min_lr}", max_lr)
    if cfg.ckpt_path is not None:
        raise ConfigError(
            "ckpt_path", "task=find_lr begins a training: take the weights with init_from=", cfg.ckpt_path
        )
    check_length_is_its_own(cfg, "find_lr")
    length = {"max_epochs": -1, "max_steps": steps}  # steps in as many epochs as they need
    quiet = {"logger": None, "enable_checkpointing": False, "enable_progress_bar": False}
    model, datamodule, trainer = build(
        DictConfig({**cfg, "callbacks": {}, "trainer": {**cfg.trainer, **quiet, **length}}), folder
    )
    if not model.automatic_optimization:
        raise ValueError(f"task=find_lr: a {type(model).__name__} is not trained by one optimizer")
    datamodule.prepare_data()
    datamodule.setup("fit")
    facts = describe(model, datamodule, trainer)
    if cfg.init_from is not None:
        print(warm_start(model, cfg.init_from))
    with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):  # its bar is for a terminal
        finder = Tuner(trainer).lr_find(
            model, datamodule=datamodule, min_lr=min_lr, max_lr=max_lr, num_training=steps, update_attr=False
        )
    assert finder is not None
    rates, losses = finder.results["lr"], unbiased(finder.results["loss"])
    suggestion = steepest(rates, losses)
    if suggestion is None:
        raise ValueError(
            "task=find_lr: the loss fell nowhere, or was not finite within a few steps: use a smaller task.min_lr"
        )
    rows = [{"lr": rate, "loss": loss} for rate, loss in zip(rates, losses, strict=True)]
    with atomic_writer(folder / "find_lr.csv") as file:
        file.write(Table([Column("lr"), Column("loss")], rows).to_csv())
    save_plot(draw(rates, losses, suggestion), folder / "find_lr.png")
    rate = cfg.model.optimizer.get("lr")  # one cycle follows it, unless its own rate was given
    is_followed = (cfg.model.get("lr_scheduler") or {}).get("max_lr", rate) == rate
    key = "model.optimizer.lr" if is_followed else "model.lr_scheduler.max_lr"
    others = [text for text in cfg.overrides if not text.startswith(("task=", "task.", f"{key}="))]
    print(f"suggestion   {suggestion:.2g}, where the running average of the loss falls fastest")
    print(f"to train     {command(*others, f'{key}={suggestion:.2g}')}")
    print(f"written      {one_line(short(folder))}/find_lr.png and find_lr.csv")
    return facts | {"suggestion": suggestion}


def unbiased(averages: Sequence[float]) -> list[float]:
    """Running averages of a loss as Lightning has them, which divides by the weight of one step more than there were.

    >>> unbiased([1 - 0.98, 1 - 0.98**2] / np.array([1 - 0.98**2, 1 - 0.98**3]))  # of two losses of 1
    [1.0, 1.0]
    """
    steps = np.arange(1, len(averages) + 1)
    found: list[float] = (np.array(averages) * (1 - AVERAGED ** (steps + 1)) / (1 - AVERAGED**steps)).tolist()
    return found


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """The rate at which the loss falls fastest over the rate's logarithm; None where it falls nowhere.

    >>> steepest([1e-4, 1e-3, 1e-2, 1e-1, 1.0], [2.3, 2.3, 1.8, 0.9, 3.0])
    0.01
    """
    finite = [(rate, loss) for rate, loss in zip(rates, losses, strict=True) if math.isfinite(loss)]
    if len(finite) < 3:
        return None
    slopes = np.gradient([loss for _, loss in finite], np.log([rate for rate, _ in finite]))
    place = int(slopes.argmin())
    return finite[place][0] if slopes[place] < 0 else None


def draw(rates: list[float], losses: list[float], suggestion: float) -> Figure:
    """The loss over the learning rate, with the suggestion."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses)
    axes.axvline(suggestion, color="tab:red", linestyle="--", label=f"steepest at {suggestion:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, running average")
    axes.legend()
    return figure
