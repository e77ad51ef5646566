"""Measures of a trained run that claims share; each returns numbers by name (see `tasks.claims.claim`)."""

import statistics

import torch
from torch import Tensor

from datamodules.contract import Count
from tasks.claims.claim import MeasuredRun
from tasks.runs_compare import Curve


def test_error(run: MeasuredRun) -> dict[str, float]:
    """`test_error`: per cent of the test images that are wrong; of validation images where a set has no others."""
    return {"test_error": 100 * (1 - tested_accuracy(run))}


def tested_accuracy(run: MeasuredRun) -> float:
    return run.results.get("test/accuracy", run.results.get("val/accuracy"))


def generalization_gap(run: MeasuredRun, images: Count = 10_000) -> dict[str, float]:
    """`train_error`: per cent of training images that are wrong; `gap`: the test error minus it, in points.

    The training images are as they are, without augmentation, and the net is in evaluation mode.

    Args:
        run: of a classifier.
        images: the first so many of the training images.
    """
    net, data = run.trained
    split = data.train_split
    assert split is not None
    train = accuracy(net, run, split.images[:images], split.labels[:images])
    error = 100 * (1 - train)
    return {"train_error": error, "gap": 100 * (train - tested_accuracy(run))}


def steps_to_level(run: MeasuredRun, curve: str, level: float, falling: bool = False) -> dict[str, float]:
    """`steps`: the first step at which a logged curve reaches a level; `steps_reached`: whether it does, 1 or 0.

    A run that never reaches it has its last step, of which `tasks.claims.verdict` knows that the true one is larger.

    Args:
        run: any.
        curve: the name of a logged metric.
        level: that it should reach.
        falling: the curve should fall to the level, not rise.
    """
    step, reached = first_step(run.curve(curve), level, falling)
    return {"steps": step, "steps_reached": float(reached)}


def first_step(curve: Curve, level: float, falling: bool = False) -> tuple[float, bool]:
    """
    >>> first_step([(10, 0.2), (20, 0.8), (30, 0.7)], 0.75), first_step([(10, 0.2)], 0.75)
    ((20, True), (10, False))
    """
    for step, value in curve:
        if value <= level if falling else value >= level:
            return step, True
    return curve[-1][0], False


def last_of_curve(run: MeasuredRun, curve: str, points: Count = 5) -> dict[str, float]:
    """The mean of the last points of a logged curve, under the curve's name with `_` for `/`."""
    values = [value for _, value in run.curve(curve)[-points:]]
    return {curve.replace("/", "_"): statistics.fmean(values)}


def cost(run: MeasuredRun) -> dict[str, float]:
    """`parameters`, `million_macs` (multiply-adds of an image), `seconds` of training: processor time on a CPU."""
    results = run.results
    on_cpu = results["device"].startswith("cpu")  # where other programs may run beside
    return {
        "parameters": results["parameters"],
        "million_macs": results["macs"] / 1e6,
        "seconds": results["cpu_seconds" if on_cpu else "seconds"],
    }


@torch.inference_mode()
def accuracy(net: torch.nn.Module, run: MeasuredRun, images: Tensor, labels: Tensor, batch: Count = 500) -> float:
    """The share of stored images (N, C, H, W), uint8, that a classifier gets right."""
    _, data = run.trained
    correct = 0
    for chosen, wanted in zip(images.split(batch), labels.split(batch), strict=True):
        correct += int((net(data.transform(chosen)).argmax(1) == wanted).sum())
    return correct / len(labels)
