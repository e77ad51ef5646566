"""Error over cost: the plot of a claim whose arms differ in both."""

import statistics
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from tasks.claims.record import arms_of, values_of
from tasks.claims.verdict import half_width

COSTS = {"parameters": "parameters", "million_macs": "multiply-adds of an image, millions"}
MARKERS = "os^Dv"  # arms of the same cost lie at the same place


def draw(claim: Mapping[str, Any]) -> Figure:
    """The test error of each arm over its parameters, and over its operations: the mean with its 95 % interval."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, (cost, label) in zip(figure.subplots(1, 2, sharey=True), COSTS.items(), strict=True):
        for number, arm in enumerate(arms_of(claim)):
            errors = values_of(claim, arm, "test_error")
            at, middle = statistics.fmean(values_of(claim, arm, cost)), statistics.fmean(errors)
            style = {"color": f"C{number}", "marker": MARKERS[number % len(MARKERS)], "capsize": 4}
            axes.errorbar(at, middle, half_width(errors), label=arm.replace("_", " "), **style)
        axes.margins(x=0.1, y=0.1)
        axes.set(xlabel=label)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("test error, %")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    return figure
