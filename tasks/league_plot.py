"""The plots of docs/league.md: what each net reached over the seconds of its training."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from tasks.league import BF16, FID_CURVE, GENERATED, LEAGUE, MODES_CURVE, SETS, budget_of, has_curve
from tasks.plots import label_points
from tasks.published_runs import Group, is_on_gpu
from tasks.run_records import Record
from tasks.tables import Row

MARKERS = "osv^Dx*P+<"


def draw_plots(groups: Sequence[Group], rows: Sequence[Row]) -> dict[str, Figure]:
    """The plots of the page, by their files' names."""
    figures = {}
    on_real_images = [row for row in rows if row["accuracy"] is not None and row["data"] != GENERATED]
    if classifiers := [row for row in on_real_images if not row["gpu"]]:  # whose seconds are no core seconds
        figures["league_accuracy.png"] = draw_accuracy(classifiers)
    on_cpu = sorted((group for group in groups if not is_on_gpu(group.runs[0])), key=lambda group: place_of(group.data))
    if curves := [group for group in on_cpu if has_curve(group, FID_CURVE)]:
        figures["league_fid.png"] = draw_fid(curves)
    if curves := [group for group in on_cpu if has_curve(group, MODES_CURVE)]:
        figures["league_modes.png"] = draw_modes(curves)
    return figures


def place_of(data: str) -> tuple[int, str]:
    """Where a data set stands in the page's order, in which the official ones are the first."""
    return [*SETS].index(data) if data in SETS else len(SETS), data


def short_name(row: Row) -> str:
    """The net of a row without its arguments, or the experiment that is not of the league."""
    names = {LEAGUE: row["net"].split(" (")[0], BF16: f"{row['model']} in bfloat16"}
    return str(names.get(budget_of(row), row["experiment"]))


def draw_accuracy(rows: Sequence[Row]) -> Figure:
    """Test error of each net with its deviation over the seconds of training, a panel per data set."""
    sets = sorted({row["data"] for row in rows}, key=place_of)
    names = dict.fromkeys(map(short_name, rows))
    colors = {name: colormaps["tab20"](number % 20) for number, name in enumerate(names)}
    figure = Figure(figsize=(6.5 * len(sets), 5), layout="constrained")
    for axes, data in zip(figure.subplots(1, len(sets), squeeze=False).flat, sets, strict=True):
        for row in (row for row in rows if row["data"] == data):
            spread = 100 * (row["accuracy_sd"] or 0.0)
            axes.errorbar(*cost_and_error(row), spread, marker="o", capsize=3, color=colors[short_name(row)])
        axes.set(yscale="log", xlabel="core seconds of training", ylabel="test error (%)")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:.3g}")
        axes.set_title(SETS.get(data, data))
        axes.margins(x=0.2, y=0.2)
        axes.set_xlim(0, 1.25 * axes.get_xlim()[1])
        axes.grid(alpha=0.3, which="both")
    figure.draw_without_rendering()
    for axes, data in zip(figure.axes, sets, strict=True):
        shown = [row for row in rows if row["data"] == data]
        spreads = [100 * (row["accuracy_sd"] or 0.0) for row in shown]
        label_points(axes, [*map(cost_and_error, shown)], [*map(short_name, shown)], spreads)
    return figure


def cost_and_error(row: Row) -> tuple[float, float]:
    """Core seconds of training and test error in percent, where a row lies in the plot."""
    return row["cpu_seconds"] or row["seconds"], 100 * (1 - row["accuracy"])


def draw_fid(groups: Sequence[Group]) -> Figure:
    """FID over the seconds of training: a line per GAN and seed, dashed if it has classes, a panel per data set."""
    looks = looks_of(groups, FID_CURVE)
    figure, panels = panels_of(groups, lambda group: SETS.get(group.data, group.data))
    for axes, group in panels:
        for run in group.runs:
            style = "--" if "test/gan_test_accuracy" in run else "-"
            axes.plot(*timed_curve(run, FID_CURVE), **looks[group.runs[0]["model"]], linestyle=style)
        axes.set(yscale="log", xlabel="core seconds of training", ylabel="FID, validation images")
        axes.yaxis.set_major_formatter("{x:g}")
    for axes in figure.axes:
        axes.set_xlim(left=0)
    return with_legend(figure, looks)


def draw_modes(groups: Sequence[Group]) -> Figure:
    """Modes over the seconds of training: mean over the seeds in a band of all, a panel per experiment."""
    looks = looks_of(groups, MODES_CURVE)
    figure, panels = panels_of(groups, lambda group: group.experiment)
    for axes, group in panels:
        look = looks[group.runs[0]["model"]]
        curves = [timed_curve(run, MODES_CURVE) for run in group.runs]
        length = min(len(times) for times, _ in curves)
        times, modes = np.array([[times[:length], values[:length]] for times, values in curves]).swapaxes(0, 1)
        axes.fill_between(times.mean(0), modes.min(0), modes.max(0), color=look["color"], alpha=0.1)
        axes.plot(times.mean(0), modes.mean(0), **look)
        axes.set(xscale="log", xlabel="core seconds of training", ylabel="modes")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    return with_legend(figure, looks)


def looks_of(groups: Sequence[Group], curve: str) -> dict[str, dict[str, Any]]:
    """How each model's lines look, the one with the highest end first; not told apart by colour alone."""
    last = {str(group.runs[0]["model"]): max(run["curves"][curve][-1][1] for run in group.runs) for group in groups}
    return {
        name: {"color": f"C{number % 10}", "marker": MARKERS[number % len(MARKERS)], "markersize": 4, "linewidth": 1}
        for number, name in enumerate(sorted(last, key=lambda name: -last[name]))
    }


def panels_of(groups: Sequence[Group], title: Callable[[Group], str]) -> tuple[Figure, list[tuple[Axes, Group]]]:
    """A figure with a panel for each title, and the panel of each group."""
    titles = dict.fromkeys(map(title, groups))
    figure = Figure(figsize=(14.5 if len(titles) > 1 else 8, 5), layout="constrained")
    panels = dict(zip(titles, figure.subplots(1, len(titles), squeeze=False).flat, strict=True))
    for name, axes in panels.items():
        axes.set_title(name)
        axes.grid(alpha=0.3, which="both")
    return figure, [(panels[title(group)], group) for group in groups]


def timed_curve(run: Record, curve: str) -> tuple[list[float], list[float]]:
    """Core seconds of training and values of a run's curve, whose points are equally many epochs apart.

    By steps of a GAN's generator they are not: while WGAN warms up, its critic takes a hundred to one.

    >>> curve = [(5, 1.0), (25, 3.0), (125, 5.0)]
    >>> timed_curve({"curves": {"val/modes": curve}, "cpu_seconds": 30.0}, "val/modes")
    ([10.0, 20.0, 30.0], [1.0, 3.0, 5.0])
    """
    points, total = run["curves"][curve], run.get("cpu_seconds") or run["seconds"]
    return [total * (n + 1) / len(points) for n in range(len(points))], [value for _, value in points]


def with_legend(figure: Figure, looks: Mapping[str, Mapping[str, Any]]) -> Figure:
    lines = [Line2D([], [], **look) for look in looks.values()]
    figure.legend(lines, [*looks], loc="outside right upper", fontsize=8, frameon=False)
    return figure
