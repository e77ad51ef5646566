"""The plot beside the leaderboard: accuracy, or a GAN's score, over the cost of one image."""

import textwrap
from collections.abc import Sequence
from itertools import product, zip_longest
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tasks.tables import Row, one_line

MAX_COLUMNS = 3  # of panels
LONGEST_NAME = 70  # characters in a line of a legend
COST = "million multiply-adds per image (the area of a dot: parameters)"
NEAR = 0.03  # of the panel, within which dots share a label


class Measure(NamedTuple):
    """What a panel has for height."""

    key: str
    label: str
    unit: float = 1
    highest: float | None = None  # no value lies above


TRAINED = (
    Measure("accuracy", "accuracy (%)", 0.01, highest=100),
    Measure("fid", "FID (lower is better)"),
    Measure("modes", "modes"),
)
UNTRAINED = (Measure("parameters", "million parameters", 1e6),)


def draw(rows: Sequence[Row]) -> Figure:
    """Plots rows over the cost of one image: a panel per data set and measure, a numbered dot per row.

    The area of a dot grows with the parameters. Nets that were not trained have their parameters for height. Rows that
    lack what a panel has for height are left out of it.

    Args:
        rows: of the leaderboard, each with `macs`.
    """
    trained = [row for row in rows if row["seconds"] is not None and any(row[m.key] is not None for m in TRAINED)]
    measures, rows = (TRAINED, trained) if trained else (UNTRAINED, rows)
    panels = [
        (data, measure, chosen)
        for data, measure in product(sorted({row["data"] for row in rows}), measures)
        if (chosen := [row for row in rows if row["data"] == data and row[measure.key] is not None])
    ]
    if not panels:
        figure = Figure(figsize=(6, 1))
        figure.text(0.5, 0.5, "Nothing to draw: no run has a score or its number of parameters.", ha="center")
        return figure
    columns = min(MAX_COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    longest = max(sum(1 + wrap(name(row, measure)).count("\n") for row in chosen) for _, measure, chosen in panels)
    figure = Figure(figsize=(1 + 6 * columns, lines * (4.5 + 0.19 * longest)), layout="constrained")
    places = figure.subplots(lines, columns, squeeze=False).flat
    for axes, panel in zip_longest(places, panels):
        if panel is None:
            axes.set_axis_off()
        else:
            draw_panel(axes, *panel)
    return figure


def draw_panel(axes: Any, data: str, measure: Measure, rows: Sequence[Row]) -> None:
    """One data set: dots by cost and measure, and below them a legend of their names in the rows' order."""
    points = positions(measure, rows)
    for (x, y), row in zip(points, rows, strict=True):
        if deviation := row.get(f"{measure.key}_sd"):
            axes.errorbar(x, y, yerr=deviation / measure.unit, fmt="none", ecolor="gray", capsize=3)
        area = 20 + min((row["parameters"] or 0) / 2e4, 3_000)
        axes.scatter(x, y, s=area, alpha=0.6, clip_on=False, linewidths=0)
    stages = {row["measured_on"] for row in rows} if measure in TRAINED else set()
    some = "" if len(stages) == 1 else "some: "
    title = one_line(data)
    axes.set_title(f"{title} ({some}validation images)" if "validation" in stages else title, parse_math=False)
    heights = [y for _, y in points]
    yscale = "log" if min(heights) > 0 and max(heights) > 10 * min(heights) else "linear"
    axes.set(xscale="log", yscale=yscale, xlabel=COST, ylabel=measure.label)
    if have_one_cost(rows):
        cost = f"number of the row, all of {max(rows[0]['macs'], 1) / 1e6:.3g} million multiply-adds per image"
        axes.set(xscale="linear", xticks=range(1, len(rows) + 1), xlabel=cost)
    axes.margins(x=0.15, y=0.12)
    if measure.highest is not None:
        axes.set_ylim(top=min(axes.get_ylim()[1], measure.highest))
    axes.grid(alpha=0.3)
    names = [f"{number}  {wrap(name(row, measure))}" for number, row in enumerate(rows, start=1)]
    handles = [Line2D([], [], linestyle="none") for _ in names]
    legend = axes.legend(
        handles, names, loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize=8, frameon=False, handlelength=0
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # an override may hold dollar signs
    number_dots(axes, points)


def have_one_cost(rows: Sequence[Row]) -> bool:
    """Whether several rows differ in something else than the cost of an image: their dots would lie on one line."""
    return len({row["macs"] for row in rows}) == 1 < len(rows)


def positions(measure: Measure, rows: Sequence[Row]) -> list[tuple[float, float]]:
    """The place of each row's dot: its cost, or its number where all have one cost, and its measure."""
    costs = range(1, len(rows) + 1) if have_one_cost(rows) else [max(row["macs"], 1) / 1e6 for row in rows]
    return [(cost, row[measure.key] / measure.unit) for cost, row in zip(costs, rows, strict=True)]


def name(row: Row, measure: Measure) -> str:
    parts = [row["model"], row["changes"]]
    if measure in UNTRAINED and row["accuracy"] is not None:
        parts.append(f"{100 * row['accuracy']:.2f} %")
    return " ".join(filter(None, parts))


def wrap(text: str) -> str:
    """A name in as many lines as it needs: rows differ at its end.

    >>> wrap("lenet " + "x" * 66)
    'lenet\\n      xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'
    """
    return textwrap.fill(one_line(text), LONGEST_NAME, subsequent_indent=" " * 6, break_long_words=False)


def number_dots(axes: Any, points: Sequence[tuple[float, float]]) -> None:
    """Writes the number of each dot beside it; dots near each other share a label."""
    labels: list[tuple[Any, tuple[float, float], list[str]]] = []
    for number, point in enumerate(points, start=1):
        place = axes.transLimits.transform(axes.transScale.transform(point))  # (0, 0) to (1, 1)
        shared = next((numbers for other, _, numbers in labels if abs(place - other).max() < NEAR), None)
        if shared is None:
            labels.append((place, point, [str(number)]))
        else:
            shared.append(str(number))
    for _, point, numbers in labels:
        axes.annotate(", ".join(numbers), point, (6, 3), textcoords="offset points", fontsize=8)
