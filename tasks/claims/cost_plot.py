"""Error over cost: the plot of a claim whose arms differ in both."""

import statistics
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from tasks.claims.record import arms_of, values_of
from tasks.claims.verdict import half_width

COSTS = {"parameters": "parameters", "million_macs": "multiply-adds of an image, millions"}


def draw(claim: Mapping[str, Any]) -> Figure:
    """The test error of each arm over its parameters, and over its operations: the mean with its 95 % interval."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, (cost, label) in zip(figure.subplots(1, 2, sharey=True), COSTS.items(), strict=True):
        for number, arm in enumerate(arms_of(claim)):
            errors = values_of(claim, arm, "test_error")
            at, middle = statistics.fmean(values_of(claim, arm, cost)), statistics.fmean(errors)
            axes.errorbar(at, middle, half_width(errors), color=f"C{number}", marker="o", capsize=4)
            axes.annotate(arm.replace("_", " "), (at, middle), xytext=(6, 6), textcoords="offset points", fontsize=9)
        axes.margins(x=0.2, y=0.15)
        axes.set(xlabel=label, xlim=(0, None))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("test error, %")
    return figure
